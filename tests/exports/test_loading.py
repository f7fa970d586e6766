"""`datasets` and `trl` themselves read what is exported, without a network (group `exports` of requirements.lock)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from model_chat.configuration.places import ROOT
from model_chat.exports.settings import FORMATS
from model_chat.tests.exports.conftest import CONSENT, Place, comparison

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # of these libraries' own
]

TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}</{{ message['role'] }}>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the libraries' caches to the test, and them from the network."""
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))


@pytest.fixture
def full(place: Place) -> Place:
    """A study with all that a record may hold, after conversations with as little as there may be."""
    place.add(labels=[None], rating=None)
    place.add(
        worker="w2",
        hit="h2",
        said=["Hello there, you.", "And then?"],
        labels=[(), ["odd"]],
        personas=[["h"], ["I bake."]],
        answers=[CONSENT],
        conditions={"prompt": "warm"},
        comparisons=[comparison("right"), comparison("tie", 1, "reply 1")],
        task_name="t",
    )
    return place


def loaded(place: Place, format_name: str, **more: Any) -> Any:
    """The rows that `datasets` reads."""
    from datasets import load_dataset

    cache = str(place.folder / "cache")
    if format_name == "hf-dataset":
        return load_dataset(str(place.output), split="train", cache_dir=cache, **more)
    kind, ending = ("csv", "csv") if format_name == "csv" else ("json", "jsonl")
    path = place.output / f"{format_name}.{ending}"
    return load_dataset(kind, data_files=str(path), split="train", cache_dir=cache, **more)


@pytest.mark.parametrize("format_name", FORMATS)
def test_datasets_reads_the_rows_as_they_are(full: Place, format_name: str) -> None:
    for name in FORMATS:  # all in one folder: none gets in the way of another
        flags = ["--good-buckets", "none_all_good"] if name == "trl-unpaired" else []
        assert full.run(name, "--deidentify", *flags) == 0
    rows = list(loaded(full, format_name))
    assert len(rows) == full.manifest(format_name)["rows"] > 0
    if format_name == "hf-dataset":
        plain = [json.loads(line) for line in (full.output / "openai.jsonl").read_text().splitlines()]
        assert rows == [{"messages": row["messages"], **row["metadata"]} for row in plain]
    elif format_name != "csv":
        for row in rows if "metadata" in rows[0] else ():
            row["metadata"]["day"] = row["metadata"]["day"].date().isoformat()  # a date is a type of its own there
        path = full.output / f"{format_name}.jsonl"
        assert rows == [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_datasets_reads_files_of_more_than_one_of_its_chunks(place: Place) -> None:
    long = "word " * 30_000
    for number in range(80):  # its chunks have 10 MB; in the first one, most lists are empty and most values null
        place.add(worker=f"w{number}", hit=f"h{number}", said=[long], labels=[None], rating=None)
    place.add(
        worker="w",
        hit="h",
        comparisons=[comparison(reason="x")],
        conditions={"a": "b"},
        image_idx=3,
        context_dataset="t",
        acceptability_violations=["v"],
        task_name="t",
    )
    assert place.run("openai") == 0
    assert (place.output / "openai.jsonl").stat().st_size > 11_000_000
    rows = loaded(place, "openai")
    assert len(rows) == 81
    assert [row["conditions"] for row in rows["metadata"] if row["conditions"]] == [[{"factor": "a", "level": "b"}]]


def tokenizer() -> Any:
    """A tokenizer of words, made here, with a chat template."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"[UNK]": 0, "[EOS]": 1}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    made = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", eos_token="[EOS]", pad_token="[EOS]")
    made.chat_template = TEMPLATE
    return made


def test_trl_takes_preferences(full: Place) -> None:
    from trl.data_utils import apply_chat_template, is_conversational

    assert full.run("trl-preference") == 0
    (row,) = loaded(full, "trl-preference")
    assert is_conversational(row)
    texts = apply_chat_template(row, tokenizer())
    assert texts["prompt"] == "<system>your persona: I bake.</system><user>Hello there, you.</user><assistant>"
    assert texts["chosen"] == "other</assistant>"
    assert texts["rejected"] == "reply 0</assistant>"


def test_trl_takes_labelled_replies(full: Place) -> None:
    from trl.data_utils import apply_chat_template, is_conversational

    assert full.run("trl-unpaired", "--good-buckets", "none_all_good") == 0
    good, bad = loaded(full, "trl-unpaired")
    assert is_conversational(good)
    assert (good["label"], bad["label"]) == (True, False)
    assert apply_chat_template(bad, tokenizer())["completion"] == "reply 1</assistant>"


def test_trl_takes_conversations_and_what_sharegpt_calls_them(full: Place) -> None:
    from trl.data_utils import apply_chat_template, is_conversational, maybe_convert_to_chatml

    for name in ("openai", "sharegpt", "hf-dataset"):
        assert full.run(name) == 0
    plain, shared, table = (loaded(full, name)[1] for name in ("openai", "sharegpt", "hf-dataset"))
    assert is_conversational(plain)
    assert is_conversational(table)
    text = apply_chat_template({"messages": plain["messages"]}, tokenizer())["text"]
    assert text.startswith("<system>your persona: I bake.</system><user>Hello there, you.</user><assistant>reply 0<")
    converted = maybe_convert_to_chatml({"conversations": shared["conversations"]})["messages"]
    assert [message["content"] for message in converted] == [message["content"] for message in plain["messages"]]


def test_the_example_of_the_page_runs(full: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, format_name in (("export", "openai"), ("export", "trl-unpaired"), ("published", "hf-dataset")):
        full.output = full.folder / folder
        flags = ["--good-buckets", "none_all_good"] if format_name == "trl-unpaired" else []
        assert full.run(format_name, *flags) == 0
    page = (ROOT / "docs" / "exports.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"<!-- example: loading -->\n```python\n(.*?)```", page, flags=re.DOTALL)
    monkeypatch.chdir(full.folder)
    found: dict[str, Any] = {}
    exec(example, found)
    assert [len(found[name]) for name in ("conversations", "published", "labelled")] == [2, 2, 2]


@pytest.mark.parametrize(
    ("trainer", "format_name"), [("SFT", "openai"), ("DPO", "trl-preference"), ("KTO", "trl-unpaired")]
)
def test_trl_trains_a_step_on_the_file_as_it_is(full: Place, trainer: str, format_name: str) -> None:
    import trl
    from transformers import GPT2Config, GPT2LMHeadModel

    full.add(worker="w3", hit="h3", labels=[(), ["odd"]], comparisons=[comparison()])
    flags = ["--good-buckets", "none_all_good"] if format_name == "trl-unpaired" else []
    assert full.run(format_name, *flags) == 0
    words, folder = tokenizer(), full.folder / "model"
    GPT2LMHeadModel(GPT2Config(vocab_size=len(words), n_layer=1, n_head=1, n_embd=8)).save_pretrained(folder)
    settings = getattr(trl, f"{trainer}Config")(
        output_dir=str(full.folder / "trained"),
        max_steps=1,
        per_device_train_batch_size=2,
        report_to=[],
        use_cpu=True,
        bf16=False,
        save_strategy="no",
        disable_tqdm=True,
    )
    training = getattr(trl, f"{trainer}Trainer")(
        model=str(folder), args=settings, train_dataset=loaded(full, format_name), processing_class=words
    )
    assert training.train().global_step == 1
