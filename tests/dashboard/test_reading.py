"""What the dashboard shows of a study's records, and that nothing is read twice."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model_chat.analysis.sequential import half_width
from model_chat.crowd.ledger import Bonus, Ledger
from model_chat.dashboard import store as store_module
from model_chat.dashboard.blinding import Names
from model_chat.dashboard.estimates import estimates
from model_chat.dashboard.listing import Query, list_conversations
from model_chat.dashboard.live import ENDLESS, quantile
from model_chat.dashboard.overview import make_overview
from model_chat.dashboard.settings import Role
from model_chat.dashboard.store import RecordStore
from model_chat.dashboard.watch import Watched
from model_chat.records.forget import forget_worker
from model_chat.records.reading import read_conversation
from model_chat.tests.dashboard.conftest import Served
from model_chat.tests.dashboard.sample import QUESTION, START, MadeUpRun, SampleStudy

Serve = Callable[..., Served]
OPEN = Names(blind=False)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of records that the store has read."""
    found: list[str] = []

    def read(source: Any) -> Any:
        found.append(source.path)
        return read_conversation(source)

    monkeypatch.setattr(store_module, "read_conversation", read)
    return found


def overview_of(sample: SampleStudy, run: MadeUpRun | None = None, now: float = START, **info: Any) -> dict[str, Any]:
    study = sample.info(**info)
    return make_overview(study, RecordStore(study).refresh(), None if run is None else run.state, OPEN, now=now)


def codes(overview: dict[str, Any]) -> list[str]:
    return [warning["code"] for warning in overview["warnings"]]


# --- records ---


def test_a_record_is_read_once_and_a_new_one_is_noticed(sample: SampleStudy, reads: list[str]) -> None:
    for number in range(3):
        sample.chat(f"worker-{number}")
    store = RecordStore(sample.info())
    assert len(store.refresh().listed) == 3
    assert len(reads) == 6  # each is in both records
    first = store.snapshot
    assert store.refresh() is first
    sample.chat("another")
    assert len(store.refresh().listed) == 4
    assert len(reads) == 8


def test_both_records_of_a_conversation_are_one(sample: SampleStudy) -> None:
    sample.chat("ann", as_file=False)
    sample.chat("bob")
    listed = RecordStore(sample.info()).refresh().listed
    assert [(one.id, one.entry.worker) for one in listed] == [("a1", "ann"), ("a2", "bob")]


def test_files_without_a_database_are_shown(sample: SampleStudy, tmp_path: Path) -> None:
    sample.chat("ann")
    study = sample.info(database=tmp_path / "nowhere" / "database.db")
    (one,) = RecordStore(study).refresh().listed
    assert (one.id[0], one.entry.worker, one.review) == ("f", "ann", "none")


def test_files_that_name_no_task_are_shown_where_the_database_has_nobody_of_the_task(
    sample: SampleStudy, tmp_path: Path
) -> None:
    sample.chat("ann")
    (path,) = sample.chats.glob("*/*.json")
    unnamed = {name: value for name, value in json.loads(path.read_bytes()).items() if name != "task_name"}
    unnamed["dialog"][1]["text"] = "Of the original"
    for line in unnamed["dialog"]:
        line.pop("generation", None)
    path.write_text(json.dumps(unnamed), encoding="utf-8")
    study = sample.info(database=tmp_path / "nowhere" / "database.db")
    snapshot = RecordStore(study).refresh()
    assert [one.entry.worker for one in snapshot.listed] == ["ann"]
    (alpha, _) = make_overview(study, snapshot, None, OPEN, now=START)["models"]
    assert (alpha["replies"], alpha["latency_p50"]) == (2, None)  # messages count whose time is not known
    assert [one.id[0] for one in RecordStore(sample.info()).refresh().listed] == ["a"]  # the database's alone


def test_a_study_that_has_not_begun_is_empty(sample: SampleStudy, tmp_path: Path) -> None:
    study = sample.info(database=tmp_path / "none.db", chat_data_folder=tmp_path / "none")
    store = RecordStore(study)
    assert store.refresh().listed == ()
    overview = make_overview(study, store.snapshot, None, OPEN, now=START)
    assert (overview["finished"], overview["minutes"], overview["estimates"]) == (0, {"median": None, "p90": None}, [])
    assert list_conversations(store.snapshot, OPEN, Query())["total"] == 0


