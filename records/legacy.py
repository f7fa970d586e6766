"""Older shapes of a saved conversation, turned into today's.

What is known to exist, all of it in records of the original task:

* `workers`, `hit_ids` and `assignment_ids` have an entry for the human and one for the model;
* January 2021: no `task_description`, the model's nickname is `workers[1]`, and `problem_data` may hold numbers that are
  no ticks (`turn_idx`);
* image chat: the dialog begins with the teacher's act about the image, which is nobody's utterance (no `agent_idx`);
* `personas` may be null; the final rating sits beside the text or inside `problem_data`, as a string or a number;
* the annotation of a model message may be on the human message after it (`problem_data_for_prior_message`).

None of this is written any more (:mod:`model_chat.records.schema`); all of it is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from model_chat.errors import ModelChatError
from model_chat.records.participation import PANELS
from model_chat.records.schema import HUMAN_ID, HUMAN_IDX, MODEL_ID, MODEL_IDX, RATING_SEPARATOR

LOWEST_RATING = 1
HIGHEST_RATING = 5
_RATING_KEY = "final_rating"
_PRIOR_KEY = "problem_data_for_prior_message"
_TRUE = frozenset({"true", "yes", "1", "on"})
_FALSE = frozenset({"false", "no", "0", "off", ""})
_ACT_KEYS = frozenset({"label_candidates", "labels", "eval_labels"})
"""Keys of an image teacher's act that no utterance has, beside those that begin with `image`."""
_AGENT_OF_ID = {HUMAN_ID: HUMAN_IDX, MODEL_ID: MODEL_IDX}


class MalformedError(ModelChatError, ValueError):
    """A conversation that can't be read; the message says where it goes wrong."""


def modernise(raw: object) -> dict[str, Any]:
    """Bring a loaded conversation of any known age into the one shape that is read.

    Returns:
        A new dictionary, shaped like :class:`model_chat.records.reading.ReadConversation`; ``raw`` is not changed.

    Raises:
        MalformedError: something that can't be guessed is missing or contradicts itself.
    """
    if not isinstance(raw, dict):
        raise MalformedError(f"a conversation is an object, not {_kind(raw)}")
    dialog, ratings, act = _dialog(raw.get("dialog"), is_image_chat=raw.get("image_idx") is not None)
    nickname = nickname_of(raw)
    if nickname is None:
        raise MalformedError("`task_description.model_nickname` is missing: the conversation names no model")
    worker = worker_of(raw)
    if worker is None:
        raise MalformedError("`workers` is empty: the conversation names no worker")
    violation = first_value(raw.get("acceptability_violations"))
    return {
        "dialog": dialog,
        "ratings": ratings,
        "worker_id": worker,
        "hit_id": first_value(raw.get("hit_ids")),
        "assignment_id": first_value(raw.get("assignment_ids")),
        "model_nickname": nickname,
        "acceptability_violation": violation,
        "bad_workers": [str(name) for name in _listed(raw.get("bad_workers")) if name is not None],
        "personas": _personas(raw.get("personas")),
        "context_dataset": raw.get("context_dataset"),
        "person1_seed_utterance": raw.get("person1_seed_utterance"),
        "person2_seed_utterance": raw.get("person2_seed_utterance"),
        "additional_context": raw.get("additional_context") or first_value(act.get("text")),
        "image_idx": raw.get("image_idx"),
        "conditions": raw.get("conditions"),
        "image_id": first_value(act.get("image_id")),
        "status": raw.get("status") or "complete",
        "reason": raw.get("reason"),
        "failed_generation": raw.get("failed_generation"),
        "comparisons": raw.get("comparisons"),
        "simulated": raw.get("simulated") is not None,
        "judged_conversation": raw.get("judged_conversation"),
        "ending": ending_of(raw),
        "raw": raw,
    }


def ending_of(raw: Mapping[str, Any]) -> str | None:
    """What a panel's participant was told at the end of a conversation; None for other providers, and in older files."""
    part = raw.get("participation")
    told = part.get("ending") if isinstance(part, dict) and part.get("provider") in PANELS else None
    return told if isinstance(told, str) else None


def described(raw: object, key: str) -> Any:
    """What a saved conversation's description of its task has under a key; None where the key is not there."""
    task = raw.get("task_description") if isinstance(raw, Mapping) else None
    return task.get(key) if isinstance(task, Mapping) else None


def nickname_of(raw: Mapping[str, Any]) -> str | None:
    """The nickname of the model that a conversation names; None when it names none."""
    nickname = described(raw, "model_nickname") or raw.get("model_nickname")
    if not nickname and raw.get("task_description") is None:
        workers = _listed(raw.get("workers"))
        nickname = workers[1] if len(workers) > 1 else None
    return nickname if isinstance(nickname, str) and nickname else None


