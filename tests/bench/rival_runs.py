"""One question to a rival, by that package's Python: rival_runs.py NAME URL TURNS < CONTEXT."""

from __future__ import annotations

import sys

name, url, turns = sys.argv[1], sys.argv[2], int(sys.argv[3])
context, question = sys.stdin.read(), "How long is it?"

if name == "rlms":
    from rlm import RLM

    engine = RLM(
        backend="vllm",
        backend_kwargs={"model_name": "timing", "api_key": "none", "base_url": url},
        environment="local",
        max_iterations=turns + 5,
    )
    print(engine.completion(context, root_prompt=question).response)
else:
    import dspy
    from dspy.primitives.local_interpreter import LocalInterpreter

    model = dspy.LM(
        "openai/timing", api_base=url, api_key="none", cache=False, num_retries=0, model_type="chat"
    )
    dspy.configure(lm=model, adapter=dspy.ChatAdapter())
    rlm = dspy.RLM(
        "context, query -> answer",
        max_iters=turns + 5,
        max_llm_calls=10_000,
        interpreter_factory=LocalInterpreter,
    )
    print(rlm(context=context, query=question).answer)
