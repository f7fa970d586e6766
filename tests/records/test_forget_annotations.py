"""Deleting what a worker wrote: it is also in other people's annotations, files of logs, and a judge's answers."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mephisto.data_model.task_run import TaskRun
from omegaconf import OmegaConf

from model_chat.analysis.measures import dialog_digest
from model_chat.conversation.human_agent import HumanAgent
from model_chat.crowd.workers import Task
from model_chat.errors import ConfigurationError
from model_chat.launch.recovery import use_chat_data
from model_chat.model_chat_blueprint import ANNOTATION_BLUEPRINT_TYPE
from model_chat.records import forget, forget_annotations
from model_chat.records.conversation_logs import LoggedConversation, read_logs
from model_chat.records.forget import Forgotten, forget_worker
from model_chat.records.journal import JOURNAL_NAME
from model_chat.records.reading import parse_conversation
from model_chat.records.schema import FORGOTTEN_SHA256, Completion
from model_chat.records.writing import save_conversation
from model_chat.scripts import export, judge, manage_workers
from model_chat.tests.analysis.test_compared_parts import paired
from model_chat.tests.launch.test_recovery import begin, finished
from model_chat.tests.mephisto_run import Run

WHO, OTHER = "worker-1", "worker-2"
SECRET, HARMLESS = "I keep seventeen hedgehogs.", "I like tea."
START = 1_760_000_000.0


def by_words(path: Path) -> list[LoggedConversation]:
    """The finished conversations, that of :data:`WHO` first."""
    return sorted(read_logs("logs_path", path), key=lambda logged: SECRET not in str(logged.dialog))


class Study:
    """Two workers have chatted, and others annotated the chats in a second task of the same database."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "mephisto").mkdir()
        self.run = Run(folder / "mephisto")
        self.database = Path(self.run.db.db_path)
        self.chats, self.annotations = folder / "chats", folder / "annotations"
        for said in (SECRET, HARMLESS):
            agent = begin(self.run, said)
            record = {**finished(agent), "bad_workers": []}
            save_conversation(self.chats, record, live=False)
            agent.state.record_world_data({"custom_data": record})
            agent.state.finish()
        self.logs = self.chats

    def annotate(self, *, whole: bool = True, recorded: bool = True) -> list[Any]:
        """Have a new annotator for each conversation of :attr:`logs`; return their agents."""
        self.run.task_run = self._annotation_run()
        made = []
        for logged in by_words(self.logs):
            agent = self.run.agent()
            self._annotate(agent, logged, whole, recorded)
            made.append(agent)
        return made

    def _annotation_run(self) -> TaskRun:
        db, args = self.run.db, OmegaConf.to_container(self.run.args)
        assert isinstance(args, dict)
        args["blueprint"] = {"logs_path": str(self.logs), "chat_data_folder": str(self.annotations)}
        found = db.find_tasks(task_name="annotation_local")
        task = found[0].db_id if found else db.new_task("annotation_local", ANNOTATION_BLUEPRINT_TYPE)
        stored, requester = json.dumps(OmegaConf.to_yaml(args)), self.run.task_run.requester_id
        return TaskRun.get(db, db.new_task_run(task, requester, stored, "mock", ANNOTATION_BLUEPRINT_TYPE))

    def _annotate(self, agent: Any, logged: LoggedConversation, whole: bool, recorded: bool) -> None:
        agent.update_status("in task")
        agent.state.set_init_state({})
        lines = logged.dialog if whole else logged.dialog[:-1]
        head = {
            "workers": [agent.get_worker().worker_name],
            "hit_ids": ["h"],
            "assignment_ids": [agent.assignment_id],
            "task_description": {"model_nickname": logged.model_nickname, "annotations_config": "{}"},
            "judged_conversation": {"id": logged.id, "sha256": logged.sha256},
            "participation": {"provider": "prolific", "study": "S1", "session": "P1"},
            "answers": [
                {"page": "chat", "item": "why", "value": f"They said: {logged.dialog[-2].text}", "utterance_idx": 1}
            ],
            "status": "complete" if whole else "incomplete",
            "task_name": "annotation_local",
        }
        agent.state.record_head(head)
        human = HumanAgent(agent)
        for idx, line in enumerate(lines):
            human.say("Speaker", line.text, utterance_idx=idx, agent_idx=line.agent_idx)
        dialog = [
            {"agent_idx": line.agent_idx, "text": line.text, "id": "x", "timestamp": START + 60 * idx}
            for idx, line in enumerate(lines)
        ]
        dialog[-1]["problem_data"] = {"b": True}
        if recorded:
            record = {**head, "dialog": dialog}
            save_conversation(self.annotations, record, live=False)
            agent.state.record_world_data({"custom_data": record})
            agent.state.finish()
            agent.update_status("completed")

    def forget(self, **more: Any) -> Forgotten:
        return forget_worker(
            WHO,
            self.database,
            [self.chats],
            **{"delete": True, "ids_of": lambda one: {dialog_digest(one).hex()}, **more},
        )

    def mentions(self, words: str = SECRET) -> list[str]:
        """Files that hold the words."""
        files = [path for path in self.folder.rglob("*") if path.is_file() and words.encode() in path.read_bytes()]
        return sorted(str(path.relative_to(self.folder)) for path in files)

    def saved(self) -> list[Any]:
        return [json.loads(path.read_bytes()) for path in sorted(self.annotations.glob("*/*.json"))]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path)


