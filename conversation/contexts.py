"""Conversation contexts: personas, and utterances that count as already said."""

from __future__ import annotations

import importlib
import threading
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from model_chat.errors import ConfigurationError

HI = "hi"
BLENDED_SKILL_TALK = "blended_skill_talk"
OLDER_NAMES = {"bst": BLENDED_SKILL_TALK}
WIZARD_OF_WIKIPEDIA = "wizard_of_wikipedia"


@dataclass(frozen=True)
class Context:
    """The context of one conversation, as ParlAI's ``ContextGenerator.get_context`` gives it.

    Attributes:
        human_persona, model_persona: persona lines, without the prefix ``your persona:``.
        human_seed, model_seed: the two utterances shown as already said.
        additional_context: e.g. the topic of Wizard of Wikipedia.
    """

    dataset: str | None
    human_persona: tuple[str, ...]
    model_persona: tuple[str, ...]
    human_seed: str
    model_seed: str
    additional_context: str | None

    def lines_for_model(self) -> list[str]:
        """What a model observes before the conversation: persona lines, and the topic of Wizard of Wikipedia."""
        lines = [f"your persona: {line}" for line in self.model_persona]
        if self.dataset == WIZARD_OF_WIKIPEDIA and self.additional_context:
            lines.append(self.additional_context)
        return lines


def context_record(context: Context | None) -> dict[str, Any]:
    """Return a conversation's context as it is saved."""
    return {
        "personas": None if context is None else [list(context.human_persona), list(context.model_persona)],
        "context_dataset": None if context is None else context.dataset,
        "person1_seed_utterance": None if context is None else context.human_seed,
        "person2_seed_utterance": None if context is None else context.model_seed,
        "additional_context": None if context is None else context.additional_context,
    }


class ContextSource:
    """Gives each conversation a context of a ParlAI task. ``_lock`` guards the task's generator."""

    def __init__(self, generator: Any) -> None:
        self._generator = generator
        self._lock = threading.Lock()

    def next(self) -> Context:
        """Return the next context."""
        with self._lock:
            raw = self._generator.get_context()
        return Context(
            dataset=raw.get("context_dataset"),
            human_persona=tuple(map(_without_prefix, raw.get("persona_1_strings") or ())),
            model_persona=tuple(map(_without_prefix, raw.get("persona_2_strings") or ())),
            human_seed=raw["person1_seed_utterance"],
            model_seed=raw["person2_seed_utterance"],
            additional_context=raw.get("additional_context"),
        )


def _without_prefix(line: str) -> str:
    return line.strip().removeprefix("your persona:").strip()


def task_name(start_mode: str) -> str:
    """Return the ParlAI task that a start mode names (older spellings included)."""
    return OLDER_NAMES.get(start_mode, start_mode)


def start_mode_fault(flag: str, start_mode: str) -> str | None:
    """Say what is wrong with a start mode, without loading any data; None if nothing is."""
    if start_mode == HI:
        return None
    try:
        _generator_class(task_name(start_mode))
    except (ImportError, AttributeError, TypeError, ValueError):
        return (
            f"{flag}: '{start_mode}' is neither '{HI}' nor a ParlAI task with a ContextGenerator; use '{HI}', "
            f"'{BLENDED_SKILL_TALK}', or the name of such a task (for instance model_chat.tasks.small_talk)."
        )
    except Exception as error:  # whatever the requester's own module raises
        return f"{flag}: the task '{start_mode}' can't be imported: {type(error).__name__}: {error}."
    return None


def _generator_class(task: str) -> Any:
    from parlai.core.loader import load_task_module

    module: ModuleType | None
    try:
        module = load_task_module(task)
    except ImportError:
        module = None
    if module is None or not hasattr(module, "ContextGenerator"):
        # A dotted name may be the package of a task rather than its module.
        module = importlib.import_module(f"{task}.agents") if "." in task else module
    if module is None:
        raise ImportError(f"there is no ParlAI task '{task}'")
    return module.ContextGenerator


def load_context_source(flag: str, start_mode: str, override_opt: dict[str, Any], seed: int | None) -> ContextSource:
    """Build the context generator that a start mode names.

    Args:
        start_mode: ``hi`` stands for Blended Skill Talk here (personas without seed utterances).
        seed: of the generator; None for a different sequence in every run.

    Raises:
        ConfigurationError: the generator can't be built (its data can't be fetched, say).
    """
    from parlai.core.params import ParlaiParser

    task = BLENDED_SKILL_TALK if start_mode == HI else task_name(start_mode)
    opt = ParlaiParser(add_parlai_args=True, add_model_args=False).parse_args([])
    opt.update(override_opt)
    try:
        return ContextSource(_generator_class(task)(opt, datatype=opt.get("context_datatype", "test"), seed=seed))
    except Exception as error:  # a ContextGenerator of the lab's own may raise anything
        raise ConfigurationError(
            f"{flag}: the contexts of '{task}' can't be loaded ({type(error).__name__}: {error}); check that ParlAI can "
            f"fetch the task's data, or use another start mode."
        ) from error
