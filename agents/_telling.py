"""Telling the replies of a batch while a language model writes them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

from model_chat.records.visible_text import is_blank

Tell = Callable[[str], None]
"""Called with the visible text so far; must not block."""
SECONDS_BETWEEN = 0.1
"""At least, once something was told: decoding takes time, and nobody is shown more."""


class ReplyTeller:
    """A logits processor for ``generate`` that changes no logits: it sees what each row of the batch has written so far.

    The streamers of ``transformers`` are for a batch of one. This one leaves the device alone between two looks.

    Args:
        tells: one a row, or None for a row of which nobody is told.
        so_far: makes the visible text of a row from its number and the tokens written, stop marks and padding after them
            included.
        padded_length: tokens of a row before the first that is written.
        clock: seconds.
    """

    def __init__(
        self,
        tells: Sequence[Tell | None],
        so_far: Callable[[int, list[int]], str],
        padded_length: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tells = {row: tell for row, tell in enumerate(tells) if tell is not None}
        self._told = dict.fromkeys(self._tells, "")
        self._so_far = so_far
        self._padded_length = padded_length
        self._clock = clock
        self._next = 0.0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Tell what is new, and return the scores as they are."""
        if input_ids.shape[1] > self._padded_length and self._clock() >= self._next:
            rows = input_ids[:, self._padded_length :].tolist()
            for row, tell in self._tells.items():
                text = self._so_far(row, rows[row])
                if text != self._told[row] and not is_blank(text):
                    self._told[row] = text
                    tell(text)
                    self._next = self._clock() + SECONDS_BETWEEN
        return scores
