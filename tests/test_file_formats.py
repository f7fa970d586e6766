"""docs/file-formats.md: every example is read by the program's own readers, or is what its writers write."""

from __future__ import annotations

import dataclasses
import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

from model_chat.analysis.compile_results import ModelChatResultsCompiler
from model_chat.configuration import hydra as hydra_module
from model_chat.configuration.annotations import parse_annotations
from model_chat.configuration.onboarding import load_onboarding
from model_chat.crowd.ledger import FILE, Ledger
from model_chat.crowd.workers import WorkerSummary
from model_chat.images._journal import Change, Header, Journal, Place, Verb
from model_chat.images.contexts import ImageContexts, ImageContextsWriter
from model_chat.images.stack import read_stack
from model_chat.launch.command_line import compose_config
from model_chat.quality.acceptability import offensive_matcher
from model_chat.quality.attention import load_attention_checks
from model_chat.quality.block_lists import read_block_lists
from model_chat.records.journal import read_journal
from model_chat.records.reading import Origin, Source, read_conversation
from model_chat.records.schema import Conversation
from model_chat.serving.catalogue import models_in_folder, models_in_opt_file, opt_faults
from model_chat.worlds import validate_onboarding

PAGE = (Path(__file__).resolve().parents[1] / "docs/file-formats.md").read_text(encoding="utf-8")
EXAMPLES: dict[str, list[str]] = {}
for _name, _text in re.findall(r"<!-- example: (.+?) -->\n```\w+\n(.*?)```", PAGE, flags=re.DOTALL):
    EXAMPLES.setdefault(_name, []).append(_text)

CHECKS: dict[str, Callable[[str, Path], None]] = {}


def checks(name: str) -> Callable[[Callable[[str, Path], None]], Callable[[str, Path], None]]:
    """Name the example that a function checks; it gets the example and a fresh folder."""

    def note(function: Callable[[str, Path], None]) -> Callable[[str, Path], None]:
        CHECKS[name] = function
        return function

    return note


def written(folder: Path, name: str, text: str) -> Path:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def the(name: str) -> str:
    (example,) = EXAMPLES[name]
    return example


def test_every_block_on_the_page_is_checked() -> None:
    blocks = len(re.findall(r"^```\w", PAGE, flags=re.MULTILINE))
    assert blocks == sum(map(len, EXAMPLES.values())) >= 30
    assert {name for name in EXAMPLES if not name.startswith("csv ")} == set(CHECKS)


@pytest.mark.parametrize("name", [name for name in EXAMPLES if not name.startswith("csv ")])
def test_an_example_is_what_the_program_reads_or_writes(name: str, tmp_path: Path) -> None:
    for number, example in enumerate(EXAMPLES[name]):
        folder = tmp_path / str(number)
        folder.mkdir()
        CHECKS[name](example, folder)


# --- what a requester writes ---


@checks("configuration")
def a_configuration_is_composed(example: str, folder: Path) -> None:
    written(folder, "conf/my_documented_study.yaml", example)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hydra_module, "work_dir", lambda: folder)
        cfg = compose_config("example", ["conf=my_documented_study"])
    GlobalHydra.instance().clear()
    assert cfg.mephisto.task.task_name == "my_study"
    assert cfg.mephisto.blueprint.chat_data_folder == f"{folder}/data/my_study"


@checks("annotations")
def buckets_are_parsed(example: str, folder: Path) -> None:
    config = parse_annotations("flag", "boxes.json", example)
    assert config.values[0] == "off_topic"
    assert config.values[-1] == "none_all_good"


@checks("onboarding")
def onboarding_is_loaded(example: str, folder: Path) -> None:
    annotations = parse_annotations("flag", "boxes.json", EXAMPLES["annotations"][0])
    config = load_onboarding("flag", str(written(folder, "onboarding.json", example)), annotations)
    assert config.tries == 2
    assert [entry["text"] for entry in config.explanations()] == ["Nobody asked about trains."]