def test_annotations_by_others_of_the_deleted_conversation_go_and_no_other(study: Study) -> None:
    study.annotate()
    study.annotate()
    assert len(study.mentions()) == 2 + 4
    harmless = study.mentions(HARMLESS)
    dry = study.forget(dry_run=True)
    assert len(study.mentions()) == 2 + 4, "nothing was done yet"
    gone = study.forget()
    assert gone.copies == dry.copies
    assert len(gone.copies) == 4
    assert study.mentions() == []
    assert study.mentions(HARMLESS) == harmless, "nobody else's words went"
    assert [record["dialog"][2]["text"] for record in study.saved()] == [HARMLESS] * 2
    assert study.forget().copies == (), "there is nothing left to do"


def test_without_delete_the_annotations_stay(study: Study) -> None:
    study.annotate()
    before = study.mentions()
    assert study.forget(delete=False).copies == ()
    assert study.mentions() == before


def test_what_the_annotators_pay_depends_on_stays(study: Study) -> None:
    agent = study.annotate()[0]
    study.forget()
    task = Task(study.database, "annotation_local")
    kept = task.conversation(agent.db_id)
    assert kept is not None
    assert kept.status is Completion.COMPLETE
    assert task.seconds(agent.db_id) == 180
    assert (task.participation(agent.db_id).study, task.participation(agent.db_id).session) == ("S1", "P1")
    assert kept.worker_id == agent.get_worker().worker_name
    assert {line.text for line in kept.dialog} == {""}
    assert kept.judged_conversation is not None
    assert kept.judged_conversation.sha256 == FORGOTTEN_SHA256
    assert kept.raw["answers"] is None
    assert agent.db_status == "completed"


def test_the_words_of_a_conversation_that_was_only_shown_go_too(study: Study) -> None:
    (agent, other) = study.annotate(whole=False, recorded=False)
    state = Path(agent.get_data_dir())
    assert SECRET.encode() in (state / JOURNAL_NAME).read_bytes()
    study.forget()
    assert study.mentions() == []
    assert (Path(other.get_data_dir()) / JOURNAL_NAME).exists()


def test_a_damaged_annotation_of_the_conversation_is_named_and_stays(study: Study) -> None:
    study.annotate()
    for path in study.annotations.glob("*/*.json"):
        path.write_bytes(path.read_bytes()[:-1])
        if SECRET.encode() in path.read_bytes():
            damaged = path
    gone = study.forget()
    assert gone.unread == (str(damaged),)
    assert study.mentions() == [str(damaged.relative_to(study.folder))]


def test_an_annotator_who_is_deleted_takes_nobody_elses_annotation_along(study: Study) -> None:
    annotator = study.annotate()[0].get_worker().worker_name
    study.annotate()
    forget_worker(annotator, study.database, [study.chats], delete=True)
    assert [record["workers"][0] == annotator for record in study.saved()] == [False] * 3
    assert len(study.mentions()) == 2 + 2, "the conversation, and the other's annotation"


def openai(folder: Path, chats: Path, **more: Any) -> Path:
    """The finished conversations in a file in another format, without what was only shown as said."""
    path = folder / "logs.jsonl"
    lines = []
    for record in by_words(chats):
        said = [line for line in record.dialog if not line.fake_start]
        messages = [{"role": ("user", "assistant")[line.agent_idx], "content": line.text} for line in said]
        lines.append(json.dumps({"id": record.id, "messages": messages[1:], **more}))  # the model greets: left out
    path.write_text("\n".join([*lines, '{"messages": [{"role": "user", "content": "no JSON', ""]))
    return path


