"""Comparisons of two models within one conversation: their flags, and the pairs that are to be compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

PER_TURN, PAIRED = "per_turn", "paired"
METHODS = (PER_TURN, PAIRED)
POINTS = (2, 3, 5, 7)
TIES = ("none", "tie", "both_bad", "both")
CONTINUE = ("pick", "random")
CONTINUED, BOTH = "continued", "both"
BOXES = (CONTINUED, BOTH)
SIDES = ("left", "right")
SEPARATOR = "|"
"""Between the two nicknames of a pair, in the flag and in the records."""


@dataclass(frozen=True)
class ComparisonSettings:
    """How two replies are compared; the same for all conversations of a run.

    Attributes:
        points: of the scale from the left reply to the right one: 2, 3, 5 or 7. The middle of an odd scale is a tie.
        ties: which answers there are beside the two replies: ``none``, ``tie``, ``both_bad`` or ``both``.
        continue_with: ``pick``: the conversation goes on with the reply that was picked; ``random``: with either.
        seed: of the sides, and of the reply that a conversation goes on with where no pick decides.
        is_paired: whole chats are compared: one with each model, one after the other.
        boxes: ``continued``: boxes are ticked for the reply that the conversation goes on with; ``both``: for both replies.
    """

    points: int = 2
    ties: str = "both"
    continue_with: str = "pick"
    reason: bool = False
    seed: int = 42
    is_paired: bool = False
    boxes: str = CONTINUED

    @property
    def levels(self) -> int:
        """How many degrees of "better" there are on each side; 0 where the scale has two points."""
        return (self.points - 1) // 2

    @property
    def allows_tie(self) -> bool:
        """Whether the worker may say that neither reply is better."""
        return self.ties in ("tie", "both")

    @property
    def allows_both_bad(self) -> bool:
        """Whether the worker may say that both replies are bad."""
        return self.ties in ("both_bad", "both")

    def for_page(self) -> dict[str, Any]:
        """What the page is told of it when it asks for a judgement."""
        return {
            "points": self.points,
            "ties": self.ties,
            "reason": self.reason,
            **({"boxes": True} if self.boxes == BOTH else {}),
        }

    def seed_of(self, assignment_id: str) -> str:
        """Return the seed of one conversation's draws, from what its record holds."""
        return f"{self.seed} {assignment_id}"

    @classmethod
    def of(cls, args: Any) -> ComparisonSettings | None:
        """Read the flags under ``mephisto.blueprint``; None where nothing is compared."""
        if args.comparison is None:
            return None
        return cls(
            args.comparison_points,
            args.comparison_ties,
            args.comparison_continue,
            args.comparison_reason,
            args.random_seed,
            args.comparison == PAIRED,
            args.comparison_boxes,
        )


def comparison_faults(prefix: str, args: Any) -> list[str]:
    """Say what is wrong with the flags of comparisons, one sentence each."""
    if args.comparison is None:
        return []
    found = []
    if args.comparison not in METHODS:
        found.append(
            f"{prefix}.comparison: '{args.comparison}' is not available; give {_one_of(METHODS)}, or leave the flag out to "
            "let each worker chat with one model."
        )
    for name, allowed in (
        ("comparison_points", POINTS),
        ("comparison_ties", TIES),
        ("comparison_continue", CONTINUE),
        ("comparison_boxes", BOXES),
    ):
        if args[name] not in allowed:
            found.append(f"{prefix}.{name}: '{args[name]}' is not available; give {_one_of(allowed)}.")
    if args.comparison_points in POINTS and args.comparison_points % 2 and args.comparison_ties in ("none", "both_bad"):
        found.append(
            f"{prefix}.comparison_ties: '{args.comparison_ties}' allows no tie, which is the middle of a scale of "
            f"{args.comparison_points} points; give tie or both, or {prefix}.comparison_points=2."
        )
    if args.comparison == PAIRED and args.comparison_continue == "random":
        found.append(
            f"{prefix}.comparison_continue: 'random' has no effect with {prefix}.comparison={PAIRED}, where no chat goes on "
            f"after a judgement; leave it out, or give {prefix}.comparison={PER_TURN}."
        )
    if args.comparison_boxes == BOTH and args.comparison == PAIRED:
        found.append(
            f"{prefix}.comparison_boxes: 'both' has no effect with {prefix}.comparison={PAIRED}, where boxes are ticked for "
            f"each reply of both chats; leave it out, or give {prefix}.comparison={PER_TURN}."
        )
    if args.comparison_boxes == BOTH and not args.annotations_config_path:
        found.append(
            f"{prefix}.comparison_boxes: 'both' needs boxes, and {prefix}.annotations_config_path is not set; give it the "
            "file of the boxes, or leave comparison_boxes out."
        )
    if args.stream_replies and not (args.reply_first_seconds > 0 and args.reply_chars_per_second > 0):
        found.append(
            f"{prefix}.stream_replies: replies of models that are compared must grow at one pace, or their speed shows "
            f"which model it is; give {prefix}.reply_first_seconds and {prefix}.reply_chars_per_second, or "
            "stream_replies=false."
        )
    return found


def _one_of(allowed: Iterable[Any]) -> str:
    *others, last = map(str, allowed)
    return f"{', '.join(others)} or {last}"


def models_of(nickname: str) -> tuple[str, ...]:
    """Return the nicknames of a pair, as it is written in the flag and in records; that of a single model alone."""
    return tuple(part.strip() for part in nickname.split(SEPARATOR))


def pair_key(nickname: str) -> frozenset[str] | str:
    """Return what is the same for ``a|b`` and ``b|a``; a single model's nickname as it is."""
    return frozenset(models_of(nickname)) if SEPARATOR in nickname else nickname


def pair_faults(flag: str, wanted: Iterable[str], prefix: str, args: Any) -> list[str]:
    """Say what is wrong with the pairs, or with pairs where no comparison is asked for; one sentence each.

    Args:
        wanted: what it names, such as ``a|b``.
    """
    found = []
    seen: dict[frozenset[str], str] = {}
    for entry in wanted:
        models = models_of(entry)
        if args.comparison is None:
            if len(models) > 1:
                found.append(
                    f"{flag}: '{entry}' is a pair of models, and nothing is compared; give "
                    f"{prefix}.comparison={_one_of(METHODS)}, or single nicknames."
                )
        elif len(models) != 2 or not all(models):
            found.append(
                f"{flag}: '{entry}' is not a pair of models; with comparison={args.comparison} write it as "
                "nickname|nickname."
            )
        elif models[0] == models[1] and not args.comparison_allow_self:
            found.append(
                f"{flag}: '{entry}' compares a model with itself; name two models, or give "
                f"{prefix}.comparison_allow_self=true."
            )
        elif (same := seen.setdefault(frozenset(models), entry)) != entry:
            found.append(f"{flag}: '{entry}' and '{same}' are one pair; give it once, with the sum of the counts.")
    return found


def models_named(wanted: Iterable[str], is_compared: bool) -> list[str]:
    """Return the models that are needed, each once."""
    named = (model for entry in wanted for model in (models_of(entry) if is_compared else (entry,)))
    return list(dict.fromkeys(filter(None, named)))


def counted_as_named(done: Mapping[str, int], needed: Iterable[str]) -> dict[str, int]:
    """Return what is collected under the names that are asked for: ``b|a`` is the pair ``a|b``.

    Args:
        done: nickname, or pair -> conversations.
    """
    names = {pair_key(entry): entry for entry in needed}
    counted: dict[str, int] = {}
    for name, count in done.items():
        known = names.get(pair_key(name), name)
        counted[known] = counted.get(known, 0) + count
    return counted
