"""Several nicknames over one set of weights, with the Hugging Face agent."""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from parlai.core.message import Message

from model_chat.agents._prompt_cache import PromptCache
from model_chat.agents._weights import LoadedWeights, Weights
from model_chat.errors import ConfigurationError
from model_chat.serving.batching import Asked, reply_together
from model_chat.serving.catalogue import ModelSource
from model_chat.serving.loading import LoadedModel, load_model
from model_chat.serving.pool import ModelPool
from model_chat.tests.agents import tiny_models
from model_chat.tests.agents.test_hugging_face import agent, clone, say
from model_chat.tests.agents.tiny_models import AGENT

TEXTS = ("Hello there.", "What a day! And what do you do?", "Hm.")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def together(agents: list[Any], texts: list[str]) -> list[str]:
    """Let a conversation with each agent hear a text, and answer all in one batch of the first agent's."""
    batch = [
        Asked(clone(each), [{"text": text, "episode_done": False}]) for each, text in zip(agents, texts, strict=True)
    ]
    calls = []
    hook = agents[0]._chat_model._model.register_forward_hook(lambda _, __, out: calls.append(out.logits.shape[0]))
    acts = reply_together(agents[0], batch)
    hook.remove()
    assert set(calls) == {len(batch)}, "one batch"
    return [act["text"] for act in acts]


# --- which weights are the same ---


def test_characters_of_one_model_share_its_weights(folder: Path) -> None:
    agents = [
        agent(folder),
        agent(folder, system_prompt="Be rude.", do_sample=True, temperature=2.0, max_new_tokens=3),
        agent(folder, prompt_cache_mb=0, chat_template_args='{"enable_thinking": true}'),
        agent(folder, hf_dtype="float32", hf_device="cpu"),  # what auto means without a GPU
    ]
    assert len({id(each.shared_weights) for each in agents}) == 1
    parameters = {each.data_ptr() for made in agents for each in made._chat_model._model.parameters()}
    assert len(parameters) == len(list(agents[0]._chat_model._model.parameters()))


