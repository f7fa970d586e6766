"""The simulated workers' figures, words and options; what they do over the real wire is tested in tests/e2e."""

from __future__ import annotations

import io
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from model_chat.conversation.incoming import Expected, check_packet
from model_chat.scripts.simulate_workers import Behaviour, Outcome, SimulatedWorker, main, quantile, report, simulate
from model_chat.tests.ports import own_port
from model_chat.tests.scripted_human import BUCKETS

CONFIG = {
    "annotation": {"buckets": [{"value": value} for value in BUCKETS.values]},
    "final_rating_questions": ["A?", "B?"],
}


class Wire:
    """A worker whose packets go nowhere but into a list."""

    def __init__(self, behaviour: Behaviour, seed: int = 1, **config: Any) -> None:
        self.worker = SimulatedWorker(1, "w", "a", behaviour, seed, httpx.AsyncClient())
        self.worker.config = {**CONFIG, **config}
        self.worker.agent_id = "5"
        self.sent: list[dict[str, Any]] = []
        self.posted: list[str] = []
        self.worker.send_packet = self._send  # type: ignore[method-assign]  # no socket here
        self.worker.post = self._post  # type: ignore[method-assign]  # no router here

    async def _send(self, packet_type: str, data: Any, **more: Any) -> None:
        self.sent.append(data)

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        self.posted.append(path)
        return {}

    def hear(self, *updates: dict[str, Any]) -> None:
        for number, update in enumerate(updates):
            self.worker._take({"update_id": f"u{number}", **update})

    def chat(self) -> str:
        import asyncio

        return asyncio.run(self.worker._chat(0.0))


def said(idx: int, agent_idx: int, text: str, **more: Any) -> dict[str, Any]:
    return {"text": text, "task_data": {"utterance_idx": idx, "agent_idx": agent_idx}, **more}


def control(name: str, **data: Any) -> dict[str, Any]:
    return {"text": "", "task_data": {"control": name, **data}}


OPENING = (control("start"), said(0, 0, "Hi!", fake_start=True), said(1, 1, "Hello."))
WHOLE = (
    *OPENING,
    control("your_turn", ask="message"),
    said(2, 0, "x"),
    said(3, 1, "Reply."),
    control("your_turn", ask="final_rating"),
    control("ended", outcome="complete"),
)


def test_a_worker_sends_what_the_server_accepts() -> None:
    wire = Wire(Behaviour())
    wire.hear(*WHOLE)
    assert wire.chat() == "complete"
    first, last = wire.sent
    message = check_packet(first, Expected(BUCKETS, 0, 2000), set())
    assert message is not None
    assert message.message_id == first["update_id"]
    rating = check_packet(last, Expected(BUCKETS, 2, 2000), set())
    assert rating is not None
    assert rating.final_ratings is not None
    assert len(rating.final_ratings) == 2
    assert wire.posted == ["submit_task"]
    assert len(wire.worker.outcome.turns) == 1
    assert wire.worker.outcome.doubles == 0


def test_what_was_shown_as_said_is_not_annotated() -> None:
    wire = Wire(Behaviour(leave_after=1))
    seeded = (said(0, 0, "Seed.", fake_start=True), said(1, 1, "Answer.", fake_start=True))
    wire.hear(*seeded, control("your_turn", ask="message"), control("your_turn", ask="message"))
    assert wire.chat() == "left"
    assert check_packet(wire.sent[0], Expected(None, 0, 2000), set()) is not None


def test_without_annotation_none_is_sent_and_a_fixed_rating_is_given() -> None:
    wire = Wire(Behaviour(rating=5), annotation=None)
    wire.hear(*WHOLE)
    assert wire.chat() == "complete"
    assert all("problem_data_for_prior_message" not in data["task_data"] for data in wire.sent)
    assert wire.sent[-1]["task_data"]["final_rating"] == [5, 5]


def test_the_same_seed_says_and_ticks_the_same() -> None:
    def script(seed: int) -> Any:
        wire = Wire(Behaviour(), seed)
        wire.hear(*WHOLE)
        wire.chat()
        keys = ("problem_data_for_prior_message", "final_rating")
        return [(data["text"], [data["task_data"].get(key) for key in keys]) for data in wire.sent]

    assert script(3) == script(3)
    assert len({json.dumps(script(seed)) for seed in range(10)}) > 1


@pytest.mark.parametrize(
    ("updates", "result"),
    [
        ((*OPENING, control("refused", code="empty")), "error: refused empty"),
        ((*OPENING, {"status": "in task"}, {"status": "timeout"}), "error: timeout"),
        ((*OPENING, control("model_failed"), control("ended", outcome="incomplete")), "incomplete"),
        ((*OPENING, control("your_turn", ask="message"), {"status": "disconnect"}), "error: disconnect"),
    ],
)
def test_what_goes_wrong_is_a_result(updates: tuple[Any, ...], result: str) -> None:
    wire = Wire(Behaviour())
    wire.hear(*updates)
    assert wire.chat() == result


