"""Flags of panels: what is refused before a launch, and where participants are led."""

from __future__ import annotations

from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from model_chat.crowd.panels import KINDS, Panel, panel_faults
from model_chat.mephisto_task.panel_providers import PROVIDERS
from model_chat.records.participation import EndingKind

CODES = {"complete": "C1DONE88"}


def config(provider: str = "prolific", codes: dict[str, Any] | None = None, **flags: Any) -> DictConfig:
    """The configuration of a panel, with the provider's own defaults."""
    args = OmegaConf.structured(PROVIDERS[provider].ArgsClass)
    args = OmegaConf.merge(args, {**flags, "codes": CODES if codes is None else codes})
    return OmegaConf.create({"mephisto": {"provider": args, "architect": {}}})


def panel(provider: str = "prolific", codes: dict[str, Any] | None = None, **flags: Any) -> Panel:
    """The panel of a configuration."""
    return Panel.from_flags(config(provider, codes, **flags).mephisto.provider)


@pytest.mark.parametrize("provider", KINDS)
def test_a_code_for_who_has_finished_is_all_that_must_be_given(provider: str) -> None:
    assert panel_faults(config(provider)) == []


def test_a_code_may_be_as_long_as_the_sentence_about_longer_ones_says() -> None:
    assert panel_faults(config(codes={**CODES, "no_work": "x" * 64})) == []


@pytest.mark.parametrize("provider", KINDS)
def test_a_study_without_a_code_for_who_has_finished_is_refused(provider: str) -> None:
    (fault,) = panel_faults(config(provider, {}))
    assert fault.startswith("mephisto.provider.codes.complete: is not set")


@pytest.mark.parametrize(
    ("address", "part"),
    [
        ("http://panel.example.org/?cc={code}", "is not encrypted"),
        ("https://panel.example.org/?cc={cc}", "'{cc}' is unknown"),
        ("https://panel.example.org/?cc={code", "is no address"),
        ("https://panel.example.org/?cc={code!r}", "is no address"),
        ("https://panel.example.org/?cc={}", "is no address"),
        ("https://{participant}.example.org/", "is no address to return to"),
        ("https://panel.example.org@evil.example/?cc={code}", "is no address to return to"),
        ("javascript:alert('{code}')", "is no address to return to"),
        ("panel.example.org/?cc={code}", "is no address to return to"),
        ("https:///?cc={code}", "is no address to return to"),
        ("https://panel.example.org/a b?cc={code}", "a character that no address has"),
        ("https://panel.example.org:port/?cc={code}", "is no address"),
    ],
)
def test_a_way_back_that_leads_nowhere_is_refused(address: str, part: str) -> None:
    (fault,) = panel_faults(config(completion_url=address))
    assert fault.startswith("mephisto.provider.completion_url:")
    assert part in fault


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1:8000", "[::1]:8000"])
def test_a_way_back_to_this_machine_need_not_be_encrypted(host: str) -> None:
    assert panel_faults(config(completion_url=f"http://{host}/?cc={{code}}")) == []


def test_a_code_shared_with_complete_must_be_said_to_be_and_no_fault_names_a_code() -> None:
    codes = {**CODES, "screened_out": "c1done88", "declined": "has space", "no_work": "x" * 65}
    faults = panel_faults(config("prolific", codes))
    assert [fault.split(":")[0].rsplit(".", 1)[1] for fault in faults] == ["declined", "no_work", "screened_out"]
    assert not any(code in fault for fault in faults for code in ("C1DONE88", "c1done88", "has space", "xxx"))
    assert panel_faults(config("prolific", {**CODES, "screened_out": "C1DONE88", "shared": True})) == []


def test_all_faults_are_said_at_once() -> None:
    faults = panel_faults(
        config(
            "prolific", {}, completion_url="http://x.org/", participant_param="a b", study_param="", linger_seconds=-1
        )
    )
    assert [fault.split(":")[0] for fault in faults] == [
        "mephisto.provider.linger_seconds",
        "mephisto.provider.participant_param",
        "mephisto.provider.codes.complete",
        "mephisto.provider.completion_url",
    ]


