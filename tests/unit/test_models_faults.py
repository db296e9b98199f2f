"""Every exception of litellm's has its place in our tree, and a cure."""

import inspect
from datetime import UTC, datetime
from string import Formatter

import pytest

from rlm_server.config import ModelConfig
from rlm_server.errors import (
    ModelError,
    RateLimitedError,
    RefusedError,
    TransientError,
    UnreachableError,
)
from rlm_server.models import faults
from rlm_server.models.deployments import Deployment
from rlm_server.models.retry import gave_up, pause

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

DEPLOYMENT = Deployment(
    name="fast",
    settings=ModelConfig(model="openai/gpt", base_url="http://10.0.0.9/v1", key_env="FAST_KEY"),
    source="config",
)


def litellm_exceptions() -> list[type[BaseException]]:
    from rlm_server.models.litellm_transport import load

    module = load().exceptions
    found = [each for _, each in inspect.getmembers(module, inspect.isclass)]
    return [
        each for each in found if issubclass(each, Exception) and each.__module__ == module.__name__
    ]


def test_every_exception_of_litellm_is_in_the_table_and_nothing_else() -> None:
    names = {each.__name__ for each in litellm_exceptions()}
    assert names == set(faults.FAULTS)


def test_every_exception_that_litellm_exports_is_mapped() -> None:
    from rlm_server.models.litellm_transport import load

    for kind in load().LITELLM_EXCEPTION_TYPES:
        assert any(base.__name__ in faults.FAULTS for base in kind.__mro__), kind


@pytest.mark.parametrize("fault", {id(f): f for f in faults.FAULTS.values()}.values())
def test_every_cure_names_a_model_a_setting_or_an_address(fault: faults.Fault) -> None:
    assert "{name}" in fault.what or "{model}" in fault.what
    fields = {name for _, name, _, _ in Formatter().parse(fault.cure) if name}
    assert fields & {"setting", "key", "address", "model"} or fault is faults.ODD
    told = faults.tell(fault, DEPLOYMENT)
    assert isinstance(told, ModelError)
    assert told.message.endswith(".")
    assert "{" not in f"{told}"


def test_a_cure_for_a_bad_key_names_its_variable_and_its_address() -> None:
    told = faults.tell(faults.BAD_KEY, DEPLOYMENT)
    assert told.cure == "Check $FAST_KEY, and that it is meant for http://10.0.0.9/v1."


class StandInError(Exception):
    """Stands in for one of litellm's exceptions; its name and members are set by each test."""

    litellm_response_headers: dict[str, str]


def raised(name: str, text: str, **members: object) -> Exception:
    return type(name, (StandInError,), members)(text)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("Wed, 21 Oct 2026 07:28:30 GMT", 30.0),
        ("Wed, 21 Oct 2026 07:27:00 GMT", 0.0),
        ("soon", None),
        ("", None),
        ("inf", None),
        ("nan", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    error = raised("RateLimitError", "slow", litellm_response_headers={"retry-after": value})
    now = datetime(2026, 10, 21, 7, 28, tzinfo=UTC)
    assert faults.retry_after(error, now) == seconds


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("litellm.BadRequestError: OpenAIException - no such thing", ": no such thing."),
        ('litellm.APIError: X - {"error": {"message": "deep\\ndown"}}', ": deep down."),
        ('litellm.APIError: X - {"error": "flat"}', ": flat."),
        ('litellm.APIError: X - {"detail": [1]}', '{"detail": [1]}'),
        ("broken {json", ": broken {json."),
        ("ends! ", ": ends!"),
        ("words. Traceback (most recent call last): secrets", ": words."),
    ],
)
def test_what_the_provider_said_is_told_without_its_wrapping(text: str, said: str) -> None:
    error = faults.translate(raised("BadRequestError", text), DEPLOYMENT, secrets=[])
    assert said in error.message
    assert "\n" not in error.message
    assert "litellm" not in error.message


def test_a_long_message_is_clipped() -> None:
    error = raised("BadRequestError", "x" * 100_000)
    assert len(faults.translate(error, DEPLOYMENT, secrets=[]).message) < 600


def test_secrets_are_scrubbed_also_from_headers_that_hold_one() -> None:
    error = raised("AuthenticationError", "key sk-12345678 and token tok-87654321 are bad")
    told = faults.translate(error, DEPLOYMENT, secrets=["sk-12345678", "tok-87654321", "are"])
    assert told.message == "fast refused the key: key *** and token *** are bad."


def test_an_unknown_exception_is_a_model_error_with_a_cure() -> None:
    told = faults.translate(ZeroDivisionError("what"), DEPLOYMENT, secrets=[])
    assert type(told) is ModelError
    assert told.cure


def test_an_endless_chain_of_causes_ends() -> None:
    one, two = raised("InternalServerError", "a"), raised("Other", "b")
    one.__cause__, two.__cause__ = two, one
    assert isinstance(faults.translate(one, DEPLOYMENT, secrets=[]), TransientError)


@pytest.mark.parametrize(
    ("error", "pauses"),
    [
        (TransientError("x"), [0.5, 1.0, 2.0, None]),
        (RateLimitedError("x"), [0.5, 1.0, 2.0, None]),
        (RateLimitedError("x", retry_after=60), [61.0, 61.0, 61.0, None]),
        (RateLimitedError("x", retry_after=60.5), [None]),
        (UnreachableError("x"), [0.5, None]),
        (RefusedError("x"), [None]),
        (ModelError("x"), [None]),
    ],
)
def test_what_is_tried_again_and_when(error: ModelError, pauses: list[float | None]) -> None:
    given = [pause(error, tries, 3, lambda: 1.0) for tries in range(1, len(pauses) + 1)]
    assert given == pauses


def test_pauses_are_spread_and_bounded() -> None:
    assert pause(TransientError("x"), 1, 9, lambda: 0.0) == 0.25
    assert pause(TransientError("x"), 1, 0, lambda: 0.0) is None
    assert pause(TransientError("x"), 5000, 9999, lambda: 1.0) == 20.0


def test_giving_up_says_how_often_it_was_tried() -> None:
    assert str(gave_up(TransientError("It failed."), 4)) == "It failed. (4 tries)"
    assert str(gave_up(TransientError("It failed."), 1)) == "It failed."
