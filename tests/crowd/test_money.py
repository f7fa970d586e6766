"""What a study costs on its panel, what its reward is an hour, and how amounts are read, rounded and written."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from model_chat.crowd import prolific_api
from model_chat.crowd.going_live import check_before_launch
from model_chat.crowd.money import hourly, percent_of, plain, to_minor, written
from model_chat.crowd.panel_launch import pay_faults
from model_chat.crowd.panel_pay import (
    PANELS,
    Finished,
    PanelPay,
    PanelPayArgs,
    ProlificApiArgs,
    StudyCost,
    so_far,
    wage_sentence,
)
from model_chat.errors import ConfigurationError
from model_chat.mephisto_task.shared_state import ModelChatSharedState
from model_chat.records.extensions import Extensions
from model_chat.records.schema import Completion, Conversation, TaskDescription, Utterance
from model_chat.records.writing import save_conversation
from model_chat.scripts.manage_workers import main
from model_chat.tests.crowd.prolific_server import (
    STUDY,
    TOKEN,
    VARIABLE,
    WORKSPACE,
    ProlificServer,
    refused,
    serving,
)
from model_chat.tests.mephisto_run import Run

# --- amounts ---


@pytest.mark.parametrize(
    ("amount", "minor"), [("1", 100), (0.07, 7), ("0.01", 1), ("12.340", 1234), (1.5, 150), (8.2, 820)]
)
def test_amounts_are_read_to_the_penny(amount: Any, minor: int) -> None:
    assert to_minor(amount, "GBP") == minor


def test_an_amount_that_is_none_is_called_by_its_currency() -> None:
    with pytest.raises(ValueError, match=r"^'x' is no amount of pounds$"):
        to_minor("x", "GBP")
    with pytest.raises(ValueError, match=r"^'0.005' is no amount of pounds and whole pence$"):
        to_minor("0.005", "GBP")
    with pytest.raises(ValueError, match=r"^'-1' is no amount of CHF and whole cents$"):
        to_minor("-1", "CHF")


@pytest.mark.parametrize("amount", ["1e999999", "-1e999999", "1e400", "1e11", "inf", "nan", "sNaN", 10**400])
def test_an_amount_that_nobody_is_paid_is_none(amount: Any) -> None:
    with pytest.raises(ValueError, match="is no amount of dollars"):
        to_minor(amount)


def test_amounts_are_written_with_the_sign_or_the_code_of_their_currency() -> None:
    assert [written(123456, code) for code in ("USD", "GBP", "EUR", "CHF")] == [
        "$1,234.56",
        "£1,234.56",
        "€1,234.56",
        "1,234.56 CHF",
    ]
    assert [plain(minor) for minor in (0, 5, 123456)] == ["0.00", "0.05", "1234.56"]


def test_a_fee_is_rounded_up_and_never_by_a_float() -> None:
    assert [percent_of(minor, 33.3) for minor in (0, 1, 3, 100, 1000, 15000)] == [0, 1, 1, 34, 333, 4995]
    assert percent_of(100, 33.333333) == 34
    assert percent_of(1000, 0.1) == 1
    assert percent_of(150 * 20, 30) == 900


def test_an_hourly_wage_is_rounded_to_the_nearest_penny() -> None:
    assert [hourly(150, minutes) for minutes in (12, 7, 60, 0.5)] == [750, 1286, 150, 18000]
    assert hourly(1, 8) == 8
    assert hourly(1, 1.6) == 38, "37.5"


# --- what a study costs ---


@pytest.mark.parametrize(
    ("pay", "said"),
    [
        (PanelPay("prolific", 33.3, "GBP"), "20 places × £1.50 = £30.00, with a fee of £9.99: £39.99"),
        (
            PanelPay("prolific", None, "GBP"),
            "20 places × £1.50 = £30.00, without the fee of Prolific, for mephisto.provider.fee_percent is not set",
        ),
        (PanelPay("prolific", 0), "20 places × $1.50 = $30.00"),
        (PanelPay("sona"), "20 places × $1.50 = $30.00"),
        (PanelPay("link", None, "EUR"), "20 places × €1.50 = €30.00"),
        (PanelPay("connect", 25), "20 places × $1.50 = $30.00, with a fee of $7.50: $37.50"),
        (PanelPay("mturk"), "20 places × $1.50 = $30.00, with a fee of $6.00: $36.00"),
    ],
)
def test_the_cost_of_a_study_is_said_with_the_fee_or_that_it_is_not_known(pay: PanelPay, said: str) -> None:
    assert StudyCost(20, 150, pay).sentence() == said


def test_a_wage_below_prolifics_minimum_is_said() -> None:
    assert wage_sentence(PanelPay("prolific", currency="GBP"), 120, 12) == "£1.20 for 12 minutes is £6.00 an hour"
    assert wage_sentence(PanelPay("prolific", currency="GBP"), 119, 12).endswith(
        "is £5.95 an hour, less than Prolific's minimum of £6.00"
    )
    assert wage_sentence(PanelPay("prolific"), 150, 12).endswith("$7.50 an hour, less than Prolific's minimum of $8.00")
    assert wage_sentence(PanelPay("connect"), 10, 60) == "$0.10 for 60 minutes is $0.10 an hour"
    assert wage_sentence(PanelPay("prolific", currency="EUR"), 10, 60) == "€0.10 for 60 minutes is €0.10 an hour"


def test_what_was_paid_so_far_is_said_by_the_median_time() -> None:
    pay = PanelPay("prolific", currency="GBP")
    finished = [Finished(600, 150), Finished(720, 150), Finished(7200, 300), Finished(0, 150)]
    assert so_far(pay, finished) == "3 finished in 12.0 minutes (median); £2.00 for 12 minutes is £10.00 an hour"
    assert so_far(pay, [Finished(0, 150)]) == so_far(pay, []) == "no finished conversation whose time is known"
    assert "for 0.1 minutes" in so_far(pay, [Finished(0.5, 150)]), "no division by nothing"


# --- flags ---


def configured(provider: str = "prolific", reward: Any = 1.5, **flags: Any) -> Any:
    known = OmegaConf.create({"_provider_type": provider, **flags})
    return OmegaConf.create({"mephisto": {"provider": known, "task": {"task_reward": reward}}})


def test_flags_that_are_right_have_no_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, TOKEN)
    flags: dict[str, Any] = {"fee_percent": 33.3, "currency": "GBP", "estimated_minutes": 12, "api_token_env": VARIABLE}
    assert pay_faults(configured(**flags, api_url="https://api.prolific.com")) == []
    for provider in (*PANELS, "mock", "mturk"):
        assert pay_faults(configured(provider)) == []
    defaults: dict[str, Any] = {name: field.default for name, field in ProlificApiArgs.__dataclass_fields__.items()}
    assert pay_faults(configured(**defaults)) == []
    assert set(PanelPayArgs.__dataclass_fields__) < set(defaults)


def test_all_faults_of_the_flags_are_found_without_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    faults = pay_faults(
        configured(
            fee_percent=-1,
            estimated_minutes=float("nan"),
            currency="pounds",
            api_token_env="tok-3n-of-mine",
            api_url="http://api.prolific.com",
            reward=0.005,
        )
    )
    assert [fault.partition(":")[0] for fault in faults] == [
        "mephisto.provider.fee_percent",
        "mephisto.provider.estimated_minutes",
        "mephisto.provider.currency",
        "mephisto.provider.api_token_env",
        "mephisto.provider.api_url",
        "mephisto.task.task_reward",
    ]
    assert "tok-3n" not in " ".join(faults)


def test_flags_that_a_provider_lacks_have_their_defaults() -> None:
    assert PanelPay.of("panel", {}) == PanelPay("panel")
    assert PanelPay.of("panel", {"fee_percent": "much", "currency": None}) == PanelPay("panel")
    assert PanelPay.of("panel", OmegaConf.create({"fee_percent": "???", "currency": "EUR"})).currency == "EUR"


# --- before a launch ---


@pytest.fixture
def prolific(monkeypatch: pytest.MonkeyPatch) -> Iterator[ProlificServer]:
    monkeypatch.setenv(VARIABLE, TOKEN)
    monkeypatch.setattr(prolific_api, "FIRST_PAUSE", 0.0)
    with serving() as server:
        yield server


def launch(cfg: Any, units: int = 20) -> str:
    printed = io.StringIO()
    check_before_launch(None, cfg, ModelChatSharedState(units=units), Console(file=printed, width=40))
    return printed.getvalue()


def test_a_launch_says_what_it_costs_on_the_panel() -> None:
    said = launch(configured("panel", currency="EUR", fee_percent=10, estimated_minutes=12))
    assert said == (
        "Cost: 20 places × €1.50 = €30.00, with a fee of €3.00: €33.00.\n"
        "Reward: €1.50 for 12 minutes is €7.50 an hour.\n"
    )
    assert launch(configured("sona", reward=0)) == "Cost: nothing, for mephisto.task.task_reward is $0.00.\n"
    assert launch(configured("mock")) == ""


def test_a_launch_says_where_the_study_on_prolific_differs(prolific: ProlificServer) -> None:
    flags: dict[str, Any] = {
        "api_url": prolific.url,
        "api_token_env": VARIABLE,
        "study_id": STUDY,
        "currency": "GBP",
        "fee_percent": 0,
    }
    assert launch(configured(**flags)) == (
        "Cost: 20 places × £1.50 = £30.00.\nReward: £1.50 for 12 minutes is £7.50 an hour.\n"
    )
    prolific.studies[STUDY].update(reward=120, places_taken=5)
    said = launch(configured(**flags))
    assert "! The study's reward on Prolific is £1.20, and mephisto.task.task_reward is £1.50.\n" in said
    assert (
        "! The study has 15 places left on Prolific, and the run needs 20 conversations; 'manage_workers.py top-up'"
        in said
    )
    assert "who comes last finds no work" in launch(configured(**flags), units=10)
    prolific.studies[STUDY].update(currency_code="USD")
    assert "! The study pays in USD, and mephisto.provider.currency is GBP.\n" in launch(configured(**flags))


def test_a_token_or_study_that_prolific_does_not_know_stops_the_launch(prolific: ProlificServer) -> None:
    flags: dict[str, Any] = {"api_url": prolific.url, "api_token_env": VARIABLE, "study_id": "nowhere"}
    with pytest.raises(
        ConfigurationError,
        match=r"^mephisto.provider: Prolific answered 404 to GET /studies/nowhere/: Not found; correct",
    ):
        launch(configured(**flags))
    prolific.tokens.clear()
    with pytest.raises(ConfigurationError, match=f"the token in {VARIABLE} is not accepted"):
        launch(configured(**flags))


def test_a_token_is_tried_without_a_study_too(prolific: ProlificServer) -> None:
    flags: dict[str, Any] = {"api_url": prolific.url, "api_token_env": VARIABLE}
    assert launch(configured(**flags)).count("\n") == 1
    prolific.tokens.clear()
    with pytest.raises(ConfigurationError, match=f"the token in {VARIABLE} is not accepted"):
        launch(configured(**flags))


@pytest.mark.parametrize(
    ("units", "currency", "said"),
    [
        (66, "GBP", "The workspace on Prolific can spend £100.00."),
        (
            67,
            "GBP",
            "! The workspace on Prolific can spend £100.00, less than the cost; if the study is not published yet",
        ),
        (67, "USD", "The workspace on Prolific can spend £100.00."),
    ],
)
def test_a_workspace_that_can_not_pay_the_study_is_said(
    prolific: ProlificServer, units: int, currency: str, said: str
) -> None:
    flags: dict[str, Any] = {"api_url": prolific.url, "api_token_env": VARIABLE, "workspace_id": WORKSPACE}
    assert f"\n{said}" in launch(configured(**flags, currency=currency, fee_percent=0), units)


def test_prolific_in_trouble_stops_no_launch(prolific: ProlificServer) -> None:
    prolific.order("GET", "/studies/", *(refused(503, "down") for _ in range(prolific_api.ATTEMPTS)))
    flags: dict[str, Any] = {"api_url": prolific.url, "api_token_env": VARIABLE, "study_id": STUDY}
    assert f"! Prolific answered 503 to GET /studies/{STUDY}/: down.\n" in launch(configured(**flags))
    prolific.order("GET", "/studies/", *(refused(429) for _ in range(prolific_api.ATTEMPTS)))
    assert "too much to do" in launch(configured(**flags))
    assert "can't be reached" in launch(configured(**{**flags, "api_url": "http://127.0.0.1:9"}))


# --- the command ---

CONF = """
defaults:
  - /mephisto/blueprint: model_chat_blueprint
  - /mephisto/architect: ec2
  - /mephisto/provider: mturk
