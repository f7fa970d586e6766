"""manage_workers.py and compile_results.py find a study by the name of its file in conf/, as run.py does."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from model_chat.analysis import compile_results
from model_chat.errors import ConfigurationError
from model_chat.launch.study import find_study
from model_chat.records.schema import Completion, Conversation, TaskDescription, Utterance
from model_chat.records.writing import save_conversation
from model_chat.scripts.manage_workers import main as manage_workers
from model_chat.tests.mephisto_run import Run

CONF = """
defaults:
  - /mephisto/blueprint: model_chat_blueprint
  - /mephisto/architect: local
  - /mephisto/provider: mock
mephisto:
  datapath: ${work_dir}/mephisto
  blueprint:
    conversations_needed_string: "a:2"
    chat_data_folder: ${work_dir}/conversations
    annotations_config_path: ${work_dir}/boxes.json
  task:
    task_name: 2024_05
    task_title: T
    task_description: D
    task_tags: chat
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the file of a study, and nothing collected yet."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/my_study.yaml").write_text(CONF, encoding="utf-8")
    boxes = {"config": {"rude": {"name": "Rude"}, "a, b": {"name": "Two"}, "none_all_good": {"name": "Good"}}}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes), encoding="utf-8")
    monkeypatch.setattr("model_chat.configuration.hydra.work_dir", lambda: tmp_path)
    return tmp_path


def collect(place: Path, ticked: str) -> None:
    conversation = Conversation(
        dialog=[
            Utterance(agent_idx=0, text="Do you like tea in the morning?", id="Speaker 1", timestamp=1.0),
            Utterance(
                agent_idx=1, text="Yes.", id="Speaker 2", timestamp=2.0, problem_data={ticked: True}, final_rating="4"
            ),
        ],
        workers=["ann"],
        acceptability_violations=[""],
        hit_ids=["1"],
        assignment_ids=["1"],
        task_description=TaskDescription(model_nickname="a"),
        status=Completion.COMPLETE,
    )
    save_conversation(place / "conversations", conversation.to_dict(), live=False)


def test_a_study_is_what_its_file_says(place: Path) -> None:
    study = find_study("my_study")
    assert study.task_name == "2024_05_local"
    assert study.database == place / "mephisto/database.db"
    assert study.chat_data_folder == place / "conversations"
    assert (study.stack_folder, study.buckets) == (None, ("rude", "a, b", "none_all_good"))
    assert not study.is_in_database()
    with pytest.raises(ConfigurationError, match="conf=my_stuyd: there is no such file; did you mean conf=my_study"):
        find_study("my_stuyd")


def test_workers_are_looked_up_by_the_file_of_the_study(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "mephisto").mkdir()
    Run(place / "mephisto", "2024_05_local").agent()
    assert find_study("my_study").is_in_database()
    assert manage_workers(["list", "--conf", "my_study"]) == 0
    assert "workers of 2024_05_local" in capsys.readouterr().out
    assert manage_workers(["list"]) == 2
    assert capsys.readouterr().err == (
        "✗ Which task? Give --task-name, or --conf with the name of the study's file in conf/.\n"
    )
    assert manage_workers(["list", "--conf", "nowhere"]) == 2
    assert "conf=nowhere: there is no such file; there is: " in capsys.readouterr().err
    # What is given goes before the file.
    assert manage_workers(["list", "--conf", "my_study", "--task-name", "other"]) == 2
    assert "other" in capsys.readouterr().err


def test_results_are_compiled_by_the_file_of_the_study(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--bootstrap", "100", "--permutations", "99", "--no-report"]
    assert compile_results.main(["--conf", "my_study", "--output-folder", str(place / "out"), *few]) == 2
    assert f"nothing is collected yet: there is no folder {place}/conversations" in capsys.readouterr().err
    assert not (place / "out").exists()
    collect(place, "rude")
    assert compile_results.main(["--conf", "my_study", "--output-folder", str(place / "out"), *few]) == 0
    (results,) = (place / "out").glob("results_*.csv")
    with results.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["worker_id"] for row in rows if row["worker_id"]} == {"ann"}
    assert {"rude", "none_all_good"} <= rows[0].keys()
    assert "bucket_0" not in rows[0]


def test_a_study_without_boxes_is_compiled_without(place: Path) -> None:
    file = place / "conf/my_study.yaml"
    file.write_text(CONF.replace("${work_dir}/boxes.json", '""'), encoding="utf-8")
    assert find_study("my_study").buckets == ()
    collect(place, "rude")
    options = compile_results.ModelChatResultsCompiler.setup_args().parse_args(
        ["--conf", "my_study", "--output-folder", str(place)]
    )
    found = compile_results._of_study(options)
    assert found == {"problem_buckets": "none", "results_folders": str(place / "conversations")}
