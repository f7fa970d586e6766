"""The demo model with several characters, which share its weights."""

from __future__ import annotations

import pytest

from model_chat.tests.e2e.running_task import ROOT


@pytest.mark.slow
def test_characters_of_the_demo_model_say_together_what_they_say_alone() -> None:
    # Imported here: all processes that run long tests import this file, and one runs it.
    import torch

    from model_chat.tests.agents.test_hugging_face import agent, clone, say
    from model_chat.tests.agents.test_shared_weights import together

    prompts = ("You love hiking.", "You are a grumpy old sailor who hates small talk.", "", "Answer in one word.")
    greedy = {"repetition_penalty": 1.1, "max_new_tokens": 12}
    texts = ["What did you do today?", "Hi! I have two dogs and a cat at home. What about you?", "Why?", "Hello there."]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several are slower, beside other tests
    try:
        agents = [agent(ROOT / "models/demo/smollm2", system_prompt=prompt, **greedy) for prompt in prompts]
        assert len({id(each.shared_weights) for each in agents}) == 1
        assert together(agents, texts) == [say(clone(each), text) for each, text in zip(agents, texts, strict=True)]
    finally:
        torch.set_num_threads(threads)
