"""What a chat model has been told in one conversation, as messages of roles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SILENCE = "__SILENCE__"
"""ParlAI's text for "nobody has said anything yet"."""
OPENING_CUE = "(The other one waits for you to begin the conversation.)"
"""Stands for the first message where the model has the first word."""
PROMPT_ID = "system_prompt"
"""`id` of an observation that was not said: its text is added to the system prompt."""
_PERSONA = "your persona:"
_PARTNER = "partner's persona:"


class ChatHistory:
    """The persona and the turns of one conversation; used by one thread at a time.

    Args:
        system_prompt: who the model is to be; may be empty.
        history_turns: how many exchanges before the last message are shown; -1: all.
    """

    def __init__(self, system_prompt: str, history_turns: int = -1) -> None:
        self._system_prompt = system_prompt
        self._history_turns = history_turns
        self._persona: list[str] = []
        self._turns: list[dict[str, Any]] = []

    def observe(self, observation: Mapping[str, Any]) -> None:
        """Take in what the other one said, the persona (lines that begin with ``your persona:``), or more of the prompt."""
        text = observation.get("text") or ""
        if observation.get("id") == PROMPT_ID:
            self._system_prompt = f"{self._system_prompt}\n\n{text}".strip()
            return
        said = self._take_persona(text, all_of_it=observation.get("id") == "persona")
        if said and said != SILENCE:
            self._turns.append({"role": "user", "content": said})

    def has_said(self, text: str) -> None:
        """Remember what the model itself said."""
        if text:
            self._turns.append({"role": "assistant", "content": text})

    def messages(self) -> list[dict[str, Any]]:
        """Return the conversation as the model is to see it: system prompt with persona, and the last turns."""
        system = self._system_prompt
        if self._persona:
            about = "\n".join(f"- {line}" for line in self._persona)
            system = f"{system}\n\nThis is you; stay true to it, and don't list it:\n{about}".strip()
        turns = self._turns
        if self._history_turns >= 0:
            firsts = [at for at, turn in enumerate(turns) if turn["role"] == "user" and _begins(turns, at)]
            if len(firsts) > self._history_turns + 1:
                turns = turns[firsts[-self._history_turns - 1] :]
        if not turns:
            turns = [{"role": "user", "content": OPENING_CUE}]
        return ([{"role": "system", "content": system}] if system else []) + [dict(turn) for turn in turns]

    def _take_persona(self, text: str, all_of_it: bool) -> str:
        """Keep the persona lines that a text begins with, and return the rest, which was said.

        Args:
            all_of_it: whether lines without a prefix are about the conversation as well (its topic) and not said.
        """
        lines = text.split("\n")
        while lines:
            line = lines[0].strip()
            if line.lower().startswith(_PERSONA):
                self._persona.append(line[len(_PERSONA) :].strip())
            elif line.lower().startswith(_PARTNER):
                self._persona.append(f"About the other one you know: {line[len(_PARTNER) :].strip()}")
            elif all_of_it and line:
                self._persona.append(f"The conversation is about: {line}")
            elif line:
                break
            lines.pop(0)
        return "\n".join(lines).strip()


def alternating(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Join messages in a row of one role, which some chat templates and servers refuse, and begin with the user's."""
    joined: list[dict[str, Any]] = []
    for message in messages:
        if joined and joined[-1]["role"] == message["role"]:
            joined[-1]["content"] += f"\n\n{message['content']}"
        elif message["role"] == "assistant" and (not joined or joined[-1]["role"] == "system"):
            joined += [{"role": "user", "content": OPENING_CUE}, dict(message)]
        else:
            joined.append(dict(message))
    return joined


def _begins(turns: Sequence[Mapping[str, Any]], at: int) -> bool:
    """Whether a user message begins an exchange: several in a row are one."""
    return at == 0 or turns[at - 1]["role"] != "user"