def test_the_way_to_the_files_does_not_matter(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").symlink_to(folder)
    beside = tmp_path / "beside"
    beside.mkdir()
    for file in folder.iterdir():
        (beside / file.name).symlink_to(file)
    (beside / "model.opt").write_text("{}", encoding="utf-8")
    first = agent(folder)
    assert agent(tmp_path / "folder").shared_weights is first.shared_weights
    assert agent(Path(os.path.relpath(folder))).shared_weights is first.shared_weights
    assert agent(beside, hf_model=None, model_file=str(beside / "model")).shared_weights is first.shared_weights


def test_a_gguf_file_is_shared(tmp_path: Path) -> None:
    file = tmp_path / "tiny.gguf"
    tiny_models.write_gguf(file, tiny_models.llama())
    first = agent(tmp_path, hf_model=None, gguf_file=str(file))
    named = [agent(tmp_path, gguf_file="tiny.gguf"), agent(tmp_path, hf_model=str(file), system_prompt="Be rude.")]
    assert all(each.shared_weights is first.shared_weights for each in named)


def test_another_number_format_or_other_files_are_other_weights(folder: Path, tmp_path: Path) -> None:
    first = agent(folder)
    assert agent(folder, hf_dtype="bfloat16").shared_weights is not first.shared_weights
    assert agent(tiny_models.save(tmp_path / "copy")).shared_weights is not first.shared_weights


def test_a_model_that_was_replaced_is_loaded_again(tmp_path: Path) -> None:
    tiny_models.save(tmp_path)
    before = agent(tmp_path)
    tiny_models.save(tmp_path, tiny_models.mute())
    after = agent(tmp_path)
    assert say(clone(before), "Hello") != ""
    assert say(clone(after), "Hello") == ""


def test_weights_that_nobody_holds_are_not_kept() -> None:
    def load() -> Weights:
        return Weights(None, None, (), PromptCache(0))

    loaded = LoadedWeights()
    gone = weakref.ref(loaded.get("a", load))
    gc.collect()
    assert gone() is None
    held = loaded.get("a", load)
    assert loaded.get("a", load) is held
    assert loaded.get("b", load) is not held


def test_weights_that_cannot_be_loaded_are_tried_again() -> None:
    loaded, made = LoadedWeights(), Weights(None, None, (), PromptCache(0))

    def fail() -> Weights:
        raise ConfigurationError("no")

    with pytest.raises(ConfigurationError):
        loaded.get("a", fail)
    assert loaded.get("a", lambda: made) is made


# --- replies ---


def test_a_batch_across_characters_says_what_each_says_alone(folder: Path) -> None:
    agents = [
        agent(folder, system_prompt="Be kind."),
        agent(folder, system_prompt="You are a grumpy old sailor who hates small talk."),
        agent(folder, system_prompt="", max_new_tokens=5),
        agent(folder, system_prompt="Be brief.", repetition_penalty=1.7),
    ]
    for text in TEXTS:
        alone = [say(clone(each), text) for each in agents]
        assert len(set(alone)) > 1
        assert together(agents, [text] * 4) == alone


def test_every_row_of_a_batch_has_its_own_sampling(folder: Path) -> None:
    chance = {"do_sample": True, "hf_seed": 3, "repetition_penalty": 1.3}
    agents = [
        agent(folder),
        agent(folder, **chance, temperature=3.0, top_p=1.0),
        agent(folder, **chance, temperature=0.3, top_p=0.5, max_new_tokens=7),
        agent(folder, **chance, temperature=2.0, top_p=0.8, top_k=5),
        agent(folder, **chance, temperature=2.0, top_p=1.0, top_k=1, max_new_tokens=40),
    ]
    for text in TEXTS:
        assert together(agents, [text] * 5) == [say(clone(each), text) for each in agents]


def test_a_reply_keeps_its_own_length_and_ending(folder: Path) -> None:
    short, long = agent(folder, max_new_tokens=4), agent(folder, max_new_tokens=30)
    batch = [Asked(clone(each), [{"text": "Hello", "episode_done": False}]) for each in (short, long)]
    acts = reply_together(long, batch)
    assert [act["generation"]["completion_tokens"] for act in acts] == [4, 30]
    assert acts[1]["text"].startswith(acts[0]["text"])


def test_characters_with_templates_of_their_own_end_at_their_own_marks(folder: Path, tmp_path: Path) -> None:
    # With the second template a turn ends with <|endoftext|>, which is an ordinary token to the first.
    template = tmp_path / "template.jinja"
    template.write_text(tiny_models.CHATML.replace("<|im_end|>\n", "<|endoftext|>"), encoding="utf-8")
    first, second = agent(folder), agent(folder, chat_template=str(template))
    assert first.shared_weights is second.shared_weights
    assert first._chat_model._stop_ids != second._chat_model._stop_ids
    for text in TEXTS:
        assert together([first, second, first], [text] * 3) == [
            say(clone(each), text) for each in (first, second, first)
        ]


def test_what_was_read_for_one_character_is_used_for_another_only_where_it_is_the_same(folder: Path) -> None:
    prompts = ["You love hiking.", "You love hiking and cats.", "Nobody likes you."]
    keeping = [agent(folder, system_prompt=prompt, prompt_cache_mb=64) for prompt in prompts]
    reading = [agent(folder, system_prompt=prompt, prompt_cache_mb=0) for prompt in prompts]
    talks = [(clone(one), clone(other)) for one, other in zip(keeping, reading, strict=True)]
    for text in TEXTS:
        for with_cache, without in talks:
            assert say(with_cache, text) == say(without, text)


def test_a_character_without_a_prompt_cache_keeps_nothing(folder: Path) -> None:
    keeping, without = agent(folder, prompt_cache_mb=64), agent(folder, prompt_cache_mb=0)
    kept = without.shared_weights.cache._kept
    before = len(kept)
    silent = clone(without)
    say(silent, "Hello")
    assert len(kept) == before
    speaker = clone(keeping)
    say(speaker, "Hello")
    assert len(kept) == before + 1


def test_a_prompt_without_room_fails_alone(folder: Path) -> None:
    fine, narrow = agent(folder), agent(folder, max_prompt_tokens=40, system_prompt="")
    full = clone(narrow)
    full.observe({"text": "your persona: " + "I talk a lot. " * 20, "episode_done": False})
    batch = [
        Asked(clone(fine), [{"text": "Hello", "episode_done": False}]),
        Asked(full, [{"text": "Hello", "episode_done": False}]),
    ]
    first, second = reply_together(fine, batch)
    assert first["text"] == say(clone(fine), "Hello")
    assert isinstance(second, ValueError)


# --- through the pool ---

CHARACTERS = {
    "kind": "--system-prompt 'Be kind.' --do-sample False",
    "rude": "--system-prompt 'Be rude, and never say that you are sorry.' --do-sample False --max-new-tokens 9",
    "wild": "--system-prompt '' --temperature 1.5 --top-p 0.95 --hf-seed 4",
    "sure": "--system-prompt 'Be sure.' --temperature 0.6 --top-k 4 --repetition-penalty 1.4 --hf-seed 5",
}


def characters(folder: Path) -> list[LoadedModel]:
    flags = f"--model {AGENT} --hf-model {folder} --whole-sentences False"
    return [load_model(ModelSource(name, flags=f"{flags} {own}"), False) for name, own in CHARACTERS.items()]


def conversation(pool: ModelPool, nickname: str, number: int) -> list[str]:
    speaker = pool.model(nickname).clone()
    said = [{"text": f"{number}: {text}", "episode_done": False} for text in TEXTS]
    return [pool.reply(nickname, speaker, [Message(message)])["text"] for message in said]


def test_conversations_of_four_characters_are_the_same_together_and_one_by_one(folder: Path) -> None:
    models = characters(folder)
    talks = [(list(CHARACTERS)[number % 4], number) for number in range(16)]
    alone = ModelPool(models, 1, 60, max_batch_size=1)
    expected = [conversation(alone, *talk) for talk in talks]
    alone.shutdown()
    rows: list[int] = []
    models[0].agent._chat_model._model.register_forward_hook(lambda _, __, out: rows.append(out.logits.shape[0]))
    pool = ModelPool(models, 1, 60, max_batch_size=16, batch_wait_ms=100)
    with ThreadPoolExecutor(len(talks)) as threads:
        got = list(threads.map(lambda talk: conversation(pool, *talk), talks))
    counts = pool.counts()
    pool.shutdown()
    assert got == expected
    assert [count.replies for count in counts.values()] == [12] * 4
    assert max(rows) > 4, "more than one character has conversations: they were answered together"
