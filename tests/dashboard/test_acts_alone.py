"""Each check of an act by itself, and what the store has read, without a server."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from model_chat.crowd.adapters import DirectAdapter
from model_chat.crowd.ledger import SENDING, Ledger
from model_chat.crowd.platform import PlatformError
from model_chat.dashboard import acts as acts_module
from model_chat.dashboard import audit as audit_module
from model_chat.dashboard import store as store_module
from model_chat.dashboard.access import Session
from model_chat.dashboard.acts import ActRequest
from model_chat.dashboard.audit import AuditLog
from model_chat.dashboard.link import RunLink
from model_chat.dashboard.listing import version_of
from model_chat.dashboard.settings import Role
from model_chat.dashboard.store import RecordStore
from model_chat.dashboard.watch import Watched
from model_chat.errors import ConfigurationError
from model_chat.quality.blocks import find_worker, is_blocked
from model_chat.tests.dashboard.sample import START, MadeUpRun, SampleStudy

WHO = Session("Ann", Role.PAY, "", 0.0, 0.0)


class Desk:
    """A reviewer, who sees everything as it is."""

    def __init__(self, sample: SampleStudy) -> None:
        self.watched = Watched(sample.info())

    def act(self, act: str, *ids: str, **more: Any) -> list[tuple[bool, str | None]]:
        listed = self.watched.store.refresh().by_id
        versions = {one: version_of(listed[one]) for one in ids}
        request = ActRequest(act=act, ids=list(ids), versions=versions, **more)  # type: ignore[arg-type]  # checked by it
        return [(result["ok"], result["error"]) for result in self.watched.acts.perform(request, WHO)]


@pytest.fixture
def desk(sample: SampleStudy) -> Desk:
    sample.chat()
    return Desk(sample)


def test_a_conversation_that_is_named_twice_is_acted_on_once(sample: SampleStudy, desk: Desk) -> None:
    assert desk.act("bonus", "a1", "a1", amount=1, reason="Thank you!") == [(True, None)]
    assert [bonus.cents for bonus in Ledger(sample.data).bonuses()] == [100]
    assert desk.act("reject", "a1", reason="Too short.") == [(True, None)]
    assert desk.act("reject", "a1", reason="Too short.") == [(False, "The work is rejected already.")]


def test_whoever_left_can_be_blocked_and_what_the_platform_does_not_take_is_said(
    sample: SampleStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[list[str], bool | None]] = []
    monkeypatch.setattr(DirectAdapter, "set_access", lambda self, ids, blocked=None: told.append((ids, blocked)))
    sample.chat(reason="timeout: nothing came", status="timeout", rating=None)
    desk = Desk(sample)
    assert desk.act("block", "a1") == [(True, None)]
    ann = find_worker(sample.db, "mock", "ann")
    assert ann is not None
    assert is_blocked(ann, "blocked")
    assert told == [(["ann"], True)]
    monkeypatch.setattr(acts_module, "unblock", lambda worker, name: False)
    ((ok, error),) = desk.act("unblock", "a1")
    assert (ok, error) == (False, "it is done here, but the crowd platform did not take it.")
    assert told == [(["ann"], True)]


@pytest.mark.parametrize("fault", [PlatformError("the platform is away"), ConfigurationError("the platform is away.")])
def test_a_fault_of_the_platform_is_the_outcome_of_the_act(
    sample: SampleStudy, desk: Desk, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def fails(*_: Any) -> None:
        raise fault

    monkeypatch.setattr(DirectAdapter, "prepare", fails)
    monkeypatch.setattr(DirectAdapter, "approve", fails)
    assert desk.act("bonus", "a1", amount=1, reason="Thank you!") == [(False, "the platform is away.")]
    assert desk.act("approve", "a1") == [(False, "the platform is away.")]
    assert Ledger(sample.data).bonuses() == []
    outcomes = [entry["outcome"] for entry in desk.watched.audit.entries()]
    assert outcomes == ["failed: the platform is away."] * 2


def test_a_fault_of_one_conversation_is_none_of_another(
    sample: SampleStudy, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = sample.chat("bob")
    approve = DirectAdapter.approve

    def fails_for_the_second(self: Any, agent: Any) -> str:
        if agent.db_id == second.db_id:
            raise ConfigurationError("The platform knows no bob.")
        return approve(self, agent)

    monkeypatch.setattr(DirectAdapter, "approve", fails_for_the_second)
    assert desk.act("approve", "a1", "a2") == [(True, None), (False, "The platform knows no bob.")]


def test_a_payment_that_was_cut_off_is_not_called_made(
    sample: SampleStudy, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(self: Any, quote: Any, report: Any, output: Any) -> None:
        for owed in quote.owed:
            Ledger(sample.data).begin(owed.bonus)
        raise PlatformError("the connection was lost")

    monkeypatch.setattr(DirectAdapter, "pay", cut_off)
    ((ok, error),) = desk.act("bonus", "a1", amount=1, reason="Thank you!")
    assert (ok, error) == (False, "Nobody knows whether it arrived. the connection was lost.")
    assert [bonus.state for bonus in Ledger(sample.data).bonuses()] == [SENDING]


def test_nothing_is_done_while_another_process_acts_or_pays(
    sample: SampleStudy, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_module, "WAIT_SECONDS", 0.0)
    with AuditLog(sample.chats, "study_local").alone(), pytest.raises(ConfigurationError, match="Another dashboard"):
        desk.act("approve", "a1")
    with Ledger(sample.data).paying():
        ((ok, error),) = desk.act("bonus", "a1", amount=1, reason="Thank you!")
    assert (ok, "another process is paying" in str(error)) == (False, True)
    assert Ledger(sample.data).bonuses() == []


def test_a_block_makes_what_others_have_seen_out_of_date(desk: Desk) -> None:
    before = version_of(desk.watched.store.refresh().by_id["a1"])
    assert desk.act("block", "a1") == [(True, None)]
    assert version_of(desk.watched.store.refresh().by_id["a1"]) != before


def test_a_refusal_of_the_run_changes_nothing_in_the_audit_log(sample: SampleStudy) -> None:
    class Refusing(MadeUpRun):
        def ask(self, act: Any, more: int | None) -> str:
            return "The run is ending."

    watched = Watched(sample.info())
    assert watched.acts.perform_on_run(Refusing(), "stop", None, WHO) == "The run is ending."
    lines = [json.loads(line) for line in watched.audit.path.read_text(encoding="utf-8").splitlines()]
    assert [(line["outcome"], line["after"]) for line in lines] == [
        ("begun", None),
        ("failed: The run is ending.", None),
    ]


def test_an_audit_log_is_on_disk_when_it_is_written_and_shows_the_acts_of_its_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    monkeypatch.setattr(os, "fdatasync", synced.append)
    for task in ("one_local", "two_local"):
        before = len(synced)
        AuditLog(tmp_path, task).add(target="a1", act="approve")
        assert len(synced) > before
    assert [entry["task"] for entry in AuditLog(tmp_path, "one_local").entries()] == ["one_local"]


def test_a_run_that_does_not_answer_is_said_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("model_chat.dashboard.link.ANSWER_SECONDS", 0.0)
    with (tmp_path / "asked").open("wb") as to_run:
        assert RunLink(to_run).ask("stop", None).startswith("The run has not answered")


# --- the store ---


def test_a_file_that_comes_within_the_resolution_of_its_folders_time_is_noticed(sample: SampleStudy) -> None:
    sample.chat()
    store = RecordStore(sample.info(database=sample.data / "none.db"), rest=False)
    (path,) = sample.chats.glob("*/*.json")
    os.utime(path.parent, ns=(now := time.time_ns(), now))
    assert len(store.refresh().listed) == 1
    record = json.loads(path.read_bytes())
    record["dialog"][1]["text"] = "Something else"
    other = path.with_name("20260101_000000_x_sandbox.json")
    other.write_bytes(orjson.dumps(record))
    os.utime(path.parent, ns=(now, now))
    assert len(store.refresh().listed) == 2
    path.with_name("20260101_000001_x_sandbox.json").write_bytes(orjson.dumps(record))  # the same conversation
    assert len(store.refresh().listed) == 2
    for gone in (other, path):
        gone.unlink()
    assert len(store.refresh().listed) == 1


def test_a_record_that_is_too_deep_is_counted_and_texts_are_kept_up_to_a_limit(
    sample: SampleStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample.chat(text="needle")
    with sqlite3.connect(sample.data / "database.db") as connection:
        connection.execute("UPDATE units SET pay_amount = 0.29")
    deep = b'{"task_name": "study_local", "dialog": ' + b"[" * 1000 + b"]" * 1000 + b"}"
    (path,) = sample.chats.glob("*/*.json")
    path.with_name("20260101_000000_x_sandbox.json").write_bytes(deep)
    snapshot = RecordStore(sample.info(), rest=False).refresh()
    (one,) = snapshot.listed
    assert (snapshot.unreadable, snapshot.searchable, "needle" in one.entry.text) == (1, True, True)
    assert one.agent is not None
    assert one.agent.pay == 29
    monkeypatch.setattr(store_module, "MAX_TEXT_BYTES", 10)
    snapshot = RecordStore(sample.info(), rest=False).refresh()
    assert (snapshot.searchable, snapshot.listed[0].entry.text) == (False, "")
    assert snapshot.listed[0].entry.started == START