@checks("left pane")
def the_placeholders_are_those_of_the_page(example: str, folder: Path) -> None:
    source = (Path(__file__).resolve().parents[1] / "frontend/src/lib/sanitise.ts").read_text(encoding="utf-8")
    assert r"\[persona_string_([12])\]" in source
    assert re.findall(r"\[persona_string_([12])\]", example) == ["1", "2"]


@checks("attention checks")
def attention_checks_are_loaded(example: str, folder: Path) -> None:
    annotations = parse_annotations("flag", "boxes.json", EXAMPLES["annotations"][0])
    config = load_attention_checks(str(written(folder, "checks.json", example)), 3, annotations)
    first, second = config.checks
    assert first.grade("Two oranges, please!", None)
    assert second.grade("whatever", {"none_all_good": True, "off_topic": False})


@checks("offensive words")
def words_are_matched(example: str, folder: Path) -> None:
    matches = offensive_matcher(str(written(folder, "words.txt", example)))
    assert matches("you silly goose!")
    assert not matches("words of this study")


@checks("block list")
def worker_ids_are_read(example: str, folder: Path) -> None:
    assert read_block_lists(str(written(folder, "blocked.txt", example))) == ["A1B2C3D4E5F6G7", "A7G6F5E4D3C2B1"]


@checks("model.opt")
def a_model_is_found(example: str, folder: Path) -> None:
    written(folder, "mine/chat/model.opt", example)
    (source,) = models_in_folder("flag", str(folder)).values()
    assert source.nickname == "mine/chat"
    assert opt_faults("flag", source) == []


@checks("model opts")
def models_by_flags_are_found(example: str, folder: Path) -> None:
    assert list(models_in_opt_file("flag", str(written(folder, "opts.yaml", example)))) == [
        "mine/chat",
        "mine/parrot",
        "mine/hosted",
    ]


@checks("image act")
def an_act_comes_back_from_the_image_file(example: str, folder: Path) -> None:
    act, context = json.loads(example), json.loads(the("image context"))
    given = {key: value for key, value in context.items() if key not in ("width", "height", "sha256")}
    with ImageContextsWriter(folder / "images.parquet") as writer:
        writer.add(Image.new("RGB", (64, 64)), act, given)
    with ImageContexts(folder / "images.parquet") as images:
        assert images[0].act == act
        assert {**images[0].context, "sha256": None} == {**context, "sha256": None}
        assert images[0].path == "000000.png"


@checks("image context")
def a_context_has_what_the_script_saves(example: str, folder: Path) -> None:
    script = (Path(__file__).resolve().parents[1] / "scripts/save_image_contexts.py").read_text(encoding="utf-8")
    assert [
        key for key in json.loads(example) if key not in ("width", "height", "sha256") and f'"{key}"' not in script
    ] == []


# --- what a run writes ---


