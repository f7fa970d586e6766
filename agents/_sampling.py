"""Sampling of the next token, for several conversations at once with independent randomness."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class SamplingSettings:
    """How tokens are chosen.

    Attributes:
        do_sample: draw tokens by chance; False takes the most probable one each time.
        temperature: what logits are divided by before drawing, above 0.
        top_p: draw from the fewest most probable tokens whose probabilities add up to this, above 0, up to 1.
        top_k: draw from that many most probable tokens at most; 0 is no limit.
        repetition_penalty: how much less likely tokens become that have been said before; 1 is not at all.
    """

    do_sample: bool = True
    temperature: float = 0.7
    top_p: float = 0.9
    top_k: int = 0
    repetition_penalty: float = 1.1

    def faults(self) -> list[str]:
        """Say what is out of range, one sentence each."""
        found = []
        if not self.temperature > 0:
            found.append(f"--temperature must be above 0, not {self.temperature}; greedy choice is --do-sample False.")
        if not 0 < self.top_p <= 1:
            found.append(f"--top-p must be above 0 and at most 1, not {self.top_p}; 1 switches it off.")
        if self.top_k < 0:
            found.append(f"--top-k must be at least 0, not {self.top_k}; 0 switches it off.")
        if not self.repetition_penalty > 0:
            found.append(f"--repetition-penalty must be above 0, not {self.repetition_penalty}; 1 switches it off.")
        return found


class ReplySampler:
    """Turns logits into scores whose largest is the token to take; a logits processor for ``generate``.

    The draw itself is in the scores: to each logit is added noise from the Gumbel distribution, and the largest sum is a
    draw from the softmax of the logits (Gumbel 1954; Maddison et al., "A* Sampling", 2014). So each conversation of a
    batch has its own random numbers: its replies don't depend on which others are in the batch, nor on other threads.

    Args:
        settings: how tokens are chosen, in all rows of the batch or one a row.
        prompt_lengths: how many tokens of each row, from the right end of the prompt, are no padding.
        never_penalised: tokens that the repetition penalty leaves alone: the marks of turns, without which a reply ends
            later the longer the conversation is.
    """

    def __init__(
        self,
        settings: SamplingSettings | Sequence[SamplingSettings],
        seeds: Sequence[int],
        prompt_lengths: Sequence[int],
        never_penalised: Collection[int],
    ) -> None:
        import torch

        rows = [settings] * len(seeds) if isinstance(settings, SamplingSettings) else list(settings)
        self._generators = [
            torch.Generator().manual_seed(seed) if row.do_sample else None
            for row, seed in zip(rows, seeds, strict=True)
        ]
        self._draws = any(row.do_sample for row in rows)
        self._is_drawn = _column([row.do_sample for row in rows])
        self._temperature = _column([row.temperature for row in rows])
        self._penalty = _column([row.repetition_penalty for row in rows])
        self._penalises = any(row.repetition_penalty != 1 for row in rows)
        # What a greedy row says of the draw is without effect, and must not cost its batch anything.
        self._top_k = [row.top_k if row.do_sample else 0 for row in rows]
        self._top_p = [row.top_p if row.do_sample else 1.0 for row in rows]
        self._padded_length = max(prompt_lengths)
        self._prompt_lengths = prompt_lengths
        self._never_penalised = torch.tensor(sorted(never_penalised), dtype=torch.long)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return the scores; both arguments have a row for each conversation."""
        scores = scores.float()
        if self._penalises:
            scores = self._penalised(input_ids, scores)
        return self._drawn(scores) if self._draws else scores

    def _penalised(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        # As in CTRL (Keskar et al., 2019): positive logits are divided, negative ones multiplied.
        import torch

        said = torch.zeros_like(scores, dtype=torch.bool)
        for row, length in enumerate(self._prompt_lengths):
            said[row, input_ids[row, self._padded_length - length :]] = True
        said[:, self._never_penalised.to(said.device)] = False
        penalty = self._penalty = self._penalty.to(scores.device)
        return torch.where(said, torch.where(scores > 0, scores / penalty, scores * penalty), scores)

    def _drawn(self, given: torch.Tensor) -> torch.Tensor:
        import torch

        size = given.shape[-1]
        self._temperature = self._temperature.to(given.device)
        self._is_drawn = self._is_drawn.to(given.device)
        scores = given / self._temperature
        limits = [top_k if 0 < top_k < size else size for top_k in self._top_k]
        if min(limits) < size:
            ordered = torch.topk(scores, max(limit for limit in limits if limit < size)).values
            for row, limit in enumerate(limits):
                if limit < size:
                    scores[row] = scores[row].masked_fill(scores[row] < ordered[row, limit - 1], -torch.inf)
        if min(self._top_p) < 1:
            scores = _nucleus(scores, self._top_p)
        uniform = torch.stack(
            [
                torch.full((size,), 0.5) if each is None else torch.rand(size, generator=each)
                for each in self._generators
            ]
        )
        tiny = torch.finfo(torch.float32).tiny  # torch.rand can be 0, whose logarithm is not finite
        gumbel = -torch.log(-torch.log(uniform.clamp(min=tiny)))
        return torch.where(self._is_drawn, scores + gumbel.to(scores.device), given)


class ReplyEnds:
    """Ends each row of a batch at a token of its own, or at its own length; a stopping criterion for ``generate``.

    Args:
        limits: how many tokens each row's reply may have; at least 1.
        prompt_length: tokens of a prompt, padding included.
    """

    def __init__(self, stop_ids: Sequence[Collection[int]], limits: Sequence[int], prompt_length: int) -> None:
        import torch

        most = max(map(len, stop_ids))
        self._stops = torch.tensor([[*sorted(ids), *[-1] * (most - len(ids))] for ids in stop_ids], dtype=torch.long)
        self._lengths = torch.tensor([prompt_length + limit for limit in limits])

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        """Return which rows have ended with their last token."""
        self._stops, self._lengths = self._stops.to(input_ids.device), self._lengths.to(input_ids.device)
        stopped: torch.Tensor = (input_ids[:, -1:] == self._stops).any(dim=1)
        return stopped | (input_ids.shape[1] >= self._lengths)


def _column(values: Sequence[float]) -> torch.Tensor:
    """A value for each row, as a column that is broadcast over the vocabulary."""
    import torch

    return torch.tensor(values).unsqueeze(1)


def _nucleus(scores: torch.Tensor, top_p: Sequence[float]) -> torch.Tensor:
    """Leave each row only its fewest most probable tokens that have the probability ``top_p[row]`` together; all for 1."""
    import torch

    size = scores.shape[-1]
    share = _column(top_p).to(scores.device)
    is_cut = share < 1
    total = scores.logsumexp(dim=-1, keepdim=True)
    # Sorting a whole vocabulary takes ten times as long as finding the first thousand, which nearly always suffice.
    for count in (min(1000, size), size):
        ordered, places = torch.topk(scores, count)
        probabilities = (ordered - total).exp()
        reached = probabilities.cumsum(dim=-1)
        if count == size or bool(((reached[:, -1:] >= share) | ~is_cut).all()):
            break
    # Out is what comes after the share is reached: the first token always stays.
    kept = ordered.masked_fill(reached - probabilities >= share, -torch.inf)
    return torch.where(is_cut, torch.full_like(scores, -torch.inf).scatter(1, places, kept), scores)
