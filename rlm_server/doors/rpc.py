"""pygls with a safe wire: every request gets an answer, and nothing blocks the event loop.

pygls gives dispatch, futures, cancellation and errors. What is overridden here, and why:
parameters are decoded in the handler, so that bad ones are answered with -32602; results are
encoded by msgspec; nested dicts are left alone; tracebacks stay in the server's own log.
"""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import cattrs
import msgspec
from pygls.exceptions import (
    JsonRpcException,
    JsonRpcInternalError,
    JsonRpcInvalidParams,
    JsonRpcInvalidRequest,
    JsonRpcParseError,
)
from pygls.protocol import JsonRPCProtocol
from pygls.server import JsonRPCServer

from rlm_server.doors.wire import Wire
from rlm_server.errors import RlmError
from rlm_server.protocol import ErrorData
from rlm_server.text import to_json

logger = logging.getLogger(__name__)
# pygls logs each failed request with its traceback; what is worth logging is logged here.
logging.getLogger("pygls").setLevel(logging.CRITICAL)

P = TypeVar("P", bound=msgspec.Struct)
Handler = Callable[[P], Awaitable[Any]]

_decoder = msgspec.json.Decoder()


@dataclass
class Then:
    """A handler's result, and what to do as soon as the reply has been sent."""

    result: Any
    action: Callable[[], None]


class Protocol(JsonRPCProtocol):
    """JSON-RPC 2.0 over our wire."""

    wire: Wire

    def receive(self, body: bytes) -> None:
        """Take one message's body and answer it, also where it makes no sense."""
        try:
            message = _decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self.refuse(None, JsonRpcParseError(f"not JSON: {error}"))
            return
        if not isinstance(message, dict) or message.get("jsonrpc") != self.VERSION:
            self.refuse(None, JsonRpcInvalidRequest("not a JSON-RPC 2.0 message"))
            return
        contextvars.copy_context().run(self._dispatch, message)

    def refuse(self, msg_id: Any, error: JsonRpcException) -> None:
        """Answer a message with an error."""
        self._send_response(msg_id, error=error.to_response_error())

    def cancel_all(self) -> None:
        """Cancel what is still being answered."""
        for future in list(self._request_futures.values()):
            future.cancel()

    def event(self, line: bytes) -> None:
        """Send an event of a run, which is JSON already."""
        self.wire.event(line)

    def tell(self, method: str, params: Any) -> None:
        """Send a notification."""
        self.wire.write(
            b'{"jsonrpc":"2.0","method":"%b","params":%b}'
            % (
                method.encode(),
                to_json(params),
            )
        )

    def _dispatch(self, message: dict[str, Any]) -> None:
        msg_id, method, params = message.get("id"), message.get("method"), message.get("params")
        if method is None:
            if "id" not in message or not ("result" in message or "error" in message):
                self.refuse(msg_id, JsonRpcInvalidRequest("a message without a method"))
        elif not isinstance(method, str) or not isinstance(msg_id, str | int | None):
            self.refuse(None, JsonRpcInvalidRequest("method must be a string, id one or a number"))
        elif method == "$/cancelRequest":
            if isinstance(params, dict) and isinstance(params.get("id"), str | int):
                self._handle_cancel_notification(params["id"])
        elif msg_id is None:
            self._handle_notification(method, params)
        elif msg_id in self._request_futures:
            self.refuse(msg_id, JsonRpcInvalidRequest(f"id {msg_id!r} is in use"))
        else:
            self._handle_request(msg_id, method, params)

    def _send_response(self, msg_id: Any, result: Any = None, error: Any = None) -> None:
        then, result = (result, result.result) if isinstance(result, Then) else (None, result)
        if error is None:
            reply: dict[str, Any] = {"result": result}
        else:
            reply = {"error": {"code": error.code, "message": error.message}}
            if isinstance(error.data, ErrorData):
                reply["error"]["data"] = error.data
        self.wire.write(to_json({"jsonrpc": self.VERSION, "id": msg_id, **reply}))
        if then is not None:
            then.action()


class Server(JsonRPCServer):
    """The pygls server of one connection."""

    protocol: Protocol

    def __init__(self, wire: Wire) -> None:
        super().__init__(Protocol, cattrs.Converter)
        self.protocol.wire = wire

    def register(self, method: str, params_type: type[P], handler: Handler[P]) -> None:
        """Answer ``method`` by ``handler``, called with decoded parameters."""

        async def handle(params: Any) -> Any:
            try:
                return await handler(_convert(params, params_type))
            except RlmError as error:
                data = ErrorData(kind=error.kind, cure=error.cure)
                raise JsonRpcException(str(error), code=error.code, data=data) from error
            except JsonRpcException:
                raise
            except Exception as error:
                logger.exception("%s failed", method)
                raise JsonRpcInternalError(f"{type(error).__name__}: {error}") from error

        self.feature(method)(handle)

    def report_server_error(self, error: Exception, source: Any) -> None:
        """Errors have been answered or logged where they occurred."""


def _convert(params: Any, params_type: type[P]) -> P:
    try:
        return msgspec.convert({} if params is None else params, params_type)
    except msgspec.ValidationError as error:
        raise JsonRpcInvalidParams(str(error)) from error