def worker_of(raw: Mapping[str, Any]) -> str | None:
    """The id of the worker that a conversation names; None when it names none.

    The first entry of `workers` is the human's; after it, the model's nickname is no worker.
    """
    workers = _listed(raw.get("workers"))
    nickname = nickname_of(raw)
    return first_value([*workers[:1], *(entry for entry in workers[1:] if entry != nickname)])


def first_value(entries: object) -> str | None:
    """The first entry that holds something, as text.

    Older files list the human first and then the model, either of which may be null.

    Args:
        entries: a list, a single value, or None.

    Returns:
        The entry as text; None when there is none.
    """
    for entry in _listed(entries):
        if entry is not None and entry != "":
            return str(entry)
    return None


def as_bool(value: object) -> bool | None:
    """A tick as older files may write it: a boolean, 0 or 1, or a word.

    Returns:
        The boolean; None when ``value`` is no tick at all.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _TRUE:
            return True
        if word in _FALSE:
            return False
    return None


def ratings_of(value: object) -> list[int] | None:
    """The answers to the final rating question(s).

    Args:
        value: `"4"`, `"4|5"`, `4`, `4.0`, `[4, 5]`, or nothing (None, `""`).

    Returns:
        One whole number from 1 to 5 a question, in the questions' order; None when there is no answer.

    Raises:
        MalformedError: an answer is no whole number from 1 to 5.
    """
    if value is None or value == "" or value == []:
        return None
    answers: Iterable[object]
    if isinstance(value, str):
        answers = value.split(RATING_SEPARATOR)
    elif isinstance(value, list | tuple):
        answers = value
    else:
        answers = (value,)
    return [_rating(answer) for answer in answers]


def _rating(answer: object) -> int:
    if isinstance(answer, str | int | float) and not isinstance(answer, bool):
        try:
            number = float(answer)
        except (ValueError, OverflowError):  # words, or a whole number of hundreds of digits
            number = 0.0
        if LOWEST_RATING <= number <= HIGHEST_RATING and number == int(number):
            return int(number)
    shown = repr(answer)
    raise MalformedError(f"the final rating {shown[:40]} is no whole number from {LOWEST_RATING} to {HIGHEST_RATING}")


def _dialog(raw: object, is_image_chat: bool) -> tuple[list[dict[str, Any]], list[int] | None, dict[str, Any]]:
    """The utterances, the final ratings, and the act about the image ({} where there is none)."""
    if not isinstance(raw, list):
        raise MalformedError(f"`dialog` is a list of utterances, not {_kind(raw)}")
    if not raw:
        raise MalformedError("`dialog` is empty")
    dialog: list[dict[str, Any]] = []
    act: dict[str, Any] = {}
    rating: object = None
    for position, entry in enumerate(raw):
        if not isinstance(entry, dict):
            raise MalformedError(f"utterance {position} is an object, not {_kind(entry)}")
        if position == 0 and _is_image_act(entry, is_image_chat):
            act = entry
            continue
        utterance = dict(entry)
        found = utterance.pop(_RATING_KEY, None)
        labels = utterance.get("problem_data")
        if labels is not None:
            if not isinstance(labels, dict):
                raise MalformedError(f"`problem_data` of utterance {position} is an object, not {_kind(labels)}")
            if _RATING_KEY in labels:
                labels = dict(labels)
                inner = labels.pop(_RATING_KEY)
                found = inner if found in (None, "") else found
            utterance["problem_data"] = labels or None
        prior = utterance.pop(_PRIOR_KEY, None)
        if isinstance(prior, dict) and prior and dialog and not dialog[-1].get("problem_data"):
            dialog[-1]["problem_data"] = dict(prior)
        if found not in (None, "", []):
            rating = found
        if utterance.get("agent_idx") is None:
            utterance["agent_idx"] = _AGENT_OF_ID.get(str(utterance.get("id")))
        if "text" in utterance and utterance["text"] is None:
            utterance["text"] = ""
        dialog.append(utterance)
    if not dialog:
        raise MalformedError("`dialog` holds nothing but the image")
    return dialog, ratings_of(rating), act


def _is_image_act(entry: dict[str, Any], is_image_chat: bool) -> bool:
    """Whether the first entry of a dialog is what an image teacher said rather than an utterance of either side."""
    if entry.get("agent_idx") is not None:
        return False
    if any(key in _ACT_KEYS or key.startswith("image") for key in entry):
        return True
    return is_image_chat and str(entry.get("id")) not in _AGENT_OF_ID


def _personas(raw: object) -> list[list[str]] | None:
    """Persona lines, the human's first; a single string counts as one line."""
    if not raw:
        return None
    if not isinstance(raw, list | tuple):
        raise MalformedError(f"`personas` is a list with the lines of each side, not {_kind(raw)}")
    return [[str(line) for line in _listed(side) if line is not None] for side in raw]


def _listed(value: object) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, list | tuple):
        return list(value)
    return [value]


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "text", int: "a number", float: "a number", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), type(value).__name__)
