"""What the overview says of conversations that are listed: counts, money, forecasts, warnings, estimates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from model_chat.dashboard.blinding import KEY_BYTES, Names, key_in
from model_chat.dashboard.entries import Entry, entry_of, questions_of
from model_chat.dashboard.estimates import estimates
from model_chat.dashboard.listing import Query, list_conversations
from model_chat.dashboard.live import Chatting, Count, LiveState, Replies
from model_chat.dashboard.overview import HOUR, MOST_CHATTING, MOST_HOURS, make_overview
from model_chat.dashboard.store import AgentRow, Listed, Snapshot
from model_chat.dashboard.study import StudyInfo
from model_chat.records.reading import Source, parse_conversation

NOW = 1_790_000_000.0
OPEN = Names(blind=False)


def one(status: str = "complete", review: str = "completed", number: int = 0, **more: Any) -> Listed:
    """A conversation of six minutes that ended now, whose worker gets 0.50."""
    known = {"worker": f"w{number}", "model": "alpha", "started": NOW - 360, "ended": NOW}
    agent = AgentRow(str(number), review, f"w{number}", NOW - 360, 50, "1")
    bonus = more.pop("bonus", 0)
    return Listed(f"a{number}", Entry(Source(""), status=status, **{**known, **more}), agent, bonus)


def live(**changes: Any) -> LiveState:
    return LiveState(**{"accepting": True, "started": NOW - 2 * HOUR, **changes})


def seen(
    listed: Sequence[Listed],
    run: LiveState | None = None,
    onboarding: dict[str, int] | None = None,
    names: Names = OPEN,
    **info: Any,
) -> dict[str, Any]:
    folder = Path("/nowhere")
    known = {"id": "s", "title": "s", "task_name": "s", "database": folder / "d", "chat_data_folder": folder}
    study = StudyInfo(**{**known, "reward": 50, "target": 100, **info})
    snapshot = Snapshot(1, tuple(listed), onboarding=onboarding or {})
    return make_overview(study, snapshot, run, names, now=NOW)


def codes(overview: dict[str, Any]) -> list[str]:
    return [warning["code"] for warning in overview["warnings"]]


# --- counts and money ---


def test_in_image_chat_the_target_is_that_of_all_images_whatever_the_counters_want() -> None:
    run = live(counts=[Count(name="alpha", done=3, in_flight=0, needed=7)])
    assert [seen([], run, kind=kind, target=40)["target"] for kind in ("text", "image")] == [7, 40]


def test_the_fee_is_paid_on_rewards_and_bonuses_and_bonuses_count_whatever_became_of_the_work() -> None:
    listed = [one(number=1), one(number=2, bonus=20), one(number=3, review="rejected", bonus=5)]
    money = seen(listed, provider="prolific", fee_percent=30.0)["money"]
    assert money["spent"] == pytest.approx((2 * 0.5 + 0.25) * 1.3, abs=0.005001)
    assert money["hourly_wage"] == 6.0  # 0.60 on average, bonus included, in six minutes


def test_a_time_too_short_to_be_one_gives_no_wage() -> None:
    assert seen([one(started=5e-324, ended=1e-307)])["money"]["hourly_wage"] is None
    assert Entry(Source(""), "w", "m", started=NOW, ended=NOW).minutes is None


def test_of_the_minutes_the_median_and_the_ninetieth_percentile_are_shown() -> None:
    listed = [one(number=number, started=NOW - 60 * number) for number in range(1, 12)]
    assert seen(listed)["minutes"] == {"median": 6.0, "p90": 10.0}


def test_who_chats_while_nothing_runs_has_left_and_those_who_ended_in_onboarding_are_counted() -> None:
    listed, onboarding = [one("going_on", "in task")], {"disconnect": 2, "approved": 3, "timeout": 1}
    assert seen(listed, onboarding=onboarding)["left_at"] == [
        {"where": "onboarding", "count": 3},
        {"where": "before the chat", "count": 1},
    ]
    assert seen(listed, live())["left_at"] == []


def test_the_chart_holds_two_weeks() -> None:
    old, new = NOW - (MOST_HOURS + 1) * HOUR, NOW
    listed = [one(number=1, ended=old), one(number=2, ended=new), one(number=3, ended=new - 1.5 * HOUR)]
    assert [count for _, count in seen(listed)["finished_by_hour"]] == [1, 1]


def test_a_flood_of_those_who_chat_is_counted_and_not_all_of_it_is_named() -> None:
    chatting = [Chatting(agent_id=str(n), worker="w", model=None, since=None, turn=0) for n in range(MOST_CHATTING + 1)]
    overview = seen([], live(chatting=chatting))
    assert (len(overview["now_chatting"]), overview["workers"]["chatting"]) == (MOST_CHATTING, MOST_CHATTING + 1)


def test_counters_of_conditions_are_no_counters_of_models() -> None:
    counts = [Count(name="prompt=warm", done=9, in_flight=1, needed=10)]
    overview = seen([one()], live(by_cell=True, counts=counts), by_cell=True)
    assert overview["cells"] == [{"name": "prompt=warm", "finished": 9, "wanted": 10, "chatting": 1}]
    assert [(row["name"], row["finished"], row["wanted"]) for row in overview["models"]] == [("alpha", 1, None)]


def test_of_a_study_that_does_not_run_failures_and_replies_are_those_of_the_records() -> None:
    listed = [one(number=1, replies=4), one("failed", number=2, replies=1)]
    (row,) = seen(listed)["models"]
    assert (row["failures"], row["replies"], row["finished"]) == (1, 5, 1)


# --- forecast ---


def forecast(seconds_ago: Sequence[float], begun_ago: float = 2 * HOUR, **info: Any) -> dict[str, Any]:
    listed = [one(number=number, ended=NOW - ago) for number, ago in enumerate(seconds_ago)]
    return dict(seen(listed, live(started=NOW - begun_ago), **info)["forecast"])


def test_more_than_is_wanted_is_everything() -> None:
    assert forecast([60.0] * 6, target=5) == {"done_at": None, "cost": 3.0, "assumption": "Everything is collected."}


def test_a_run_that_has_just_begun_has_no_rate() -> None:
    assert forecast([60.0] * 6, begun_ago=299)["done_at"] is None
    assert forecast([60.0] * 6, begun_ago=300)["done_at"] is not None


def test_the_time_before_the_run_began_is_no_part_of_the_rate() -> None:
    # six in half an hour, of which 94 are missing
    assert forecast([60.0] * 6, begun_ago=HOUR / 2)["done_at"] == pytest.approx(NOW + 94 * HOUR / 12)


def test_what_would_take_years_has_no_date() -> None:
    assert forecast([60.0] * 6, target=10**6)["done_at"] is None


# --- warnings ---


@pytest.mark.parametrize(
    ("replies", "failures", "warned"), [(27, 3, True), (28, 3, False), (1, 2, False), (0, 3, True)]
)
def test_a_model_fails_from_three_failures_and_a_tenth_of_its_replies_on(
    replies: int, failures: int, warned: bool
) -> None:
    run = live(replies=[Replies(name="alpha", replies=replies, failures=failures, buckets=[])])
    assert codes(seen([], run, target=0)) == ["model_failing"] * warned


def test_a_model_that_the_run_names_is_not_named_again_and_old_failures_are_forgotten() -> None:
    failed = [one("failed", "none", number=number) for number in range(3)]
    run = live(replies=[Replies(name="alpha", replies=0, failures=3, buckets=[])])
    assert codes(seen(failed, run, target=0)) == ["model_failing"]
    good = [one(number=number) for number in range(3, 11)]
    assert codes(seen([*failed, *good[:7]])) == ["model_failing"]
    assert codes(seen([*failed, *good])) == []


def test_a_wage_is_judged_from_three_conversations_on() -> None:
    listed = [one(number=number) for number in range(3)]
    assert codes(seen(listed[:2], min_hourly_wage=100.0)) == []
    assert codes(seen(listed, min_hourly_wage=100.0)) == ["low_wage"]


CHATTING = [Chatting(agent_id="1", worker="w", model=None, since=None, turn=0)]


@pytest.mark.parametrize(
    ("changes", "target"), [({"chatting": CHATTING}, 5), ({"onboarding": 1}, 5), ({"accepting": False}, 5), ({}, 0)]
)
def test_nobody_is_missed_while_somebody_is_there_or_nothing_is_wanted(changes: dict[str, Any], target: int) -> None:
    assert codes(seen([], live(), target=5)) == ["no_arrivals"]
    assert codes(seen([], live(**changes), target=target)) == []


# --- estimates ---


def test_estimates_count_what_is_collected_and_stay_within_what_is_possible() -> None:
    listed = []
    for number in range(12):
        boxes = {"bad": 0 if number else 1, "good": 2 if number else 1}
        given: dict[str, Any] = {"ratings": {"How good?": 1 if number else 2}, "marks_of": {"alpha": (2, boxes)}}
        listed.append(one(number=number, **given))
    rejected = [one(review="rejected", number=n, ratings={"How good?": 5}) for n in range(20, 40)]
    rows = {row["box_or_rating"]: row for row in estimates([*listed, *rejected])}
    assert [rows[name]["workers"] for name in ("bad", "good", "How good?")] == [12] * 3
    assert (rows["bad"]["low"], rows["good"]["high"], rows["How good?"]["low"]) == (0.0, 1.0, 1.0)
    assert rows["How good?"]["value"] == pytest.approx(13 / 12, abs=1e-4)


# --- what is listed ---


def said(waited: Sequence[float]) -> Entry:
    lines: list[dict[str, Any]] = []
    for seconds in waited:
        timing = {"shown": NOW, "first_key": None, "sent": NOW + seconds}
        lines.append({"agent_idx": 0, "text": "Hi.", "id": "S", "timing": timing})
        lines.append({"agent_idx": 1, "text": "Ho.", "id": "T"})
    record = {"dialog": lines, "workers": ["w"], "task_description": {"model_nickname": "m"}, "status": "complete"}
    return entry_of(parse_conversation(record), Source(""))


@pytest.mark.parametrize(
    ("waited", "fast"), [([1.0], False), ([1.0, 1.9], True), ([1.0, 3.0], False), ([0.1, 1.0, 9.0], True), ([], False)]
)
def test_who_answers_at_once_again_and_again_is_fast(waited: list[float], fast: bool) -> None:
    assert said(waited or [60.0]).signals == ("fast",) * fast


def test_a_conversation_is_found_by_its_whole_id() -> None:
    snapshot = Snapshot(1, (one(number=4), one(number=44)))
    assert [list_conversations(snapshot, OPEN, Query(q=sought))["total"] for sought in ("A4", "a44", "a")] == [1, 1, 2]


def test_questions_that_are_the_same_are_told_apart_by_numbers() -> None:
    task = {"task_description": {"final_rating_question": "Good?|Good?"}}
    assert questions_of(task, 2) == ["final rating 1", "final rating 2"]


# --- blind ---


def test_a_name_within_another_is_not_replaced_alone_and_unknown_conditions_have_no_name() -> None:
    names = Names(True, b"k" * KEY_BYTES)
    names.learn(["gpt", "gpt-large"], ["prompt=warm"])
    large, small = names.model("gpt-large"), names.model("gpt")
    assert names.text("gpt-large has failed after gpt did; chatgpt did not.") == (
        f"{large} has failed after {small} did; chatgpt did not."
    )
    assert (names.cell("prompt=warm"), names.cell("prompt=cold")) == ("condition 1", "a condition")


def test_models_and_conditions_of_a_blind_study_are_in_the_order_of_their_numbers() -> None:
    names, wanted = Names(True, b"k" * KEY_BYTES), {f"prompt={number}": 1 for number in range(12)}
    names.learn([f"m{number}" for number in range(12)], wanted)
    listed = [one(number=number, model=f"m{number}") for number in range(12)]
    overview = seen(listed, names=names, by_cell=True, wanted=wanted, blind=True)
    assert [row["name"] for row in overview["models"]] == [f"model {number}" for number in range(1, 13)]
    assert [row["name"] for row in overview["cells"]] == [f"condition {number}" for number in range(1, 13)]


def test_a_key_that_was_cut_off_is_made_anew_for_this_account_alone(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    key = key_in(folder, "study")
    assert (len(key), folder.stat().st_mode & 0o777) == (KEY_BYTES, 0o700)
    (path,) = folder.iterdir()
    path.write_bytes(key[:-1])
    assert len(key_in(folder, "study")) == KEY_BYTES