def test_annotations_of_a_file_in_another_format_are_recognised_by_the_words(study: Study) -> None:
    path = openai(study.folder, study.chats)
    whole = path.read_text()
    path.write_text("\n".join(whole.splitlines()[:2]))
    study.logs = path
    study.annotate()
    study.annotate(whole=False)
    path.write_text(whole)
    assert len(study.mentions()) == 2 + 4 + 1
    gone = study.forget()
    assert study.mentions() == []
    kept = path.read_text().split("\n")
    was = whole.split("\n")
    assert sorted(zip(was, kept, strict=True)) == sorted((line, "" if SECRET in line else line) for line in was), (
        "all others keep their lines, and so their numbers"
    )
    assert f"{path} (1 lines)" in gone.copies


def test_annotations_of_two_chats_that_were_compared_are_recognised_by_the_words_of_each(study: Study) -> None:
    save_conversation(study.chats, paired(worker=WHO), live=False)
    exported = ["--results-folders", str(study.chats), "--output", str(study.folder / "out"), "--format", "openai"]
    assert export.main([*exported, "--deidentify", "--salt-file", str(study.folder / "salt")]) == 0
    study.logs = study.folder / "out" / "openai.jsonl"
    study.annotate()
    assert len(study.saved()) == 4
    study.forget()
    assert [record["dialog"][-2]["text"] for record in study.saved()] == [HARMLESS]
    assert study.mentions() == study.mentions("five six seven eight") == []


@pytest.mark.parametrize("place", [{"worker": WHO}, {"metadata": {"worker": WHO}}])
def test_a_file_that_names_the_worker_is_changed(study: Study, place: Any) -> None:
    path = study.folder / "logs.jsonl"
    line = {
        "messages": [{"role": "user", "content": "Other words."}, {"role": "assistant", "content": "Yes."}],
        **place,
    }
    path.write_text(f"{json.dumps(line)}\n{json.dumps({**line, 'messages': []})}\n")
    gone = study.forget(also=[path], delete=False)
    assert WHO not in path.read_text()
    assert path.read_text().count(gone.pseudonym) == 2
    path.write_text(f"{json.dumps(line)}\n{json.dumps({**line, 'messages': []})}\n")
    study.forget(also=[path])
    assert path.read_text().strip() == ""


def test_annotations_in_a_data_folder_of_their_own_are_found_where_they_are_named(study: Study, tmp_path: Path) -> None:
    far = tmp_path / "far"
    far.mkdir()
    home = study.run
    study.run = Run(far)
    study.annotate()
    study.run = home
    before = study.mentions()
    study.forget(dry_run=True)
    assert len(before) == 2 + 2
    study.forget(also=[far])
    assert study.mentions() == []