@checks("conversation")
def a_conversation_is_the_schemas(example: str, folder: Path) -> None:
    data = json.loads(example)
    assert Conversation.from_dict(data).to_dict() == data
    assert list(data) == list(Conversation.model_fields)
    # What the table below the example names is there, and nothing is left out.
    table = PAGE.partition("### A conversation")[2].partition("###")[0]
    named = set(re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\| (.*?) \|", table, flags=re.MULTILINE))))
    first = {"personas": {"context_dataset", "person1_seed_utterance", "person2_seed_utterance", "additional_context"}}
    assert named | first["personas"] == set(data)


@checks("mephisto config")
def mephistos_configuration_has_that_key(example: str, folder: Path) -> None:
    from mephisto.operations.config_handler import CORE_SECTION, DATA_STORAGE_KEY

    assert list(yaml.safe_load(example)) == [CORE_SECTION]
    assert list(yaml.safe_load(example)[CORE_SECTION]) == [DATA_STORAGE_KEY]


@checks("state")
def a_state_is_read_by_analysis_and_onboarding(example: str, folder: Path) -> None:
    state = json.loads(example)
    chat = json.loads(the("conversation"))
    state["outputs"]["messages"][1]["final_chat_data"] = chat
    state["outputs"]["messages"][2]["WORLD_DATA"]["custom_data"] = chat
    file = written(folder, "state.json", json.dumps(state))
    assert read_conversation(Source(str(file), Origin.DATABASE, record_id="3")).raw == chat
    (onboarding,) = re.findall(r"`(\{\"onboarding_outcome\".*?\})`", PAGE)
    state["outputs"]["messages"][2]["WORLD_DATA"]["custom_data"] = json.loads(onboarding)
    assert validate_onboarding(state)


@checks("journal")
def a_journal_is_read(example: str, folder: Path) -> None:
    head, message = read_journal(written(folder, "journal.jsonl", example))
    assert list(head) == ["record_head"]
    assert message["message"]["task_data"]["message_id"] == json.loads(the("conversation"))["dialog"][2]["message_id"]


@checks("stack")
def a_stack_is_read(example: str, folder: Path) -> None:
    written(folder, "stack.json", example)
    assert read_stack(folder) == json.loads(example)


@checks("stack journal")
def a_stacks_journal_is_what_is_written(example: str, folder: Path) -> None:
    place = Place(0, "demo/shapes_a", "A1B2C3D4E5F6G7")
    header = Header(2, ["demo/shapes_a", "demo/shapes_b"], images_id="0123456789abcdef")
    journal = Journal(folder / "stack.journal", header)
    journal.append([Change(Verb.TAKE, place)])
    journal.append([Change(Verb.FINISH, place)])
    assert (folder / "stack.journal").read_text(encoding="utf-8") == example
    assert [verb for verb in Verb if f"`{verb}`" not in PAGE] == []


@checks("bonuses")
def the_ledgers_columns_are_these(example: str, folder: Path) -> None:
    Ledger(folder)

    def columns(connection: sqlite3.Connection) -> list[tuple[str, str]]:
        return [(row[1], row[2]) for row in connection.execute("PRAGMA table_info(bonuses)")]

    documented, real = sqlite3.connect(":memory:"), sqlite3.connect(folder / FILE)
    documented.execute(example)
    assert columns(documented) == columns(real)
    documented.close()
    real.close()


@checks("workers")
def the_list_of_workers_has_these_keys(example: str, folder: Path) -> None:
    (row,) = json.loads(example)
    assert list(row) == [item.name for item in dataclasses.fields(WorkerSummary)]


# --- results ---


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """What the analysis makes of the documented conversation: the folder, and statistics_*.json."""
    place = tmp_path_factory.mktemp("study")
    written(place, "my_study/2026_11_25/20261125_101500_abc_sandbox.json", the("conversation"))
    flags = ["--results-folders", str(place / "my_study"), "--output-folder", str(place / "out"), "--no-report"]
    flags += ["--problem-buckets", "off_topic,repetition,none_all_good"]
    ModelChatResultsCompiler(vars(ModelChatResultsCompiler.setup_args().parse_args(flags))).compile_and_save_results()
    (statistics,) = (place / "out").glob("statistics_*.json")
    return place, json.loads(statistics.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", [name.removeprefix("csv ") for name in EXAMPLES if name.startswith("csv ")])
def test_a_table_is_what_the_analysis_makes_of_the_documented_conversation(
    name: str, results: tuple[Path, dict[str, Any]]
) -> None:
    place, _ = results
    (file,) = (place / "out").glob(f"{name}_2*.csv")
    assert file.read_text(encoding="utf-8").replace(f"{place}/", "") == the(f"csv {name}")


def test_every_output_of_the_analysis_is_on_the_page(results: tuple[Path, dict[str, Any]]) -> None:
    place, statistics = results
    outputs = {re.sub(r"_2\d{7}_\d{6}", "_*", path.name) for path in (place / "out").iterdir() if path.is_file()}
    tables = {f"{name.removeprefix('csv ')}_*.csv" for name in EXAMPLES if name.startswith("csv ")}
    assert outputs == tables | {"statistics_*.json"}
    said = PAGE.partition("`statistics_*.json` holds")[2].partition("\n\n")[0]
    assert [key for key in statistics if f"`{key}`" not in said] == []
