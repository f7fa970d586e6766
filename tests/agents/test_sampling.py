"""How the next token is drawn."""

from __future__ import annotations

import pytest
import torch

from model_chat.agents._sampling import ReplySampler, SamplingSettings

NO_TRICKS = SamplingSettings(temperature=1.0, top_p=1.0, top_k=0, repetition_penalty=1.0)
PROBABILITIES = torch.tensor([[0.5, 0.3, 0.15, 0.05]])
LOGITS = PROBABILITIES.log()
NOTHING_SAID = torch.tensor([[0]])


def draws(settings: SamplingSettings, count: int, seed: int = 3) -> torch.Tensor:
    sampler = ReplySampler(settings, [seed], [1], never_penalised=())
    picked = torch.tensor([sampler(NOTHING_SAID, LOGITS).argmax().item() for _ in range(count)])
    return torch.bincount(picked, minlength=4) / count


def test_tokens_come_as_often_as_the_model_says() -> None:
    # 4,000 draws: the standard error of a share of 0.5 is sqrt(0.5 * 0.5 / 4000) = 0.008; four of them are allowed.
    assert torch.allclose(draws(NO_TRICKS, 4000), PROBABILITIES[0], atol=0.032)


def test_a_lower_temperature_leaves_less_to_chance() -> None:
    # At 0.5 probabilities are squared: 0.25, 0.09, 0.0225 and 0.0025 of 0.365.
    cooled = SamplingSettings(temperature=0.5, top_p=1.0, repetition_penalty=1.0)
    assert torch.allclose(draws(cooled, 4000), torch.tensor([0.685, 0.247, 0.062, 0.007]), atol=0.032)


def test_top_k_and_top_p_leave_only_the_most_probable() -> None:
    top_two = SamplingSettings(temperature=1.0, top_p=1.0, top_k=2, repetition_penalty=1.0)
    assert (draws(top_two, 500) > 0).tolist() == [True, True, False, False]
    # 0.5 alone is less than 0.79, 0.5 + 0.3 reaches it.
    nucleus = SamplingSettings(temperature=1.0, top_p=0.79, repetition_penalty=1.0)
    assert (draws(nucleus, 500) > 0).tolist() == [True, True, False, False]
    smallest = SamplingSettings(temperature=1.0, top_p=0.01, repetition_penalty=1.0)
    assert draws(smallest, 50).tolist() == [1, 0, 0, 0]


def test_top_p_holds_in_a_large_and_flat_vocabulary_too() -> None:
    # 3,000 tokens alike: 0.6 of the probability is 1,800 of them. The noise is finite, so what is left in can be counted.
    settings = SamplingSettings(temperature=1.0, top_p=0.6, repetition_penalty=1.0)
    scores = ReplySampler(settings, [0], [1], never_penalised=())(NOTHING_SAID, torch.zeros(1, 3000))
    assert 1798 <= int(scores.isfinite().sum()) <= 1802


def test_a_conversation_draws_the_same_whoever_is_in_its_batch() -> None:
    alone = ReplySampler(NO_TRICKS, [11], [1], never_penalised=())
    beside = ReplySampler(NO_TRICKS, [99, 11], [1, 1], never_penalised=())
    two_rows = torch.cat([LOGITS, LOGITS])
    for _ in range(20):
        both = beside(torch.tensor([[0], [0]]), two_rows)
        assert torch.equal(alone(NOTHING_SAID, LOGITS)[0], both[1])
        assert not torch.equal(both[0], both[1])


def test_what_was_said_becomes_less_likely_except_padding_and_marks_of_turns() -> None:
    settings = SamplingSettings(do_sample=False, repetition_penalty=2.0)
    sampler = ReplySampler(settings, [0], prompt_lengths=[2], never_penalised={3})
    sampler._padded_length = 4  # as with a longer row in the batch
    said = torch.tensor([[0, 0, 1, 3, 2]])  # two of padding, a prompt of 1 and 3, and 2 as the reply so far
    scores = sampler(said, torch.tensor([[4.0, 4.0, -4.0, 4.0]]))
    assert scores.tolist() == [[4.0, 2.0, -8.0, 4.0]]


@pytest.mark.parametrize(
    ("settings", "flag"),
    [
        (SamplingSettings(temperature=0.0), "--temperature"),
        (SamplingSettings(top_p=0.0), "--top-p"),
        (SamplingSettings(top_p=1.5), "--top-p"),
        (SamplingSettings(top_k=-1), "--top-k"),
        (SamplingSettings(repetition_penalty=-2.0), "--repetition-penalty"),
    ],
)
def test_a_setting_out_of_range_is_named(settings: SamplingSettings, flag: str) -> None:
    (fault,) = settings.faults()
    assert fault.startswith(flag)
