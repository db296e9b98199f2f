"""Profiles: which model gets which, what they say, and how long that is."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from engine_harness import ScriptedModels, cell, final, play
from rlm_server.config import Config, ProfileConfig, load_config
from rlm_server.engine.profile import Profiles, built_in
from rlm_server.engine.service import Engine
from rlm_server.engine.speech import Speech
from rlm_server.errors import ConfigError
from rlm_server.models import Models
from rlm_server.protocol import AskOptions, Notice, RunStarted, SubcallStarted, TextSource

NAMES = sorted(built_in())


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Count tokens as GPT-4 does; the table comes with litellm, and nothing is fetched."""
    spec = importlib.util.find_spec("litellm")
    assert spec and spec.origin
    patch = pytest.MonkeyPatch()
    place = Path(spec.origin).parent / "litellm_core_utils" / "tokenizers"
    patch.setenv("TIKTOKEN_CACHE_DIR", str(place))
    import tiktoken

    encoding = tiktoken.get_encoding("cl100k_base")
    yield lambda text: len(encoding.encode(text))
    patch.undo()


def speech(model: str = "root", *, window: int | None = None, **profiles: Any) -> Speech:
    models = ScriptedModels([])
    models.ids = {"root": model, "sub": model}
    if window:
        models.windows = {"sub": window}
    return Speech(profiles, models, ["sub"], None)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("answer", ["dict", "final"])
def test_no_base_prompt_has_more_than_900_tokens(name: str, answer: Any, tokens: Any) -> None:
    spoken = speech(name=ProfileConfig(base=name, match=["^x$"], answer=answer))
    spoken._named = spoken._profiles.named("name")
    assert 600 < tokens(spoken.system("root")) <= 900


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_left_to_be_filled_in(name: str) -> None:
    spoken = speech()
    spoken._named = spoken._profiles.named(name)
    system = spoken.system("root")
    for placeholder in ("{fence}", "{answer}", "{batch}", "{advice}", "{characters}"):
        assert placeholder not in system
    assert "\n\n\n" not in system
    assert f"```{spoken.profile('root').fence} " in system
    assert "FINAL(text)" in system
    assert spoken.profile("root").advice.strip()[:20] in system


@pytest.mark.parametrize(
    ("model", "profile"),
    [
        ("openai/gpt-5.4-mini", "gpt"),
        ("openai/o3", "gpt"),
        ("openrouter/openai/o4-mini", "gpt"),
        ("azure/gpt-4o", "gpt"),
        ("ollama_chat/gpt-oss:20b", "gpt"),
        ("anthropic/claude-sonnet-4-5", "claude"),
        ("bedrock/us.anthropic.claude-opus-4", "claude"),
        ("gemini/gemini-3-flash", "gemini"),
        ("hosted_vllm/Qwen/Qwen3-30B-A3B", "qwen"),
        ("openrouter/qwen/qwen3-coder", "qwen-coder"),
        ("ollama_chat/qwen2.5-coder:32b", "qwen-coder"),
        ("ollama_chat/qwen3:4b", "small"),
        ("ollama_chat/qwen2.5-coder:1.5b", "small"),
        ("deepseek/deepseek-chat", "deepseek"),
        ("ollama_chat/deepseek-r1:8b", "small"),
        ("ollama_chat/llama3.3:70b", "llama"),
        ("ollama_chat/llama3.2:3b", "small"),
        ("mistral/mistral-large-latest", "llama"),
        ("ollama_chat/phi4", "llama"),
        ("offline/extractive", "offline"),
        ("openai/scripted", "default"),
        ("ollama_chat/my-own", "default"),
        ("hosted_vllm/sonnet", "default"),
    ],
)
def test_a_model_gets_the_profile_of_its_family(model: str, profile: str) -> None:
    assert Profiles({}).choose(model).name == profile


def test_the_configuration_goes_before_what_is_built_in(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        "[profiles.claude]\ndirect-tokens = 5\n"
        "[profiles.mine]\nbase = 'small'\nmatch = ['own-tune']\nadvice = 'Be quick.'\n"
        "[profiles.all]\nmatch = ['llama']\nweight = 5\n"
    )
    profiles = Profiles(load_config(path).profiles)
    claude = profiles.choose("anthropic/claude-x")
    assert (claude.direct_tokens, claude.fence, claude.sub_characters) == (5, "python", 200_000)
    mine = profiles.choose("hosted_vllm/Own-Tune")
    assert (mine.name, mine.advice, mine.answer, mine.batch) == ("mine", "Be quick.", "final", 10)
    assert profiles.choose("ollama_chat/llama3.2:3b").name == "all"