def test_a_review_elsewhere_is_noticed(sample: SampleStudy) -> None:
    agent = sample.chat()
    store = RecordStore(sample.info())
    assert store.refresh().listed[0].review == "pending"
    agent.update_status("approved")
    assert store.refresh().listed[0].review == "approved"


def test_broken_records_and_those_of_another_task_are_left_out_and_the_broken_are_counted(sample: SampleStudy) -> None:
    sample.chat()
    (path,) = sample.chats.glob("*/*.json")
    path.with_name("20260101_000000_x_sandbox.json").write_text("{", encoding="utf-8")
    other = json.loads(path.read_bytes()) | {"task_name": "another_local"}
    other["dialog"][1]["text"] = "Something else"
    path.with_name("20260101_000001_x_sandbox.json").write_text(json.dumps(other), encoding="utf-8")
    snapshot = RecordStore(sample.info()).refresh()
    assert (len(snapshot.listed), snapshot.unreadable) == (1, 1)
    assert "unreadable" in codes(overview_of(sample))


def test_a_worker_who_was_forgotten_is_gone_from_an_open_dashboard_and_from_its_audit_log(
    sample: SampleStudy, serve: Serve
) -> None:
    sample.chat("ann")
    watched = Watched(sample.info())
    client = serve(watched).client(Role.REVIEW)
    assert client.act("block", "a1").json()["results"][0]["ok"]
    forget_worker("ann", sample.data / "database.db", [sample.chats])
    watched.store._looked_again = -math.inf  # else it is noticed some seconds later
    (item,) = client.get("conversations")["items"]
    assert item["worker"].startswith("forgotten-")
    assert "ann" not in (sample.chats / "dashboard_audit.jsonl").read_text(encoding="utf-8")
    assert client.get("audit")["items"][0]["worker"] == item["worker"]


# --- overview ---


def test_progress_times_and_money_of_a_finished_study(sample: SampleStudy) -> None:
    for minutes, model in ((4, "alpha"), (6, "alpha"), (8, "beta")):
        sample.chat(f"w{minutes}", model=model, minutes=minutes)
    sample.chat("rejected", status="rejected")
    sample.chat("left", reason="disconnected: gone", status="disconnect", rating=None, turns=1)
    overview = overview_of(sample)
    assert (overview["finished"], overview["target"], overview["live"], overview["accepting"]) == (3, 40, False, False)
    assert [(row["name"], row["finished"], row["wanted"]) for row in overview["models"]] == [
        ("alpha", 2, 20),
        ("beta", 1, 20),
    ]
    assert (overview["models"][0]["latency_p50"], overview["models"][1]["latency_p50"]) == (0.5, 1.0)
    assert overview["minutes"]["median"] == 6.0
    assert (overview["money"]["spent"], overview["money"]["planned"]) == (1.5, 20.0)
    assert overview["money"]["hourly_wage"] == 5.0  # 0.50 in 6 minutes
    assert overview["left_at"] == [{"where": "turn 2", "count": 1}]


def test_the_fee_of_the_panel_is_part_of_what_is_spent_and_planned(sample: SampleStudy) -> None:
    sample.chat()
    money = overview_of(sample, provider="prolific", fee_percent=30.0, currency="GBP")["money"]
    assert (money["currency"], money["spent"], money["planned"]) == ("GBP", 0.65, 26.0)
    ledger = Ledger(sample.data)
    ledger.begin(Bonus("token", "1", "ann", 100, "Thank you!"))
    assert overview_of(sample, provider="prolific", fee_percent=30.0)["money"]["spent"] == 1.95


def test_nobody_is_here_while_the_study_does_not_run(sample: SampleStudy) -> None:
    sample.chat()
    workers = overview_of(sample)["workers"]
    assert [workers[name] for name in ("chatting", "onboarding", "waiting")] == [0, 0, 0]


