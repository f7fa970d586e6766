"""Answers of a simulated worker to the items of a study flow: valid ones, and invalid ones to be refused."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

WORDS = tuple("Well I think that this was good and surprising in places but never dull".split())  # noqa: SIM905  # reads better


def valid_answers(items: Sequence[Mapping[str, Any]], rng: random.Random, reply: str = "") -> dict[str, Any]:
    """Draw an answer to each item that is shown, now and then none where none is required.

    Args:
        items: as the page is told of them (docs/protocol.md).
        reply: the text of the reply that they are about.
    """
    answers: dict[str, Any] = {}
    for item in items:
        if _is_shown(item, answers) and (item["required"] or rng.random() < 0.7):
            answer = _draw(item, rng, reply)
            if answer is not None:
                answers[item["id"]] = answer
    return answers


def invalid_answers(items: Sequence[Mapping[str, Any]], rng: random.Random) -> dict[str, Any]:
    """Draw answers of which at least one has to be refused."""
    junk: list[Any] = [
        None,
        "\ud83c",
        "x" * 20_000,
        [[]],
        {"other": {}},
        -1,
        10**9,
        0.5,
        True,
        {"best": 1},
        ["nothing"],
    ]
    answers = {item["id"]: rng.choice(junk) for item in items}
    answers["an item that nobody asked"] = rng.choice(junk[1:])
    return answers


def _is_shown(item: Mapping[str, Any], answers: Mapping[str, Any]) -> bool:
    for name, values in (item.get("show_if") or {}).items():
        answer = answers.get(name)
        given = answer if isinstance(answer, list) else [answer]
        if not any(("other" if isinstance(one, dict) else one) in values for one in given):
            return False
    return True


def _draw(item: Mapping[str, Any], rng: random.Random, reply: str) -> Any:
    options = item.get("options", [])
    match item["kind"]:
        case "scale":
            return _point(item, rng)
        case "matrix":
            return {row: _point(item, rng) for row in item["rows"]}
        case "slider":
            return rng.randint(0, 100)
        case "choice":
            drawn: list[Any] = (
                rng.sample(options, rng.randint(1, len(options))) if item["many"] else [rng.choice(options)]
            )
            if item["other"] and rng.random() < 0.2:
                drawn = [*drawn, {"other": _text(rng, 3, 100)}] if item["many"] else [{"other": _text(rng, 3, 100)}]
            return drawn if item["many"] else drawn[0]
        case "ranking":
            return rng.sample(options, len(options))
        case "best_worst":
            best, worst = rng.sample(options, 2)
            return {"best": best, "worst": worst}
        case "number":
            return _number(item, rng)
        case "text":
            return _text(rng, max(1, item["min_chars"]), item["max_chars"])
        case "highlight":
            words = [word for word in reply.split() if word]
            if not words:
                return None
            start = reply.index(rng.choice(words))
            return [{"start": start, "end": start + 1}]
        case kind:
            raise ValueError(f"a simulated worker knows no item of the kind '{kind}'")


def _number(item: Mapping[str, Any], rng: random.Random) -> float:
    """A whole number within the bounds where there is one, else a bound."""
    least, most = item.get("min"), item.get("max")
    if least is None:
        least = 0 if most is None else min(0, most - 100)
    if most is None:
        most = least + 100
    first, last = math.ceil(least), math.floor(most)
    return rng.randint(first, last) if first <= last else float(least)


def _point(item: Mapping[str, Any], rng: random.Random) -> Any:
    if item["not_applicable"] and rng.random() < 0.1:
        return "not_applicable"
    return rng.randint(1, item["points"])


def _text(rng: random.Random, least: int, most: int) -> str:
    text = " ".join(rng.choice(WORDS) for _ in range(rng.randint(3, 12)))
    while len(text) < least:
        text += f" {rng.choice(WORDS)}"
    return text[:most].strip().ljust(least, ".")


def judgement(asked: dict[str, Any], left: int, right: int, prefers_longer: bool, rng: random.Random) -> dict[str, Any]:
    """Answer which of two replies, or chats, is better.

    Args:
        left: characters of the left one.
        right: characters of the right one.
    """
    further = {"tie": ["tie"], "both_bad": ["both_bad"], "both": ["tie", "both_bad"]}.get(asked["ties"], [])
    pick = rng.choice(["left", "right", *further])
    if prefers_longer and left != right:
        pick = "left" if left > right else "right"
    elif prefers_longer and "tie" in further:
        pick = "tie"
    levels = (asked["points"] - 1) // 2
    has_strength = pick in ("left", "right") and levels
    return {"pick": pick, "strength": rng.randint(1, levels) if has_strength else None, "reason": ""}
