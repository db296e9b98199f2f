"""Python functions as tools: found, typed by their signature, and called in a thread or awaited."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import sys
import typing
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import msgspec

from rlm_server.config import ToolConfig
from rlm_server.errors import ConfigError, ToolError
from rlm_server.text import one_line
from rlm_server.tools.tool import ToolInfo

DOC = 300
"""Characters of a docstring's first line that the model is shown."""

MESSAGE = 2000
"""Characters of an exception's own message that are told."""


class PythonTool:
    """A function of the user's, in the server's process and with the server's rights."""

    def __init__(self, name: str, config: ToolConfig, executor: Executor) -> None:
        """Import the function; ``executor`` has threads for those that block.

        Raises ConfigError where it can't be found, imported, or typed.
        """
        where = f"[tools.{name}]"
        self._function = _find(config.python, where)
        self._signature, self._types = _typed(self._function, where)
        self._timeout = config.timeout
        self._executor = executor
        doc = config.description or inspect.getdoc(self._function) or ""
        self.info = ToolInfo(
            name=name,
            signature=_shown(self._signature),
            doc=one_line(doc.partition("\n")[0], DOC),
            source=where,
        )

    async def call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """See ``Tool``. A function that blocks can't be stopped: it is only not waited for."""
        bound = self._bind(args, kwargs)
        name = self.info.name
        try:
            async with asyncio.timeout(self._timeout) as timer:
                if inspect.iscoroutinefunction(self._function):
                    return await _awaited(self._function(*bound.args, **bound.kwargs))
                loop = asyncio.get_running_loop()
                work = lambda: self._function(*bound.args, **bound.kwargs)  # noqa: E731
                return await loop.run_in_executor(self._executor, _careful, work)
        except TimeoutError as error:
            if not timer.expired():
                raise _failed(name, error) from None
            raise ToolError(
                f"{name} did not answer within {self._timeout:g} s.",
                cure=f"Ask it for less, or raise timeout in {self.info.source}.",
            ) from None
        except Exception as error:  # whatever a function of the user's raises
            raise _failed(name, error) from None

    def _bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> inspect.BoundArguments:
        """The arguments by name, each of the type that the function says."""
        try:
            bound = self._signature.bind(*args, **kwargs)
            for name, value in bound.arguments.items():
                try:
                    bound.arguments[name] = msgspec.convert(value, self._types[name])
                except (msgspec.ValidationError, RecursionError) as error:
                    raise TypeError(f"{name}: {error}") from None
        except TypeError as error:
            called = f"{self.info.name}{self.info.signature}"
            raise ToolError(f"{called} can't be called so: {error}.") from None
        return bound


ENDING = (SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration)
"""What would end the server, a thread or a future in silence."""


def _careful(work: Callable[[], Any]) -> Any:
    """Call; what would end more than the call is an error like any other."""
    try:
        return work()
    except ENDING as error:
        raise RuntimeError(f"it raised {type(error).__name__}") from None


async def _awaited(work: Awaitable[Any]) -> Any:
    """Await; what would end more than the call is an error like any other."""
    try:
        return await work
    except ENDING as error:
        raise RuntimeError(f"it raised {type(error).__name__}") from None


def _failed(name: str, error: Exception) -> ToolError:
    said = one_line(str(error), MESSAGE)
    told = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return ToolError(f"{name} failed with {told}")


def _find(place: str, where: str) -> Callable[..., Any]:
    """The function at ``MODULE:FUNCTION`` or ``FILE.py:FUNCTION``."""
    module_name, _, attribute = place.rpartition(":")
    if not module_name or not attribute:
        raise ConfigError(
            f"{where} has python = {place!r}.",
            cure='Write it as "MODULE:FUNCTION" or "FILE:FUNCTION".',
        )
    try:
        module = _of_file(module_name) if module_name.endswith(".py") else _of_name(module_name)
    except Exception as error:  # whatever a module of the user's raises when it is imported
        raise ConfigError(
            f"{where}: {module_name} can't be imported: {type(error).__name__}: {error}.",
            cure="Correct it, or take the table out.",
        ) from error
    function = getattr(module, attribute, None)
    if not callable(function):
        raise ConfigError(
            f"{where}: {module_name} has no function {attribute!r}.", cure="Correct its name."
        )
    return typing.cast("Callable[..., Any]", function)


def _of_name(name: str) -> Any:
    return importlib.import_module(name)


def _of_file(name: str) -> Any:
    path = Path(name).expanduser()
    if not path.is_absolute():
        raise ValueError("the file's name must be absolute, or begin with ~")
    module_name = f"rlm_tool_{path.stem}_{abs(hash(str(path))):x}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses in it look themselves up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    return module


def _typed(function: Callable[..., Any], where: str) -> tuple[inspect.Signature, dict[str, Any]]:
    """Its signature, and the type of each parameter, which arguments are checked by."""
    try:
        signature = inspect.signature(function, eval_str=True)
        types = {
            name: Any if each.annotation is each.empty else each.annotation
            for name, each in signature.parameters.items()
        }
        for each in signature.parameters.values():
            if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD):
                raise TypeError(f"it takes any number of arguments, in {each}")
        for kind in types.values():
            msgspec.json.schema(kind)  # says now what it could not check later
    except Exception as error:
        raise ConfigError(
            f"{where}: the arguments can't be checked: {error}.",
            cure="Annotate its parameters with types that JSON has, dataclasses, or nothing.",
        ) from error
    return signature, types


def _shown(signature: inspect.Signature) -> str:
    """The signature as people write it."""
    return str(signature).replace("typing.", "").replace("'", "") or "()"