@pytest.mark.parametrize("flag", ["participant_param", "study_param", "session_param"])
def test_names_of_parameters_are_of_no_use_on_a_link(flag: str) -> None:
    (fault,) = panel_faults(config("link", **{flag: "PID"}))
    assert fault.startswith(f"mephisto.provider.{flag}: 'PID' would be read by nobody")


def test_two_ids_can_not_have_one_name_in_the_address() -> None:
    (fault,) = panel_faults(config(session_param="STUDY_ID"))
    assert fault.startswith("mephisto.provider.session_param: 'STUDY_ID' is mephisto.provider.study_param already")


@pytest.mark.parametrize("provider", ["connect", "sona", "panel", "link"])
def test_only_prolific_signs_addresses(provider: str) -> None:
    (fault,) = panel_faults(config(provider, verify_links=True))
    assert "only Prolific signs" in fault


def test_signed_addresses_need_the_study_s_own_address() -> None:
    (fault,) = panel_faults(config(verify_links=True))
    assert fault.startswith("mephisto.provider.link_audience: is not set")
    assert panel_faults(config(verify_links=True, link_audience="https://study.lab.edu/pets/")) == []
    (fault,) = panel_faults(config(verify_links=True, link_audience="https://study.lab.edu:port/pets/"))
    assert "'https://study.lab.edu:port/pets/' is no https address" in fault  # no link would be for it
    served = config(verify_links=True)
    served.mephisto.architect.public_url = "https://study.lab.edu/pets/"
    assert panel_faults(served) == []


# --- the way back ---


def test_ids_in_the_way_back_are_encoded() -> None:
    to = panel("panel", completion_url="https://p.example.org/{study}?c={code}&i={participant}&s={session}")
    assert (
        to.return_url("C1DONE88", "a&b=c", "s/1", "x y") == "https://p.example.org/s%2F1?c=C1DONE88&i=a%26b%3Dc&s=x%20y"
    )


def test_an_address_without_the_code_says_complete_and_is_for_no_other_ending() -> None:
    sona = panel(
        "sona",
        {**CODES, "screened_out": "OUT"},
        completion_url="https://school.sona-systems.com/webstudy_credit.aspx?experiment_id=1&credit_token=t&survey_code={participant}",
    )
    assert (sona.return_url("C1DONE88", "4711", None, None) or "").endswith("survey_code=4711")
    assert sona.return_url("OUT", "4711", None, None) is None


def test_without_a_code_or_an_id_that_the_address_needs_nobody_is_led_anywhere() -> None:
    connect = panel("connect")
    assert connect.return_url("C1DONE88", "p", None, None) is None
    assert (
        connect.return_url("C1DONE88", "p", "P7", None)
        == "https://connect.cloudresearch.com/participant/project/P7/complete"
    )
    assert panel().return_url(None, "p", "s", "e") is None


def test_a_model_that_fails_costs_nobody_their_pay() -> None:
    assert panel().codes[EndingKind.MODEL_FAILED] == "C1DONE88"
    assert panel(codes={**CODES, "model_failed": "FAILED"}).codes[EndingKind.MODEL_FAILED] == "FAILED"
    assert EndingKind.TIMED_OUT not in panel().codes


def test_codes_are_in_no_text_of_a_panel() -> None:
    assert "C1DONE88" not in repr(panel())


@pytest.mark.parametrize(
    ("provider", "address"),
    [
        (
            "prolific",
            "https://lab.edu/pets/?PROLIFIC_PID={{%PROLIFIC_PID%}}&STUDY_ID={{%STUDY_ID%}}&SESSION_ID={{%SESSION_ID%}}",
        ),
        ("connect", "https://lab.edu/pets/"),
        ("sona", "https://lab.edu/pets/?id=%SURVEY_CODE%"),
        ("panel", "https://lab.edu/pets/"),
        ("link", "https://lab.edu/pets/"),
    ],
)
def test_the_address_to_paste_is_as_the_panel_documents_it(provider: str, address: str) -> None:
    assert panel(provider).study_url("https://lab.edu/pets/") == address