def test_cells_of_a_design_and_models_within_it(sample: SampleStudy) -> None:
    for level in ("warm", "warm", "cold"):
        sample.chat(f"w-{sample.number}", conditions={"prompt": level})
    overview = overview_of(sample, by_cell=True, wanted={"prompt=warm": 3, "prompt=cold": 3}, target=6)
    assert overview["cells"] == [
        {"name": "prompt=warm", "finished": 2, "wanted": 3, "chatting": 0},
        {"name": "prompt=cold", "finished": 1, "wanted": 3, "chatting": 0},
    ]
    assert [(row["name"], row["finished"], row["wanted"]) for row in overview["models"]] == [("alpha", 3, None)]


def test_of_a_running_study_the_counters_of_the_run_are_shown(sample: SampleStudy) -> None:
    sample.chat()
    overview = overview_of(sample, MadeUpRun())
    assert (overview["finished"], overview["target"], overview["accepting"]) == (80, 200, True)
    assert [(row["name"], row["replies"], row["failures"], row["chatting"]) for row in overview["models"]] == [
        ("alpha", 160, 1, 2),
        ("beta", 150, 30, 1),
    ]
    assert overview["models"][0]["latency_p50"] == 0.5
    assert overview["money"]["committed"] == 2.0  # four who chat


def test_a_quantile_of_a_histogram_is_interpolated() -> None:
    assert quantile([(1.0, 10), (2.0, 20)], 0.75) == 1.5
    assert quantile([(1.0, 5), (ENDLESS, 10)], 0.95) == 1.0
    assert quantile([(1.0, 0), (ENDLESS, 0)], 0.5) is None
    assert quantile([], 0.5) is None


# --- forecast ---


def finish(sample: SampleStudy, ago: list[float], now: float) -> None:
    for number, seconds in enumerate(ago):
        sample.chat(f"f{number}", started=now - seconds - 360, minutes=6)


def test_the_forecast_goes_on_as_in_the_last_hour_and_says_so(sample: SampleStudy) -> None:
    now = START + 10 * 3600
    finish(sample, [60 * n for n in range(1, 11)], now)
    seen = overview_of(sample, MadeUpRun(), now=now)["forecast"]
    # 10 in the last hour; 80 of 200 are collected
    assert seen["done_at"] == pytest.approx(now + 12 * 3600)
    assert seen["cost"] == pytest.approx(10 * 0.5 + 120 * 0.5)
    assert "as in the last hour (10.0 an hour)" in seen["assumption"]
    assert "120" in seen["assumption"]


@pytest.mark.parametrize(
    ("accepting", "ago", "said"),
    [
        (False, [60.0] * 10, "No new workers are taken in now"),
        (True, [60.0] * 4, "Fewer than 5 conversations have finished lately"),
        (True, [30 * 3600.0] * 10, "Fewer than 5"),
    ],
)
def test_where_nothing_can_be_said_there_is_no_date(
    sample: SampleStudy, accepting: bool, ago: list[float], said: str
) -> None:
    now = START + 40 * 3600
    finish(sample, ago, now)
    run = MadeUpRun()
    run.accepting = accepting
    seen = overview_of(sample, run, now=now)["forecast"]
    assert seen["done_at"] is None
    assert said in seen["assumption"]


def test_a_study_that_does_not_run_has_a_cost_and_no_date(sample: SampleStudy) -> None:
    sample.chat()
    seen = overview_of(sample)["forecast"]
    assert (seen["done_at"], seen["cost"]) == (None, 20.0)
    done = overview_of(sample, target=1)["forecast"]
    assert (done["done_at"], done["assumption"]) == (None, "Everything is collected.")


# --- warnings ---


def test_a_model_that_fails_is_warned_of_by_the_run_and_by_the_records(sample: SampleStudy) -> None:
    assert codes(overview_of(sample, MadeUpRun(), now=START + 60)) == ["model_failing"]
    for number in range(3):
        sample.chat(f"w{number}", model="gamma", reason="model failed: gamma returned no text", rating=None)
    (warning,) = overview_of(sample)["warnings"]
    assert warning == {"code": "model_failing", "text": "gamma has failed in 3 of its last 10 conversations."}


