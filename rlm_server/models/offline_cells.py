"""What the embedded model writes as root: for each step its prose and its REPL code."""

from __future__ import annotations

import pprint
from functools import cache
from importlib import resources

import msgspec

from rlm_server.config import OFFLINE_MODEL
from rlm_server.models.question import Question
from rlm_server.models.quoting import NOTHING

NO_MATCH = "No passage matches."
"""What a search prints where it finds nothing."""


class Step(msgspec.Struct, frozen=True):
    """One kind of reply. ``{...}`` in the code stand for what the question gives."""

    prose: str
    code: tuple[str, ...]

    def reply(self, question: Question) -> str:
        """The reply to a question; its first words are always those of ``prose``."""
        values = {
            "RANKING": _ranking(),
            "TERMS": pprint.pformat(question.terms, width=96, sort_dicts=False),
            "QUESTION": repr(" ".join(question.text.split())),
            "PLACE": str(question.place),
            "TESTS": str(question.tests),
            "NO_MATCH": repr(NO_MATCH),
            "NOTHING": repr(NOTHING),
            "CLOSING": repr(CLOSING),
        }
        blocks = [self.prose]
        for code in self.code:
            for name, value in values.items():
                code = code.replace("{" + name + "}", value)
            blocks.append(f"```repl\n{code.strip()}\n```")
        return "\n\n".join(blocks) + "\n"


CLOSING = (
    f"This is an extractive answer: the embedded model {OFFLINE_MODEL} ranks and quotes, it does "
    "not reason. For a reasoned one, configure a model; `rlm-server doctor` says how."
)

_LOOK = """
from collections import Counter

documents = context.documents
kinds = Counter(d.path.rpartition(".")[2] if "." in d.path else "none" for d in documents)
print(f"{len(documents):,} documents, {len(context):,} characters")
print("kinds:", ", ".join(f"{kind} {count}" for kind, count in kinds.most_common(8)))
for document in sorted(documents, key=len, reverse=True)[:5]:
    print(f"{len(document):>12,}  {document.path}")
"""

_RANK = """
{RANKING}

QUESTION = {QUESTION}
TERMS = {TERMS}

def telling(passage):  # its line that names most of the terms
    named = lambda line: sum(s in line.lower() for t in TERMS.values() for s in t)
    return max(passage.lines, key=named).strip()

def echoes(passage):  # where the question itself stands, it is not answered
    return QUESTION in " ".join(" ".join(passage.lines).split())

passages, weights = rank(context.documents, TERMS, place={PLACE}, tests={TESTS}, best=15)
passages = [passage for passage in passages if not echoes(passage)][:12]
for term in TERMS:
    if " " not in term:
        print(f"{term}: " + (f"worth {weights[term]:.1f}" if term in weights else "nowhere"))
for passage in passages:
    print(f"{passage.score:6.1f}  {passage.document.path}:{passage.line}  {telling(passage)[:90]}")
if passages:
    best = f"{passages[0].document.path}:{passages[0].line}"
    answer["content"] = f"Ranked so far, not read yet: {best} says most about it."
    print(f"{len(passages)} passages, the best at {best}")
else:
    print({NO_MATCH})
"""

_SCAN = """
from typing import Any, NamedTuple

class Passage(NamedTuple):
    score: float
    document: Any
    line: int
    lines: list

TERMS = {TERMS}
passages, weights = [], {}
for document in context.documents:
    for term, spellings in TERMS.items():
        at = min((p for p in map(document.find, spellings) if p >= 0), default=-1)
        if at >= 0:
            weights[term] = 1.0
            start = document.rfind("\\n", 0, at) + 1
            lines = document[start:start + 1500].split("\\n")[:12]
            score = sum(s in line for line in lines for t in TERMS.values() for s in t)
            passages.append(Passage(score, document, document.line_at(start), lines))
passages = sorted(passages, key=lambda passage: -passage.score)[:12]
if passages:
    print(f"{len(passages)} passages, the best at {passages[0].document.path}:{passages[0].line}")
else:
    print({NO_MATCH})
"""

_ASK = """
chosen = [p for p in passages if p.score >= passages[0].score / 3][:6]
prompts = []
for passage in chosen:
    numbered = [f"{n}: {line[:300]}" for n, line in enumerate(passage.lines, passage.line)]
    prompts.append(
        "Which lines of this passage answer the question? Quote them exactly, after their place as "
        "path:line.\\n"
        f"The question: {QUESTION}\\n"
        f"The passage, from {passage.document.path}:\\n" + "\\n".join(numbered)
    )
replies = llm_query_batched(prompts)
for reply in replies:
    print(reply)
"""

_ANSWER = """
def own_lines(passage):  # where no reply chose among them
    at = min(2, len(passage.lines) - 1)
    place = f"{passage.document.path}:{passage.line + at}"
    return "\\n    ".join([place, *passage.lines[at : at + 3]])

found, missing = [], [t for t in {TERMS} if " " not in t and t not in globals().get("weights", {})]
passages = globals().get("passages", [])
chosen = globals().get("chosen") or passages[:5]
replies = globals().get("replies") or [""] * len(chosen)
for passage, reply in zip(chosen, replies):
    if getattr(reply, "error", None) or not reply.strip():
        reply = own_lines(passage)
    elif not reply.startswith(passage.document.path):
        reply = f"{passage.document.path}:{passage.line}\\n    " + reply.replace("\\n", "\\n    ")
    if {NOTHING} not in reply and reply not in found:
        found.append(reply.rstrip())
parts = []
if found:
    several = f"These {len(found[:5])} places say" if len(found) > 1 else "This place says"
    parts.append(f"{several} most about it, the best first:")
    parts += found[:5]
else:
    parts.append("Nothing in the context matches the question.")
if missing:
    parts.append("Nowhere in the context: " + ", ".join(missing) + ".")
parts.append({CLOSING})
answer["content"] = "\\n\\n".join(parts)
answer["ready"] = True
"""

_GIVE_UP = """
answer["content"] = (
    f"The search over {len(context.documents)} documents failed, so there is no answer.\\n\\n"
    + {CLOSING}
)
answer["ready"] = True
"""

LOOK = Step(
    "I am the embedded model. I do not reason: I rank passages by the words of the question and "
    "quote the best with their places. First I look at what there is.",
    (_LOOK,),
)
RANK = Step(
    "Now I rank the passages: the rarer a word of the question, the more it counts, and lines "
    "that define something count more.",
    (_RANK,),
)
SCAN = Step(
    "The ranking failed. I look for the words of the question in a simpler way.",
    (_SCAN,),
)
ASK = Step(
    "I have the best passages picked for the lines that answer the question.",
    (_ASK,),
)
ANSWER = Step("I put the quotations together.", (_ANSWER,))
AT_ONCE = Step(
    "There is no time for more than one step, so I rank and answer at once.", (_RANK, _ANSWER)
)
GIVE_UP = Step("I can't search this context, and say so.", (_GIVE_UP,))


@cache
def _ranking() -> str:
    """The ranking's code, without its docstring, which speaks to another reader."""
    source = resources.files("rlm_server.models").joinpath("ranking.py").read_text("utf-8")
    return source.partition('"""')[2].partition('"""')[2].strip()
