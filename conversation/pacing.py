"""The pace of replies: how much of one may be shown when, and when it may be sent whole. Computed from times alone.

Replies of all models of a run start and flow alike, so that a faster server is not rated instead of a better model: how long
a reply takes changes its rating (Tan et al., CHI 2026, arXiv 2604.06183).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

MAX_FIRST_SECONDS = 60.0
MIN_CHARS_PER_SECOND, MAX_CHARS_PER_SECOND = 1.0, 1000.0
TOLERANCE_SECONDS = 0.1
"""How much later than the pace a reply may be and still count as paced."""


@dataclass(frozen=True)
class ReplyDelivery:
    """How replies reach the page; the same for all models of a run.

    Attributes:
        stream: whether the page is shown a reply while it grows.
        first_seconds: from the worker's message to the beginning of the reply; 0: as it comes.
        chars_per_second: characters (code points) that a reply grows by; 0: as it comes.
    """

    stream: bool = False
    first_seconds: float = 0.0
    chars_per_second: float = 0.0

    @property
    def has_pace(self) -> bool:
        """Whether replies are held back at all."""
        return self.first_seconds > 0 or self.chars_per_second > 0

    @classmethod
    def of(cls, args: Any) -> ReplyDelivery:
        """Read the flags under ``mephisto.blueprint``."""
        return cls(bool(args.stream_replies), float(args.reply_first_seconds), float(args.reply_chars_per_second))


AS_IT_COMES = ReplyDelivery()


def delivery_faults(prefix: str, args: Any) -> list[str]:
    """Say what is wrong with the flags of the pace, one sentence each; numbers that are not finite are said elsewhere."""
    found = []
    first, rate = args.reply_first_seconds, args.reply_chars_per_second
    if math.isfinite(first) and not 0 <= first <= MAX_FIRST_SECONDS:
        found.append(
            f"{prefix}.reply_first_seconds: {first:g} is out of range; give seconds from 0 (as it comes) to "
            f"{MAX_FIRST_SECONDS:g}."
        )
    elif math.isfinite(first) and first > 0 and first >= args.max_model_response_time >= 1:
        found.append(
            f"{prefix}.reply_first_seconds: {first:g} s is not less than {prefix}.max_model_response_time "
            f"({args.max_model_response_time} s), after which a model counts as failed; lower the first or raise the second."
        )
    if math.isfinite(rate) and rate != 0 and not MIN_CHARS_PER_SECOND <= rate <= MAX_CHARS_PER_SECOND:
        found.append(
            f"{prefix}.reply_chars_per_second: {rate:g} is out of range; give 0 (as it comes), or {MIN_CHARS_PER_SECOND:g} "
            f"to {MAX_CHARS_PER_SECOND:g}."
        )
    return found


class ReplyFlow:
    """How much of one reply may be shown at a time.

    The first character is due ``first_seconds`` after the worker's message, or, where that is 0, when it comes; each
    further one a moment later. Where the model has nothing to show at that time, the rest of the reply is late by as much:
    it never flows faster to catch up. A reply that is not streamed is due when it would have been complete at the pace.

    Times are seconds on one clock, and must not go back.
    """

    def __init__(self, delivery: ReplyDelivery, asked_at: float) -> None:
        self._delivery = delivery
        self._rate = delivery.chars_per_second
        self._start = asked_at + delivery.first_seconds
        self._begun = False
        self._length = 0
        # From `_anchor` on, characters follow `_anchor_chars` at the pace.
        self._anchor, self._anchor_chars = self._start, 0
        self._late = 0.0

    def grow(self, length: int, now: float, kept: int | None = None) -> None:
        """Take note that the text now has so many characters.

        Args:
            length: of all that there is; a text without characters is none.
            kept: characters at the beginning that are as before; None: all of them. What was shown of the rest is replaced,
                and flows again.
        """
        if length <= 0 and not self._begun:
            return
        if not self._begun:
            self._begin(now)
        elif self._rate:
            shown = self._due_chars(now)
            if kept is not None and kept < min(shown, self._length):
                self._late += (min(shown, self._length) - kept) / self._rate + self._dry_seconds(now)
                self._anchor, self._anchor_chars = now, kept
            elif (dry := self._dry_seconds(now)) > 0 and length > self._length:
                self._late += dry
                self._anchor, self._anchor_chars = now, self._length
        self._length = length

    def _begin(self, now: float) -> None:
        self._begun = True
        if self._delivery.stream or not self._rate:
            if self._delivery.first_seconds:
                self._late = max(0.0, now - self._start)
            self._anchor = max(now, self._start)

    def _dry_seconds(self, now: float) -> float:
        """How long everything that there is has been due."""
        return max(0.0, now - self.due())

    def _due_chars(self, now: float) -> int:
        """How many characters the pace allows at a time, whether or not they are there."""
        # The first is due at the anchor itself; a hair more than a multiple, for sums of floats.
        return self._anchor_chars + 1 + int((now - self._anchor) * self._rate + 1e-6) if now >= self._anchor else 0

    def visible(self, now: float) -> int:
        """Return how many characters may be shown at a time."""
        if not self._begun or now < self._anchor:
            return self._anchor_chars if self._begun else 0
        return min(self._length, self._due_chars(now)) if self._rate else self._length

    def due(self) -> float:
        """Return when all of the text that there is may have been shown."""
        flow = (self._length - self._anchor_chars) / self._rate if self._rate else 0.0
        return self._anchor + flow

    def finish(self, length: int, now: float, kept: int | None = None) -> float:
        """Take note of the whole reply; return when it may be sent."""
        self.grow(length, now, kept)
        if self._rate:
            self._late += self._dry_seconds(now)  # the text was there in time, but not its end
        return max(now, self.due())

    @property
    def paced(self) -> bool | None:
        """Whether the reply has kept the pace so far; None where none is set."""
        return self._late <= TOLERANCE_SECONDS if self._delivery.has_pace else None
