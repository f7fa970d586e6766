"""People played by models behind an endpoint: personas, the models, and what they say."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from model_chat.bot_agent import BotAgent
from model_chat.errors import ConfigurationError
from model_chat.records.schema import HUMAN_IDX, LONGEST_NAME, Simulated
from model_chat.records.visible_text import is_blank
from model_chat.scripts._simulated_person import Behaviour, Person, PersonFailedError
from model_chat.serving.backend import open_pool
from model_chat.serving.catalogue import models_in_opt_file, opt_faults
from model_chat.serving.pool import ModelFailureError, ModelPool

LLM_FLAG, PERSONAS_FLAG = "--llm", "--personas"
REPLY_SECONDS = 120
INSTRUCTION = (
    "You take part in a study in which people chat with a chat partner. Write as the person described below would write in "
    "a chat: one short message at a time, in the first person, without a name before it. Never say that you are a model."
)
"""Before each persona."""
DEFAULT_LENGTH = 2000


@dataclass(frozen=True)
class Persona:
    """Who is played.

    Attributes:
        id: saved with the conversation; None where no personas are given.
    """

    id: str | None
    text: str


def read_personas(path: str | None) -> list[Persona]:
    """Read a file of JSON Lines, each with ``persona`` and, if wanted, ``id``; else lines are known by their number.

    Args:
        path: None for one persona about whom nothing is said.

    Raises:
        ConfigurationError: a sentence for each line with a fault, or for a file that can't be read.
    """
    if path is None:
        return [Persona(None, "")]
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{PERSONAS_FLAG}: '{path}' can't be read ({error}); give a file of JSON Lines."
        ) from None
    found: list[Persona] = []
    faults: list[str] = []
    places: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            entry = None
        text = entry.get("persona") if isinstance(entry, dict) else None
        name = entry.get("id", number) if isinstance(entry, dict) else number
        if (
            not isinstance(text, str)
            or is_blank(text)
            or not isinstance(name, str | int)
            or isinstance(name, bool)
            or not 0 < len(str(name).strip()) <= LONGEST_NAME
        ):
            faults.append(
                f"{PERSONAS_FLAG}: '{path}', line {number}: is no persona; write "
                '{"id": "anna", "persona": "You are Anna, a nurse who likes hiking."}'
            )
        elif str(name) in places:
            faults.append(
                f"{PERSONAS_FLAG}: '{path}', line {number}: has the id '{name}' of line {places[str(name)]}; give each "
                "persona its own."
            )
        else:
            places[str(name)] = number
            found.append(Persona(str(name), text))
    if not found and not faults:
        faults.append(f"{PERSONAS_FLAG}: '{path}' holds no persona; give one a line.")
    ConfigurationError.raise_if(faults)
    return found


class PlayedPeople:
    """Makes people: models and personas take turns. Close it when no conversation is open any more.

    Args:
        models_path: a YAML file of models behind endpoints (docs/models.md); each plays people.

    Raises:
        ConfigurationError: the file has faults, a model is behind no endpoint, or gives no first reply.
    """

    def __init__(self, models_path: str, personas: Sequence[Persona]) -> None:
        sources = models_in_opt_file(LLM_FLAG, models_path)
        faults = [fault for source in sources.values() for fault in opt_faults(LLM_FLAG, source)]
        faults += [
            f"{LLM_FLAG}: '{nickname}' in '{models_path}' is behind no endpoint; give its base_url (docs/models.md)."
            for nickname, source in sources.items()
            if not source.is_endpoint
        ]
        if not sources:
            faults.append(f"{LLM_FLAG}: '{models_path}' has no model; give one behind an endpoint (docs/models.md).")
        ConfigurationError.raise_if(faults)
        args = SimpleNamespace(
            serving="local",
            task_model_parallel=False,
            max_concurrent_responses=1,
            max_model_response_time=REPLY_SECONDS,
            max_batch_size=1,
            batch_wait_ms=0,
        )
        self._pool: ModelPool = open_pool(args, sources, LLM_FLAG, lambda what: nullcontext())
        self._casts: Iterator[tuple[Persona, str]] = itertools.cycle(
            (persona, nickname) for nickname in sources for persona in personas
        )
        self.messages = 0
        self.characters = 0
        self.cost_usd = 0.0

    def make(self, behaviour: Behaviour, rng: random.Random) -> Person:
        """Make the next person."""
        persona, nickname = next(self._casts)
        return PlayedPerson(behaviour, rng, self._pool, nickname, persona, self._note)

    def _note(self, text: str, cost_usd: float) -> None:
        """Count a message; called on the event loop's thread only."""
        self.messages += 1
        self.characters += len(text)
        self.cost_usd += cost_usd

    def close(self) -> None:
        """End the models."""
        self._pool.shutdown()

    def sentence(self) -> str:
        """Say how much the people wrote, and what it cost."""
        mean = self.characters / self.messages if self.messages else 0
        return f"played by models: {self.messages} messages, {mean:.0f} characters on average, ${self.cost_usd:.4f}"


class PlayedPerson(Person):
    """Says what a model says in the role of a persona; boxes, ratings and other answers are drawn at random.

    Args:
        behaviour, rng: see :class:`Person`.
        note: told each message and what it has cost, US dollars.
    """

    def __init__(
        self,
        behaviour: Behaviour,
        rng: random.Random,
        pool: ModelPool,
        nickname: str,
        persona: Persona,
        note: Callable[[str, float], None],
    ) -> None:
        super().__init__(behaviour, rng)
        self.mark = Simulated(model=nickname[:LONGEST_NAME], persona=persona.id).model_dump_json()
        self._note = note
        self._bot = BotAgent(pool, nickname)
        self._bot.observe_prompt(f"{INSTRUCTION}\n\n{persona.text}".strip())

    def heard(self, agent_idx: int, text: str, fake_start: bool = False) -> None:
        """Tell the model what the chat partner said, and what the person is shown to have said."""
        if agent_idx != HUMAN_IDX:
            self._bot.observe({"id": "chat partner", "text": text})
        elif fake_start:
            self._bot.has_said(text)

    async def line(self, said: int) -> str:
        """Return what the model says.

        Raises:
            PersonFailedError: it returned no usable text.
        """
        try:
            reply = await asyncio.to_thread(self._bot.act)
        except ModelFailureError as error:
            raise PersonFailedError(f"the model that plays the person failed: {error}") from None
        text = reply.text[:DEFAULT_LENGTH].strip()
        self._note(text, reply.generation.cost_usd or 0.0)
        return text