def test_a_silent_worker_leaves_without_a_word() -> None:
    wire = Wire(Behaviour(stay_silent=True))
    wire.hear(*OPENING, control("your_turn", ask="message"))
    assert wire.chat() == "left"
    assert wire.sent == []


def test_a_message_that_comes_twice_is_counted_and_a_repeated_update_is_not() -> None:
    wire = Wire(Behaviour())
    update = said(1, 1, "Hello.")
    wire.hear(*OPENING, update, control("ended", outcome="complete"))
    wire.worker._take({"update_id": "u3", **update})
    assert wire.chat() == "complete"
    assert wire.worker.outcome.doubles == 1


def test_onboarding_is_filled_in_with_the_right_answers_or_the_first_box() -> None:
    file = {
        "dialog": [
            [{"agent_idx": 0, "text": "Hi."}, {"agent_idx": 1, "text": "Hello.", "answers": ["bucket_1"]}],
            [{"agent_idx": 1, "text": "Bye.", "answers": ["bucket_0", "bucket_1"]}],
        ]
    }
    page = [[{"agent_idx": line["agent_idx"], "text": line["text"]} for line in dialog] for dialog in file["dialog"]]
    knowing, guessing = Wire(Behaviour(onboarding_answers=file)), Wire(Behaviour())
    assert knowing.worker._onboarding_form(page) == [[None, ["bucket_1"]], [["bucket_0", "bucket_1"]]]
    assert guessing.worker._onboarding_form(page) == [[None, ["bucket_0"]], [["bucket_0"]]]


# --- figures ---


def test_quantiles_by_hand() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert [quantile(values, share) for share in (0.2, 0.21, 0.5, 0.95, 1.0)] == [1.0, 2.0, 3.0, 5.0, 5.0]
    assert quantile([7.0], 0.5) == 7.0
    assert math.isnan(quantile([], 0.5))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(values=st.lists(st.integers(0, 50), min_size=1, max_size=60), thousandths=st.integers(1, 1000))
def test_a_quantile_is_the_smallest_value_that_the_share_does_not_exceed(values: list[int], thousandths: int) -> None:
    found = quantile(values, thousandths / 1000)
    assert found in values
    assert sum(value <= found for value in values) * 1000 >= thousandths * len(values)
    assert sum(value < found for value in values) * 1000 < thousandths * len(values)


def test_the_report_counts_results_failures_doubles_and_refusals() -> None:
    outcomes = [
        Outcome("a", "complete", [0.1, 0.3], 1.5),
        Outcome("b", "complete", [0.2], 0.5, doubles=2),
        Outcome("c", "error: refused empty", [], None, refused=Counter({"empty": 1})),
        Outcome("d", "left"),
    ]
    console = Console(file=io.StringIO(), width=120)
    report(outcomes, 2.0, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert "4 conversations in 2.0 s, 1.5 turns/s" in text
    row = next(line for line in text.splitlines() if "a turn" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["a turn", "3", "0.200", "0.300", "0.300"]
    assert "    2  complete" in text
    assert "failures: 1, doubled messages: 2, refused: {'empty': 1}" in text


# --- the command ---


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--workers", "0"], "--workers and --conversations must be at least 1."),
        (["--conversations", "-1"], "--workers and --conversations must be at least 1."),
        (["--workers", "many"], "invalid int value: 'many'"),
        (["--onboarding-file", "/nowhere.json"], "--onboarding-file: '/nowhere.json' can't be read"),
    ],
)
def test_wrong_options_are_said(arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert problem in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{", "[" * 9999, "9" * 5000])
def test_answers_that_are_no_json_are_said(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "answers.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["--onboarding-file", str(file)])
    assert f"--onboarding-file: '{file}' can't be read" in capsys.readouterr().err


def test_where_nobody_listens_every_worker_fails_and_the_command_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "figures.json"
    port = own_port()
    assert main(["--port", str(port), "--workers", "2", "--conversations", "2", "--json", str(file)]) == 1
    said = capsys.readouterr()
    assert "failures: 4" in said.out
    assert said.err == f"✗ Nothing answers on port {port}: start a task first, or give its port with --port.\n"
    figures = json.loads(file.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert sum(figures["results"].values()) == 4
    assert all(result.startswith("error: ") for result in figures["results"])
    assert figures["turns_per_second"] == 0
    assert figures["turn"] == {"p50": None, "p95": None, "max": None}


def test_each_worker_behaves_as_their_place_in_the_list_says() -> None:
    import asyncio

    outcomes = asyncio.run(simulate(own_port(), 3, [Behaviour(), Behaviour(stay_silent=True)], prefix="x"))
    assert sorted(outcome.worker for outcome in outcomes) == ["x0", "x1", "x2"]


def test_an_address_of_a_panel_that_names_something_else_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--address", "?PROLIFIC_PID={{%PROLIFIC_PID%}}&x={name}"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "--address: '?PROLIFIC_PID={{%PROLIFIC_PID%}}&x={name}' may hold {participant} and {session}" in said
