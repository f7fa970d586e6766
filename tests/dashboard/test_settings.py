"""The dashboard's flags are checked before anything is launched."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf

from model_chat.dashboard.settings import Role, dashboard_faults, read_passwords
from model_chat.errors import ConfigurationError
from model_chat.tests.ports import own_port

B = "mephisto.blueprint"
FLAG = f"{B}.dashboard_password_env"
PASSWORD = "correct horse battery"


def faults(page_port: int = 3000, **changes: Any) -> list[str]:
    known = {
        "dashboard_port": None,
        "dashboard_host": "127.0.0.1",
        "dashboard_password_env": None,
        "min_hourly_wage": None,
        "metrics_port": None,
    }
    architect = OmegaConf.create({"_architect_type": "local", "port": str(page_port)})
    return dashboard_faults(SimpleNamespace(**{**known, **changes}), architect)


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASH", PASSWORD)
    monkeypatch.setenv("DASH_READ", PASSWORD + "2")
    monkeypatch.setenv("SHORT", "x" * 11)
    monkeypatch.delenv("UNSET", raising=False)


def test_what_is_right_has_no_faults() -> None:
    assert faults() == []
    assert faults(dashboard_port=0) == []
    assert faults(dashboard_port=own_port(), dashboard_host="0.0.0.0", dashboard_password_env="DASH") == []
    assert faults(dashboard_port=0, dashboard_host="::1", min_hourly_wage=12.5) == []


@pytest.mark.parametrize("host", ["0.0.0.0", "10.1.2.3", "::"])
def test_an_address_that_others_reach_needs_a_password(host: str) -> None:
    (fault,) = faults(dashboard_port=0, dashboard_host=host)
    assert fault.startswith(f"{FLAG}: is not set, and {B}.dashboard_host lets other machines reach the dashboard; give")
    assert faults(dashboard_port=0, dashboard_host=host, dashboard_password_env="DASH") == []


@pytest.mark.parametrize("host", ["localhost", "example.org", "1.2.3", "fe80::1%eth0", ""])
def test_a_host_is_an_address(host: str) -> None:
    (fault,) = faults(dashboard_port=0, dashboard_host=host)
    assert fault.startswith(f"{B}.dashboard_host: '{host}' is not an IP address; give 127.0.0.1")


def test_flags_without_a_port_are_of_no_use() -> None:
    found = faults(dashboard_host="0.0.0.0", dashboard_password_env="DASH")
    assert [fault.split(":")[0] for fault in found] == [f"{B}.dashboard_host", FLAG]
    assert all("is of no use without" in fault for fault in found)


@pytest.mark.parametrize("port", [-1, 65536, 10**6])
def test_a_port_is_within_its_range(port: int) -> None:
    (fault,) = faults(dashboard_port=port)
    assert fault.startswith(f"{B}.dashboard_port: '{port}' is not a port")


def test_a_port_is_free_and_nobody_elses() -> None:
    port = own_port()
    assert "that of mephisto.architect.port, too" in faults(port, dashboard_port=port)[0]
    assert f"that of {B}.metrics_port, too" in faults(dashboard_port=port, metrics_port=port)[0]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        (fault,) = faults(dashboard_port=taken.getsockname()[1])
    assert "can't be used" in fault


@pytest.mark.parametrize("wage", [0.0, -1.0, float("nan"), float("inf")])
def test_a_wage_is_an_amount(wage: float) -> None:
    (fault,) = faults(min_hourly_wage=wage)
    assert fault.startswith(f"{B}.min_hourly_wage: {wage} is no wage; give an amount")


def test_all_faults_are_found_at_once() -> None:
    found = faults(
        dashboard_port=-1, dashboard_host="nowhere", dashboard_password_env="UNSET,x y", min_hourly_wage=-1.0
    )
    assert len(found) == 5


def test_passwords_give_roles() -> None:
    assert read_passwords(FLAG, None) == {}
    assert read_passwords(FLAG, "DASH") == {PASSWORD: Role.PAY}
    both = read_passwords(FLAG, "read:DASH_READ, review:DASH")
    assert both == {PASSWORD + "2": Role.READ, PASSWORD: Role.REVIEW}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("UNSET", "the environment variable UNSET is not set"),
        ("SHORT", "the password in SHORT is too short; give at least 12 characters"),
        ("admin:DASH", "'admin' is no role; give one of read, review, pay"),
        ("read:DASH,read:DASH_READ", "duplicate role 'read'"),
        ("read:DASH,pay:DASH", "two roles have the same password"),
        ("read:", "is not the name of an environment variable"),
        (",", "is not the name of an environment variable"),
    ],
)
def test_faults_of_passwords_are_said(given: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        read_passwords(FLAG, given)
    assert said in str(error.value)


def test_a_password_in_place_of_its_variable_is_not_repeated() -> None:
    with pytest.raises(ConfigurationError) as error:
        read_passwords(FLAG, "my secret password!")
    assert "secret" not in str(error.value)
