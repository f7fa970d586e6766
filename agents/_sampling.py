"""Sampling of the next token, for several conversations at once with independent randomness."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
        settings: how tokens are chosen.
        seeds: one a row of the batch.
        prompt_lengths: how many tokens of each row, from the right end of the prompt, are no padding.
        never_penalised: tokens that the repetition penalty leaves alone: the marks of turns, without which a reply ends
            later the longer the conversation is.
    """

    def __init__(
        self,
        settings: SamplingSettings,
        seeds: Sequence[int],
        prompt_lengths: Sequence[int],
        never_penalised: Collection[int],
    ) -> None:
        import torch

        self._settings = settings
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._padded_length = max(prompt_lengths)
        self._prompt_lengths = prompt_lengths
        self._never_penalised = torch.tensor(sorted(never_penalised), dtype=torch.long)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return the scores; both arguments have a row for each conversation."""
        scores = scores.float()
        if self._settings.repetition_penalty != 1:
            scores = self._penalised(input_ids, scores)
        return self._drawn(scores) if self._settings.do_sample else scores

    def _penalised(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        # As in CTRL (Keskar et al., 2019): positive logits are divided, negative ones multiplied.
        import torch

        said = torch.zeros_like(scores, dtype=torch.bool)
        for row, length in enumerate(self._prompt_lengths):
            said[row, input_ids[row, self._padded_length - length :]] = True
        said[:, self._never_penalised.to(said.device)] = False
        penalty = self._settings.repetition_penalty
        return torch.where(said, torch.where(scores > 0, scores / penalty, scores * penalty), scores)

    def _drawn(self, scores: torch.Tensor) -> torch.Tensor:
        import torch

        scores = scores / self._settings.temperature
        if 0 < self._settings.top_k < scores.shape[-1]:
            least = torch.topk(scores, self._settings.top_k).values[:, -1:]
            scores = scores.masked_fill(scores < least, -torch.inf)
        if self._settings.top_p < 1:
            scores = _nucleus(scores, self._settings.top_p)
        uniform = torch.stack([torch.rand(scores.shape[-1], generator=each) for each in self._generators])
        tiny = torch.finfo(torch.float32).tiny  # torch.rand can be 0, whose logarithm is not finite
        gumbel = -torch.log(-torch.log(uniform.clamp(min=tiny)))
        return scores + gumbel.to(scores.device)


def _nucleus(scores: torch.Tensor, top_p: float) -> torch.Tensor:
    """Leave each row only its fewest most probable tokens that have the probability ``top_p`` together."""
    import torch

    size = scores.shape[-1]
    total = scores.logsumexp(dim=-1, keepdim=True)
    # Sorting a whole vocabulary takes ten times as long as finding the first thousand, which nearly always suffice.
    for count in (min(1000, size), size):
        ordered, places = torch.topk(scores, count)
        probabilities = (ordered - total).exp()
        reached = probabilities.cumsum(dim=-1)
        if count == size or bool((reached[:, -1] >= top_p).all()):
            break
    # Out is what comes after the share is reached: the first token always stays.
    kept = ordered.masked_fill(reached - probabilities >= top_p, -torch.inf)
    return torch.full_like(scores, -torch.inf).scatter(1, places, kept)