mephisto:
  datapath: ${work_dir}/mephisto
  blueprint:
    conversations_needed_string: "a:2,b:5"
    chat_data_folder: ${work_dir}/conversations
  task:
    task_name: my_study
    task_title: T
    task_description: D
    task_tags: chat
    task_reward: 0.5
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/my_study.yaml").write_text(CONF, encoding="utf-8")
    monkeypatch.setattr("model_chat.configuration.hydra.work_dir", lambda: tmp_path)
    return tmp_path


def saved(model: str, minutes: float, assignment: str = "1") -> dict[str, Any]:
    return Conversation(
        dialog=[
            Utterance(agent_idx=0, text="Hi!", id="Speaker 1", timestamp=0.0),
            Utterance(agent_idx=0, text="Hi!", id="Speaker 1", timestamp=1000.0),
            Utterance(agent_idx=1, text="Yes.", id="Speaker 2", timestamp=1000.0 + minutes * 60, final_rating="4"),
        ],
        workers=["ann"],
        acceptability_violations=[""],
        hit_ids=["1"],
        assignment_ids=[assignment],
        task_description=TaskDescription(model_nickname=model),
        task_name="my_study",
        status=Completion.COMPLETE,
    ).to_dict()


def test_the_cost_is_that_of_what_is_still_missing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", "--conf", "my_study"]) == 0
    assert capsys.readouterr().out == "Cost: 7 places × $0.50 = $3.50, with a fee of $0.70: $4.20.\n"
    assert main(["cost", "--conf", "my_study", "--places", "100"]) == 0
    assert "100 places × $0.50 = $50.00" in capsys.readouterr().out
    for number, model in enumerate(("a", "a", "a", "b")):
        save_conversation(place / "conversations", saved(model, 6, str(number)), live=True)
    assert main(["cost", "--conf", "my_study"]) == 0
    assert "Cost: 4 places" in capsys.readouterr().out
    extensions = Extensions(place / "conversations", "my_study", {"a": 2, "b": 5})
    extensions.save({"a": 5, "b": 8})
    assert main(["cost", "--conf", "my_study"]) == 0
    assert "Cost: 9 places" in capsys.readouterr().out, "three more with each model were asked for on the dashboard"


def test_what_was_paid_so_far_is_added(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "mephisto").mkdir()
    run = Run(place / "mephisto", "my_study")
    for minutes, status in ((6.0, "completed"), (10.0, "approved"), (60.0, "rejected")):
        agent = run.agent()
        agent.state.record_world_data({"custom_data": saved("a", minutes)})
        agent.update_status(status)
    assert main(["cost", "--conf", "my_study"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "So far: 2 finished in 8.0 minutes (median); $0.50 for 8 minutes is $3.75 an hour."
    )


def test_the_cost_needs_a_study_and_says_all_that_is_wrong(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost"]) == 2
    assert capsys.readouterr().err == "✗ --conf: is not set; give the name of the study's file in conf/.\n"
    (place / "conf/my_study.yaml").write_text(CONF.replace("0.5", "0.005"), encoding="utf-8")
    assert main(["cost", "--conf", "my_study", "--places", "-1"]) == 2
    assert [line.partition(":")[0] for line in capsys.readouterr().err.splitlines()] == [
        "✗ mephisto.task.task_reward",
        "✗ --places",
    ]