@pytest.mark.parametrize(
    ("profiles", "problem"),
    [
        ({"a": ProfileConfig(base="nowhere")}, "'nowhere' is unknown"),
        ({"a": ProfileConfig(base="b"), "b": ProfileConfig(base="a")}, "leads back to itself"),
        ({"a": ProfileConfig(match=["("])}, "is no regular expression"),
    ],
)
def test_profiles_that_can_not_be_used_are_told_at_the_start(
    profiles: Any, problem: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RLM_STATE", str(tmp_path))
    monkeypatch.setenv("RLM_CACHE", str(tmp_path))
    config = Config(profiles=profiles, discover=False)
    with pytest.raises(ConfigError, match=problem):
        Engine(config, Models(config))


def test_what_a_sub_call_takes_is_what_its_window_takes() -> None:
    assert speech().sub_characters() == 200_000
    assert speech("ollama_chat/llama3.2:3b").sub_characters() == 12_000
    assert speech(window=8_192).sub_characters() == 17_000
    assert "about 17,000\n  characters" in speech(window=8_192).system("root")
    assert "about 17,000 characters of text" in speech("qwen/coder", window=8_192).system("root")


async def test_the_prefix_is_the_same_whatever_is_asked(tmp_path: Path) -> None:
    prompts = []
    for number, sources in enumerate([[TextSource(text="a")], [TextSource(text="b" * 9_000)]]):
        run = await play(tmp_path / str(number), [cell("context"), final()], sources=sources)
        prompts += [messages[0] for messages in run.models.prompts]
    assert len({message["content"] for message in prompts}) == 1


async def test_the_run_tells_its_profile_and_a_question_may_name_another(tmp_path: Path) -> None:
    ids = {"root": "anthropic/claude-x"}
    by_code = AskOptions(direct=False)
    run = await play(tmp_path / "a", ["only prose", final()], ids=ids, options=by_code)
    assert run.of(RunStarted)[0].profile == "claude"
    assert "a line ```python, the code" in run.told(1)
    run = await play(
        tmp_path / "b",
        ["only prose", final()],
        ids=ids,
        options=AskOptions(profile="small", direct=False),
    )
    assert run.of(RunStarted)[0].profile == "small"
    assert "FINAL(...)" in run.told(1)


def test_a_profile_that_there_is_not_is_told_before_anything_is_paid(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'clode' is unknown"):
        Speech({}, ScriptedModels([]), ["sub"], "clode")  # type: ignore[arg-type]


async def test_a_prompt_of_ones_own_takes_the_place_of_the_built_in(tmp_path: Path) -> None:
    (tmp_path / "own.md").write_text("Use ```{fence} and\n{answer}\n{advice}")
    own = ProfileConfig(prompt_file=str(tmp_path / "own.md"), advice="Hurry.")
    run = await play(tmp_path, [final()], config=Config(profiles={"default": own}))
    system = run.models.prompts[0][0]["content"]
    assert system.startswith("Use ```repl and\n- `answer`: a dict.")
    assert system.endswith("\nHurry.\n")
    own = ProfileConfig(prompt_file=str(tmp_path / "gone.md"))
    with pytest.raises(ConfigError, match="can't be read"):
        await play(tmp_path / "again", [final()], config=Config(profiles={"default": own}))


async def test_code_that_calls_too_often_is_stopped_and_told(tmp_path: Path) -> None:
    code = (
        "done = [llm_query(str(n)) for n in range(3)]\n"
        "print(llm_query_batched(['a', 'b', 'c'])[1:])\nllm_query('once more')"
    )
    config = Config(profiles={"default": ProfileConfig(most_calls=4)})
    again = cell("print(len(done), llm_query('later'))")
    run = await play(tmp_path, [cell(code), again, final()], config=config)
    assert len(run.of(SubcallStarted)) == 5
    assert "has made 4 sub-calls, the most that one may make" in run.told(1)
    assert "up to 200,000 characters" in run.told(1)
    assert "3 sub-answer" in run.told(2)
    [told] = [event for event in run.of(Notice) if "the profile default allows" in event.text]
    assert told.node == "0.1"


async def test_the_shape_names_the_kinds_of_documents(tmp_path: Path) -> None:
    names = ["a.py", "b.PY", "c.md", "Makefile", *(f"x.{n}" for n in range(9))]
    sources = [TextSource(text=name, name=name) for name in names]
    run = await play(tmp_path, [final()], sources=sources)
    kinds = next(line for line in run.told(0).splitlines() if line.startswith("Kinds: "))
    assert kinds.startswith("Kinds: .py 2, .md 1, none 1, .0 1, ")
    assert kinds.endswith("and 4 more")
