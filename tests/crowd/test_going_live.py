"""Nothing is offered on MTurk that would be refused, cost more than was confirmed, or cost workers their pay."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from model_chat.configuration.hydra import ROOT, register
from model_chat.configuration.task_names import full_task_name
from model_chat.crowd import going_live
from model_chat.crowd.going_live import (
    GRACE_SECONDS,
    check_before_launch,
    configuration_faults,
    longest_seconds,
    requirements,
)
from model_chat.errors import ConfigurationError
from model_chat.mephisto_task.shared_state import ModelChatSharedState
from model_chat.tests.crowd.mturk_account import Account

Compose = Callable[..., DictConfig]


@pytest.fixture
def composed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Compose]:
    """Compose a shipped configuration with flags, on a machine whose AWS set-up is whole."""
    import mephisto.abstractions.architects.ec2.ec2_helpers as ec2

    fallback = tmp_path / "fallback.json"
    fallback.touch()
    monkeypatch.setattr(ec2, "DEFAULT_FALLBACK_FILE", str(fallback))
    monkeypatch.setattr(going_live, "_has_profile", lambda name: name == "router")
    name = register("mturk_live")

    def compose_(conf: str, *flags: str) -> DictConfig:
        requester = "me_sandbox" if conf == "mturk_sandbox" else "me"
        own = ["mephisto.architect.profile_name=router", f"mephisto.provider.requester_name={requester}"]
        return compose(name, overrides=[f"conf={conf}", *own, *flags])

    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield compose_
    GlobalHydra.instance().clear()


@pytest.mark.parametrize(("conf", "task_name"), [("mturk_sandbox", "model_chat_sandbox"), ("mturk_live", "model_chat")])
def test_the_shipped_configurations_hold_together(composed: Compose, conf: str, task_name: str) -> None:
    cfg = composed(conf)
    assert configuration_faults(cfg) == []
    assert full_task_name(cfg) == task_name
    assert cfg.mephisto.blueprint.check_acceptability
    assert cfg.mephisto.blueprint.block_qualification


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["mephisto.task.task_reward=0"], "MTurk pays at least one cent"),
        (["mephisto.task.task_reward=0.125"], "MTurk pays whole cents"),
        ([f"mephisto.task.task_title={'x' * 129}"], "has 129 characters, MTurk allows 128"),
        (
            ["mephisto.task.assignment_duration_in_seconds=600"],
            " s that a worker may take, from onboarding to handing in",
        ),
        (["mephisto.task.task_lifetime_in_seconds=10"], "refused by MTurk; give 30 to 31536000"),
        (["mephisto.architect.profile_name=other"], "there is no 'other' in ~/.aws/credentials"),
        (
            ["mephisto.provider.requester_name=''"],
            "is not set; give the name that you registered (python scripts/mephisto_cli.py register mturk)",
        ),
        (["mephisto.architect.server_type=flask"], "lets anybody into any conversation; give node"),
        (["mturk.min_percent_approved=101"], "101 is no percentage"),
        (["mturk.allowed_countries='US,Germany'"], "'Germany' is no country"),
    ],
)
def test_what_can_not_work_on_mturk_is_said_with_its_flag(composed: Compose, flags: list[str], said: str) -> None:
    (fault,) = configuration_faults(composed("mturk_live", *flags))
    assert said in fault
    assert flags[0].partition("=")[0] in fault


FLAGS = {
    "onboarding_qualification": "passed",
    "max_onboard_time": 1000,
    "num_turns": 3,
    "max_resp_time": 10,
    "max_model_response_time": 100,
}


@pytest.mark.parametrize(
    ("flags", "checks", "seconds"),
    [
        # onboarding + (3 messages + rating + checks) × 10 s + (an opening + 3 replies) × 100 s + grace
        ({}, 0, 1000 + 40 + 400 + GRACE_SECONDS),
        ({}, 2, 1000 + 60 + 400 + GRACE_SECONDS),
        ({"time_extensions": 2}, 2, 1000 + 180 + 400 + GRACE_SECONDS),
        ({"time_extensions": None}, 0, 1000 + 40 + 400 + GRACE_SECONDS),
        ({"onboarding_qualification": None}, 0, 40 + 400 + GRACE_SECONDS),
        ({"num_turns": 1}, 0, 1000 + 20 + 200 + GRACE_SECONDS),
        ({"comparison": "per_turn"}, 0, 1000 + 40 + 30 + 400 + GRACE_SECONDS),  # a judgement each turn
        ({"max_model_response_time": 1}, 0, 1000 + 40 + 4 + GRACE_SECONDS),
        ({"reply_first_seconds": 2.5}, 0, 1000 + 40 + 410 + GRACE_SECONDS),
        ({"reply_chars_per_second": 30.0}, 0, 1000 + 40 + 600 + GRACE_SECONDS),  # 1500 characters take 50 s
    ],
)
def test_the_time_for_an_assignment_holds_all_that_a_worker_may_take(
    flags: dict[str, Any], checks: int, seconds: int
) -> None:
    assert longest_seconds(OmegaConf.create({**FLAGS, **flags}), checks) == seconds


def test_the_pages_of_a_study_flow_need_time_too(tmp_path: Path) -> None:
    path = tmp_path / "flow.yaml"
    pages = "pages: [{id: a, kind: consent, text: Hi}, {id: chat, kind: chat}, {id: b, kind: text, text: Thanks}]"
    path.write_text(pages, encoding="utf-8")
    without = longest_seconds(OmegaConf.create(FLAGS), 0)
    flags = {**FLAGS, "study_flow_path": str(path), "max_page_time": 7}
    assert longest_seconds(OmegaConf.create(flags), 0) == without + 2 * 7
    assert longest_seconds(OmegaConf.create({**flags, "time_extensions": 1}), 0) == without + 2 * 14 + 40
    path.write_text("pages: [", encoding="utf-8")  # which is said elsewhere
    assert longest_seconds(OmegaConf.create(flags), 0) == without


def test_attention_checks_need_time_too(composed: Compose) -> None:
    needed = longest_seconds(composed("mturk_live").mephisto.blueprint, 0)
    cfg = composed("mturk_live", f"mephisto.task.assignment_duration_in_seconds={needed}")
    assert configuration_faults(cfg) == []
    (fault,) = configuration_faults(cfg, attention_checks=1)
    assert fault.endswith(f"give at least {longest_seconds(cfg.mephisto.blueprint, 1)}.")
    cfg = composed("mturk_live", f"mephisto.task.assignment_duration_in_seconds={needed - 1}")
    (fault,) = configuration_faults(cfg)
    assert f"give at least {needed}." in fault


def test_a_server_that_a_dead_run_left_on_is_said_before_it_stops_the_launch(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mephisto.abstractions.architects.ec2.ec2_architect as ec2

    monkeypatch.setattr(ec2, "DEFAULT_SERVER_DETAIL_LOCATION", str(tmp_path))
    (tmp_path / "model-chat.json").write_text("{}", encoding="utf-8")
    (fault,) = configuration_faults(composed("mturk_live"))
    assert fault.startswith("mephisto.architect.subdomain: a server of an earlier run still holds 'model-chat'")
    assert "cleanup_ec2_server_by_name" in fault
    assert configuration_faults(composed("mturk_live", "mephisto.architect.subdomain=other")) == []


def test_the_local_architect_is_refused_for_mturk() -> None:
    for provider in ("mturk", "mturk_sandbox"):
        cfg = OmegaConf.create({"mephisto": {"architect": {"_architect_type": "local"}}})
        (fault,) = going_live._architect_faults(cfg, provider)
        assert "MTurk's workers can't reach it" in fault
        assert "mephisto/architect=ec2" in fault


def test_on_this_machine_nothing_of_it_is_asked() -> None:
    assert configuration_faults(OmegaConf.create({"mephisto": {"provider": {"_provider_type": "mock"}}})) == []


def test_mturk_is_asked_for_experience_and_country_live_only(composed: Compose) -> None:
    guarded = {"ActionsGuarded": "DiscoverPreviewAndAccept"}
    least = {"Comparator": "GreaterThanOrEqualTo", **guarded}
    countries = {"Comparator": "In", "LocaleValues": [{"Country": "US"}, {"Country": "IE"}], **guarded}
    cfg = composed("mturk_live", "mturk.allowed_countries='US, IE'")
    assert requirements(cfg) == [
        {"QualificationTypeId": "000000000000000000L0", "IntegerValues": [97], **least},
        {"QualificationTypeId": "00000000000000000040", "IntegerValues": [500], **least},
        {"QualificationTypeId": "00000000000000000071", **countries},
    ]
    assert requirements(composed("mturk_sandbox")) == []


def launch(cfg: DictConfig, account: Account, units: int = 10, registered: bool = True) -> str:
    """Check as before a launch; return what was printed."""
    printed = io.StringIO()
    cfg.mephisto.provider.requester_name = account.requester.requester_name
    shared = ModelChatSharedState(units=units)
    type(account.requester).is_registered = lambda self: registered
    try:
        check_before_launch(account.db, cfg, shared, Console(file=printed, width=200))
    finally:
        del type(account.requester).is_registered
    assert shared.mturk_specific_qualifications == requirements(cfg)  # type: ignore[attr-defined]  # Mephisto looks for it
    return printed.getvalue()


def test_a_live_run_costs_what_was_confirmed_or_is_not_launched(composed: Compose, tmp_path: Path) -> None:
    account = Account(tmp_path, sandbox=False)
    for confirmed in (None, "15", "18.01", "much"):
        account.expect("get_account_balance", {"AvailableBalance": "100.00"})
        cfg = composed("mturk_live", *([] if confirmed is None else [f"confirm_cost={confirmed}"]))
        with pytest.raises(ConfigurationError, match=r"give confirm_cost=18\.00"):
            launch(cfg, account)
    account.expect("get_account_balance", {"AvailableBalance": "100.00"})
    said = launch(composed("mturk_live", "confirm_cost=18.00"), account)
    assert said == "Cost: 10 units × ($1.50 reward + $0.30 fee) = $18.00\n"


def test_the_account_must_hold_the_money(composed: Compose, tmp_path: Path) -> None:
    account = Account(tmp_path, sandbox=False)
    account.expect("get_account_balance", {"AvailableBalance": "17.99"})
    with pytest.raises(ConfigurationError, match=r"holds \$17\.99, the run costs \$18\.00"):
        launch(composed("mturk_live", "confirm_cost=18"), account)


def test_the_sandbox_needs_no_confirmation(composed: Compose, tmp_path: Path) -> None:
    account = Account(tmp_path, sandbox=True)
    account.expect("get_account_balance", {"AvailableBalance": "10000.00"})
    assert launch(composed("mturk_sandbox"), account, units=2).endswith("= $1.20; nothing in the sandbox\n")


def test_keys_that_are_missing_or_refused_are_said_before_the_launch(composed: Compose, tmp_path: Path) -> None:
    account = Account(tmp_path, sandbox=True)
    with pytest.raises(ConfigurationError, match=r"are not in ~/\.aws/credentials on this machine"):
        launch(composed("mturk_sandbox"), account, registered=False)
    account.refuse("get_account_balance", "The security token is invalid", code="UnrecognizedClientException")
    with pytest.raises(ConfigurationError, match=r"MTurk does not accept 'researcher_sandbox' .*security token"):
        launch(composed("mturk_sandbox"), account)


def test_the_pages_name_every_flag_and_file() -> None:
    page: Any = (ROOT / "docs" / "mturk.md").read_text(encoding="utf-8")
    for name in (
        "confirm_cost",
        "mturk_sandbox",
        "mturk_live",
        "mturk.min_percent_approved",
        "mturk.allowed_countries",
    ):
        assert name in page