def test_nobody_coming_is_warned_of_only_while_work_is_on_offer(sample: SampleStudy) -> None:
    class Empty(MadeUpRun):
        @property
        def state(self) -> Any:
            changes = {"chatting": [], "onboarding": 0, "replies": [], "accepting": self.accepting}
            return super().state.model_copy(update=changes)

    run = Empty()
    assert codes(overview_of(sample, run, now=START + 29 * 60)) == []
    assert codes(overview_of(sample, run, now=START + 31 * 60)) == ["no_arrivals"]
    run.accepting = False
    assert codes(overview_of(sample, run, now=START + 31 * 60)) == []


def test_many_who_leave_at_the_same_place_are_warned_of(sample: SampleStudy) -> None:
    for number in range(4):
        sample.chat(f"l{number}", reason="timeout: too long", status="timeout", rating=None, turns=1)
    assert codes(overview_of(sample)) == []
    sample.chat("l4", reason="timeout: too long", status="timeout", rating=None, turns=1)
    (warning,) = overview_of(sample)["warnings"]
    assert warning["text"] == "5 of 5 workers have left at the same place: turn 2."
    for number in range(21):
        sample.chat(f"c{number}")
    assert codes(overview_of(sample)) == []  # 5 of 26 are less than a fifth


def test_a_wage_below_the_least_is_warned_of(sample: SampleStudy) -> None:
    for number in range(3):
        sample.chat(f"w{number}", minutes=6)
    assert codes(overview_of(sample, min_hourly_wage=5.0)) == []
    assert codes(overview_of(sample, min_hourly_wage=5.01)) == ["low_wage"]
    assert codes(overview_of(sample)) == []


def test_a_disk_that_fills_up_is_warned_of(sample: SampleStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    def usage(free: int, total: int) -> None:
        found = type("Usage", (), {"free": free, "total": total})
        monkeypatch.setattr("model_chat.dashboard.trouble.shutil.disk_usage", lambda path: found)

    usage(free=10**8, total=10**12)
    assert codes(overview_of(sample)) == ["disk"]
    usage(free=2 * 10**9, total=10**12)  # enough, though it is a small share
    assert codes(overview_of(sample)) == []
    usage(free=10**8, total=10**9)  # little, but a tenth of a small disk
    assert codes(overview_of(sample)) == []


def test_money_for_models_that_is_spent_is_warned_of(sample: SampleStudy) -> None:
    class Spent(MadeUpRun):
        @property
        def state(self) -> Any:
            return super().state.model_copy(update={"models_limit_usd": 1.25, "replies": []})

    assert codes(overview_of(sample, Spent(), now=START + 60)) == ["spend"]


# --- estimates ---


def test_estimates_are_confidence_sequences_clustered_by_worker(sample: SampleStudy) -> None:
    ratings = [1, 2, 3, 4, 5] * 4
    for number, rating in enumerate(ratings):
        sample.chat(f"w{number}", rating=rating)
    rows = estimates(RecordStore(sample.info()).refresh().listed)
    (row,) = [row for row in rows if row["box_or_rating"] == QUESTION]
    # 20 workers with one rating each: the standard error is that of a mean
    variance = sum((rating - 3) ** 2 for rating in ratings) / 19
    width = half_width((variance / 20) ** 0.5, 20)
    assert (row["value"], row["workers"], row["kind"]) == (3.0, 20, "mean")
    assert (row["low"], row["high"]) == (pytest.approx(3 - width, abs=1e-4), pytest.approx(3 + width, abs=1e-4))


def test_compared_models_have_estimates_of_their_own_boxes_and_the_pair_that_of_the_rating(sample: SampleStudy) -> None:
    for number in range(15):
        sample.chat(f"w{number}", model="alpha|beta", rating=1 + number % 5)
    rows = estimates(RecordStore(sample.info()).refresh().listed)
    good = {row["model"]: row for row in rows if row["box_or_rating"] == "none_all_good"}
    assert {model: row["value"] for model, row in good.items()} == {"alpha": pytest.approx(2 / 3, abs=1e-4)} | {
        "beta": pytest.approx(2 / 3, abs=1e-4)
    }
    assert [row["model"] for row in rows if row["box_or_rating"] == QUESTION] == ["alpha|beta"]


def test_few_workers_give_no_estimate(sample: SampleStudy) -> None:
    for number in range(18):
        sample.chat(f"w{number % 9}", rating=1 + number % 5)
    assert estimates(RecordStore(sample.info()).refresh().listed) == []


# --- lists ---
