"""Replies that a real Hugging Face model tells while it writes them, alone and in batches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from parlai.core.message import Message

from model_chat.agents import _chat_model, _telling
from model_chat.agents._reply_text import begins_inside_thoughts, without_open_thoughts
from model_chat.agents._telling import SECONDS_BETWEEN, ReplyTeller
from model_chat.serving.batching import Asked
from model_chat.serving.loading import LoadedModel
from model_chat.serving.pool import ModelPool
from model_chat.tests.agents import tiny_models
from model_chat.tests.agents.test_hugging_face import agent

WRITTEN: list[list[int]] = []
"""What a model is made to write, a row each."""


class Dictated:
    """In place of the sampler: each row takes the tokens that a test wants, and then the end of its turn."""

    def __init__(self, *settings: Any, **more: Any) -> None:
        self._step = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        forced = torch.full_like(scores, -torch.inf)
        for row, tokens in enumerate(WRITTEN[: len(scores)]):
            forced[row, tokens[self._step] if self._step < len(tokens) else 0] = 0.0
        self._step += 1
        return forced


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoadedModel]:
    """A model of bytes, so that letters take several tokens, which writes what it is told to."""
    tokenizer = tiny_models.byte_tokenizer()
    tiny_models.llama(vocab_size=len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    monkeypatch.setattr(_telling, "SECONDS_BETWEEN", 0.0)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    loaded = LoadedModel("m", agent(tmp_path, max_new_tokens=60), None)
    monkeypatch.setattr(_chat_model, "ReplySampler", Dictated)
    yield loaded
    torch.set_num_threads(before)


def dictate(model: LoadedModel, *texts: str) -> None:
    tokenizer = model.agent._chat_model._tokenizer
    WRITTEN[:] = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]


def ask(model: LoadedModel, told: list[str] | None, clone: Any = None) -> Asked:
    hello = Message({"id": "Speaker 1", "text": "Hello", "episode_done": False})
    return Asked(clone or model.clone(), [hello], None if told is None else told.append)


def test_each_conversation_of_a_batch_is_told_its_own_reply_and_never_half_a_character(model: LoadedModel) -> None:
    texts = ["Tea 茶 and 😀 are ok.", "Hi.", "<think>Hm, 2 < 3</think>Yes <b>", ""]
    dictate(model, *texts)
    told: list[list[str]] = [[] for _ in texts]
    acts = model.answer([ask(model, each) for each in told])
    assert [act["text"] for act in acts] == [texts[0], "Hi.", "Yes <b>", ""]
    assert [each[-1:] for each in told] == [[texts[0]], ["Hi."], ["Yes <b>"], []]
    for each, act in zip(told, acts, strict=True):
        assert all(act["text"].startswith(text) for text in each)
        assert each == sorted(set(each), key=len), "each longer than the one before"
    assert told[0][:6] == ["T", "Te", "Tea", "Tea 茶", "Tea 茶 a", "Tea 茶 an"]
    assert told[2][:2] == ["Y", "Ye"]


def test_one_conversation_alone_is_told_too(model: LoadedModel) -> None:
    dictate(model, "I like tea.")
    told: list[str] = []
    (act,) = model.answer([ask(model, told)])
    assert act["text"] == told[-1] == "I like tea."


def test_those_who_want_to_know_are_told_beside_those_who_do_not(model: LoadedModel) -> None:
    dictate(model, "One.", "Two.")
    told: list[str] = []
    acts = model.answer([ask(model, None), ask(model, told)])
    assert [act["text"] for act in acts] == ["One.", "Two."]
    assert told[-1] == "Two."


def test_nobody_is_told_a_later_reply_who_did_not_ask_for_it(model: LoadedModel) -> None:
    clone, told = model.clone(), list[str]()
    dictate(model, "One.")
    model.answer([ask(model, told, clone)])
    count = len(told)
    dictate(model, "Two.")
    (act,) = model.answer([ask(model, None, clone)])
    (again,) = model.answer([Asked(clone, [])])
    assert (act["text"], again["text"]) == ("Two.", "Two.")
    assert len(told) == count


def test_a_pool_passes_the_text_on(model: LoadedModel) -> None:
    dictate(model, "I like tea.")
    told: list[str] = []
    asked = ask(model, None)
    act = ModelPool([model], 1, 60).reply("m", asked.clone, asked.observations, told.append)
    assert act["text"] == told[-1] == "I like tea."


def test_telling_changes_no_reply(tmp_path: Path) -> None:
    root = agent(tiny_models.save(tmp_path), do_sample=True, hf_seed=7, max_new_tokens=30)
    model, told = LoadedModel("m", root, None), list[str]()
    with_tell = [act["text"] for act in model.answer([ask(model, told), ask(model, None)])]
    without = [act["text"] for act in model.answer([ask(model, None), ask(model, None)])]
    assert with_tell == without
    assert told


def test_a_batch_that_is_tried_again_one_by_one_is_told_anew(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    dictate(model, "One.", "Two.")
    real = type(model.agent).batch_act

    def fails_together(self: Any, observations: Any) -> Any:
        acts = real(self, observations)
        if len(observations) > 1:
            raise MemoryError("on purpose")
        return acts

    monkeypatch.setattr(type(model.agent), "batch_act", fails_together)
    told: list[str] = []
    acts = model.answer([ask(model, told), ask(model, None)])
    assert [act["text"] for act in acts] == ["One.", "One."], "alone, each is the first row"
    assert told.count("O") == 2


def test_between_two_looks_passes_some_time() -> None:
    now, looks, told = [0.0], list[int](), list[str]()

    def so_far(row: int, tokens: list[int]) -> str:
        looks.append(row)
        return "x" * (len(tokens) - 2) if len(tokens) > 2 else ""

    teller = ReplyTeller([None, told.append], so_far, 3, clock=lambda: now[0])
    scores = torch.zeros(2, 5)
    for written in range(6):
        assert teller(torch.zeros(2, 3 + written, dtype=torch.long), scores) is scores
    assert looks == [1] * 3, "of those who are told, at each step until something was told"
    assert told == ["x"]
    now[0] = SECONDS_BETWEEN
    teller(torch.zeros(2, 9, dtype=torch.long), scores)
    assert told == ["x", "xxxx"]


@pytest.mark.parametrize(
    ("text", "inside", "shown"),
    [
        ("Hm, what", True, ""),
        ("Hm, what</thi", True, ""),
        ("Hm, what</think>Yes", True, "Yes"),
        ("Yes <thi", False, "Yes "),
        ("Yes <3", False, "Yes <3"),
    ],
)
def test_thoughts_that_the_template_opens_are_not_told(text: str, inside: bool, shown: str) -> None:
    assert without_open_thoughts(text, inside) == shown


@pytest.mark.parametrize(
    ("text", "begins"),
    [("Hm.</think>Yes", True), ("<think>Hm.</think>Yes", False), ("Yes", False), ("<think>a</think>b</think>c", True)],
)
def test_thoughts_that_were_closed_but_not_opened_are_seen(text: str, begins: bool) -> None:
    assert begins_inside_thoughts(text) is begins
