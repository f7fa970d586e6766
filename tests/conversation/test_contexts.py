"""How a conversation begins: contexts of ParlAI tasks."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from model_chat.conversation.contexts import Context, ContextSource, load_context_source, start_mode_fault, task_name
from model_chat.errors import ConfigurationError

FLAG = "mephisto.blueprint.conversation_start_mode"
TASK = """
import random

class ContextGenerator:
    def __init__(self, opt, datatype="test", seed=None):
        if opt.get("break_it"):
            raise FileNotFoundError("no such data")
        self.opt, self.datatype, self.rng = opt, datatype, random.Random(seed)

    def get_context(self):
        number = self.rng.randrange(10**9)
        return {
            "context_dataset": self.datatype,
            "persona_1_strings": ["your persona: " + str(self.opt.get("flavour"))],
            "persona_2_strings": ["I am the model."],
            "person1_seed_utterance": f"Question {number}?",
            "person2_seed_utterance": "Answer.",
            "additional_context": None,
        }
"""


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package `small_tasks` with a ParlAI task, and one without a ContextGenerator."""
    package = tmp_path / "small_tasks"
    for name, text in (("talk", TASK), ("quiz", "class DefaultTeacher:\n    pass\n")):
        (package / name).mkdir(parents=True)
        (package / name / "agents.py").write_text(text, encoding="utf-8")
        (package / name / "__init__.py").touch()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    yield package
    for name in [name for name in sys.modules if name.split(".")[0] == "small_tasks"]:
        del sys.modules[name]


def context(**changes: Any) -> Context:
    values: dict[str, Any] = {
        "dataset": "convai2",
        "human_persona": (),
        "model_persona": ("I am the model.", "I like tea."),
        "human_seed": "Hi.",
        "model_seed": "Hello.",
        "additional_context": None,
    }
    return Context(**{**values, **changes})


def test_a_model_is_told_its_persona_line_by_line() -> None:
    assert context().lines_for_model() == ["your persona: I am the model.", "your persona: I like tea."]
    assert context(model_persona=()).lines_for_model() == []


def test_the_topic_is_told_for_wizard_of_wikipedia_alone() -> None:
    wizard = context(dataset="wizard_of_wikipedia", model_persona=("A.",), additional_context="Tea")
    assert wizard.lines_for_model() == ["your persona: A.", "Tea"]
    other = context(dataset="empathetic_dialogues", model_persona=("A.",), additional_context="Tea")
    assert other.lines_for_model() == ["your persona: A."]


def test_persona_lines_lose_their_prefix_and_may_be_missing() -> None:
    class Generator:
        def get_context(self) -> dict[str, Any]:
            return {
                "persona_1_strings": ["your persona: I like tea. ", " I like milk."],
                "person1_seed_utterance": "Hi.",
                "person2_seed_utterance": "Hello.",
            }

    assert ContextSource(Generator()).next() == Context(
        dataset=None,
        human_persona=("I like tea.", "I like milk."),
        model_persona=(),
        human_seed="Hi.",
        model_seed="Hello.",
        additional_context=None,
    )


def test_a_generator_is_asked_by_one_conversation_at_a_time() -> None:
    class Generator:
        inside = 0
        most = 0
        given = 0

        def get_context(self) -> dict[str, Any]:
            self.inside += 1
            self.most = max(self.most, self.inside)
            number = self.given
            threading.Event().wait(0.001)  # lets others in, if the lock does
            self.given = number + 1
            self.inside -= 1
            return {"person1_seed_utterance": str(number), "person2_seed_utterance": ""}

    generator = Generator()
    source, seeds = ContextSource(generator), []
    threads = [threading.Thread(target=lambda: seeds.append(source.next().human_seed)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert generator.most == 1
    assert sorted(map(int, seeds)) == list(range(20))


def test_the_older_spelling_is_accepted() -> None:
    assert task_name("bst") == "blended_skill_talk"
    assert task_name("model_chat.tasks.small_talk") == "model_chat.tasks.small_talk"
    assert start_mode_fault(FLAG, "bst") is None
    assert start_mode_fault(FLAG, "blended_skill_talk") is None
    assert start_mode_fault(FLAG, "hi") is None


@pytest.mark.parametrize("name", ["small_tasks.talk", "small_tasks.talk.agents"])
def test_the_name_of_any_task_with_a_context_generator_is_accepted(tasks: Path, name: str) -> None:
    assert start_mode_fault(FLAG, name) is None
    source = load_context_source(FLAG, name, {"flavour": "mint", "context_datatype": "valid"}, seed=1)
    first = source.next()
    assert (first.dataset, first.human_persona) == ("valid", ("mint",))


@pytest.mark.parametrize(
    "name",
    ["nonsense", "no.such.module", "small_tasks.quiz", "small_tasks", "json", "a:b:c", "", "hello there", "..", "Hi"],
)
def test_what_is_no_such_task_is_said(tasks: Path, name: str) -> None:
    assert start_mode_fault(FLAG, name) == (
        f"{FLAG}: '{name}' is neither 'hi' nor a ParlAI task with a ContextGenerator; use 'hi', 'blended_skill_talk', or "
        "the name of such a task (for instance model_chat.tasks.small_talk)."
    )


def test_a_seed_gives_the_same_contexts_again(tasks: Path) -> None:
    def seeds(seed: int | None) -> list[str]:
        source = load_context_source(FLAG, "small_tasks.talk", {}, seed)
        return [source.next().human_seed for _ in range(5)]

    assert seeds(3) == seeds(3)
    assert seeds(3) != seeds(4)
    assert seeds(None) != seeds(None)


def test_contexts_that_cannot_be_loaded_are_said(tasks: Path) -> None:
    with pytest.raises(ConfigurationError) as error:
        load_context_source(FLAG, "small_tasks.talk", {"break_it": True}, seed=None)
    assert error.value.faults == (
        f"{FLAG}: the contexts of 'small_tasks.talk' can't be loaded (FileNotFoundError: no such data); check that ParlAI "
        "can fetch the task's data, or use another start mode.",
    )


def test_a_task_that_breaks_while_it_is_imported_is_said(tasks: Path) -> None:
    (tasks / "talk" / "agents.py").write_text("ContextGenerator = {}['missing']\n", encoding="utf-8")
    assert start_mode_fault(FLAG, "small_tasks.talk") == (
        f"{FLAG}: the task 'small_tasks.talk' can't be imported: KeyError: 'missing'."
    )