@pytest.mark.parametrize("spelled", ["~/annotations", "$HOME/annotations", "annotations"])
def test_folders_are_known_however_the_flag_was_written(
    study: Study, spelled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.annotate()
    monkeypatch.setenv("HOME", str(study.folder))
    monkeypatch.chdir(study.folder)
    with sqlite3.connect(study.database) as connection:
        connection.execute(
            "UPDATE task_runs SET init_params = replace(init_params, ?, ?)", (str(study.annotations), spelled)
        )
    study.forget()
    assert study.mentions() == []


@pytest.mark.parametrize("stored", ["{}", "5", '"a: 2026-99-99"', '"a: [b"', "{", "[" * 9999, None])
def test_a_run_whose_flags_can_not_be_read_is_no_place_of_annotations(stored: str | None) -> None:
    assert forget_annotations._blueprint(stored) == {}


def test_it_can_be_repeated_after_a_crash_at_any_moment(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    study.logs = openai(study.folder, study.chats)
    study.logs.write_text("\n".join(study.logs.read_text().splitlines()[:2]))
    study.annotate()
    judged(study, chat_and_annotations=True)
    write: Callable[..., None] = forget_annotations.replace_file
    unlink = Path.unlink
    left = 0

    def dying(act: Callable[..., Any]) -> Callable[..., Any]:
        def until_then(path: Path, *given: Any, **more: Any) -> Any:
            nonlocal left
            if not path.exists():
                return act(path, *given, **more)  # no step
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            return act(path, *given, **more)

        return until_then

    for module in (forget_annotations, forget):
        monkeypatch.setattr(module, "replace_file", dying(write))
    monkeypatch.setattr(Path, "unlink", dying(unlink))
    deaths = 0
    while deaths < 30:
        left = 1  # each attempt changes one file, and dies at the next
        try:
            study.forget(also=[study.folder / "judged"])
        except KeyboardInterrupt:
            deaths += 1
            continue
        break
    assert 4 < deaths < 30, "it died in between, and came to an end"
    assert study.mentions() == []
    assert judgments(study) == [HARMLESS] * len(judgments(study))


def test_nobody_is_forgotten_while_people_annotate_into_a_folder_that_the_database_knows(study: Study) -> None:
    study.annotate()
    before = study.mentions()
    with use_chat_data(study.annotations), pytest.raises(ConfigurationError) as refused:
        study.forget()
    assert str(refused.value) == (
        f"--database-path: a run is writing to '{study.annotations}', which would bring workers' ids back; stop it first."
    )
    assert study.mentions() == before


# --- a judge -----------------------------------------------------------------------------------------------------


def judged(study: Study, chat_and_annotations: bool = False) -> Path:
    """The output of a judge, as judge.py writes it, with the words in an answer."""
    output = study.folder / "judged"
    output.mkdir()
    lines, entries = [], [json.dumps({"event": "request", "request": 1, "most_usd": 0.5})]
    folders = [study.chats, study.annotations] if chat_and_annotations else [study.chats]
    records = [json.loads(path.read_bytes()) for folder in folders for path in sorted(folder.glob("*/*.json"))]
    for number, record in enumerate(records):
        for key, utterance_idx in (("0" * 64, 1), (f"{number + 1:064x}", 3)):  # all begin alike
            answers = {"why": "About: " + (record["dialog"][-2]["text"] if utterance_idx == 3 else "a greeting")}
            lines.append(
                {
                    "kind": "llm",
                    "about": "reply",
                    "conversation": dialog_digest(parse_conversation(record)).hex(),
                    "utterance_idx": utterance_idx,
                    "item": "0" * 16,
                    "boxes": {"b": True},
                    "answers": answers,
                    "judge": {"model": "j", "endpoint_model": "e"},
                    "usage": {"cost_usd": 0.25},
                    "prompt_sha256": key,
                }
            )
            entries.append(json.dumps({"key": key, "boxes": {"b": True}, "answers": answers, "cost_usd": 0.25}))
    (output / "judgments.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (output / "judge_log.jsonl").write_text("".join(f"{entry}\n" for entry in entries))
    return output


def judgments(study: Study) -> list[str]:
    """What is quoted in the judgments of the second reply."""
    lines = map(json.loads, (study.folder / "judged" / "judgments.jsonl").read_text().splitlines())
    return [line["answers"]["why"].removeprefix("About: ") for line in lines if line["utterance_idx"] == 3]


def test_what_a_judge_said_goes_and_what_it_cost_stays(study: Study) -> None:
    output = judged(study)
    assert sorted(judgments(study)) == sorted([SECRET, HARMLESS])
    gone = study.forget(also=[output])
    assert study.mentions() == []
    assert judgments(study) == [HARMLESS]
    assert gone.copies == (f"{output / 'judge_log.jsonl'} (1 lines)", f"{output / 'judgments.jsonl'} (2 lines)")
    log = judge.JudgeLog(output / "judge_log.jsonl")
    assert log.spent_usd == 1.0
    assert log.most_usd == 1.5
    shared = log.answer("0" * 64)
    assert shared is not None
    assert shared.answers == {"why": "About: a greeting"}, "the other conversation began with the same words"
    log.close()


def test_answers_of_which_nobody_knows_the_conversation_are_named(study: Study) -> None:
    output = judged(study)
    (output / "judgments.jsonl").unlink()
    gone = study.forget(also=[output])
    assert gone.unread == (str(output / "judge_log.jsonl"),)


def test_an_output_into_which_a_judge_writes_is_refused(study: Study) -> None:
    output = judged(study)
    with use_chat_data(output), pytest.raises(ConfigurationError, match="--also: a run is writing to"):
        study.forget(also=[output])
    assert SECRET in judgments(study)


# --- the command -------------------------------------------------------------------------------------------------


def command(study: Study, *flags: str) -> int:
    given = ["--task-name", "study_local", "--database-path", str(study.database)]
    return manage_workers.main(["forget", *given, "--chat-data-folder", str(study.chats), *flags, WHO])


def test_the_command_lists_them_and_names_what_does_not_exist(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    study.annotate()
    output = judged(study)
    assert command(study, "--delete", "--dry-run", "--also", str(output)) == 0
    told = capsys.readouterr().out
    assert told.count("would: delete what others made of a conversation of worker-1: ") == 4
    assert str(output / "judgments.jsonl") in told
    assert len(study.mentions()) > 2
    assert command(study, "--delete", "--also", str(study.folder / "none")) == 2
    assert "--also: '" in capsys.readouterr().err
    assert command(study, "--delete", "--also", str(output)) == 0
    assert study.mentions() == []
