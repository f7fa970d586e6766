"""Faults in the settings of a model behind an endpoint."""

from __future__ import annotations

from typing import Any

import pytest

from model_chat.agents.endpoint_settings import settings_faults

KEY = "sk-test-0123456789abcdefghij"


def test_wrong_settings_are_all_named() -> None:
    faults = settings_faults(
        "f", {"base_url": "ftp://x", "temperature": -1, "api_key": "k", "extra_body": {"stream": 1}}
    )
    text = "\n".join(faults)
    assert len(faults) == 5
    for words in ("'base_url'", "'endpoint_model' is not set", "'temperature'", "'api_key_env'", "which the task sets"):
        assert words in text


@pytest.mark.parametrize(
    "setting",
    [
        {"base_url": "https://user:pass@host/v1"},
        {"base_url": "https://host/v1?key=1"},
        {"base_url": "host/v1"},
        {"base_url": "http://host:99999/v1"},
        {"base_url": "http://host:x/v1"},
        {"base_url": "http://host/v\x01"},
        {"base_url": "http://[::1/v1"},
        {"base_url": "http://xn--/v1"},
        {"temperature": float("nan")},
        {"top_p": 0.0},
        {"max_tokens": "300"},
        {"requests_at_once": 0},
        {"requests_per_minute": 0},
        {"usd_per_million_input_tokens": -0.1},
        {"api_key_env": "NOT_SET_ANYWHERE_ELSE"},
        {"api_key_env": "no variable"},
        {"headers_env": {"X Y": "HOME"}},
        {"headers_env": {"X-Key": "no variable"}},
        {"ca_file": "/nowhere/ca.pem"},
        {"read_timeout": 0},
        {"usd_per_million_output_tokens": float("inf")},
        {"stream": "yes"},
    ],
)
def test_each_wrong_setting_is_one_sentence(setting: dict[str, Any]) -> None:
    faults = settings_faults("f", {"base_url": "https://host/v1", "endpoint_model": "x", **setting})
    assert len(faults) == 1
    assert next(iter(setting)) in faults[0]


@pytest.mark.parametrize(
    "setting",
    [
        {"api_key_env": KEY},
        {"api_key_env": "gsk_0123456789abcdefghijkl"},
        {"headers_env": {"X-Key": KEY}},
        {"base_url": f"https://user:{KEY}@host/v1"},
        {"api_key": KEY},
    ],
)
def test_a_key_in_the_wrong_place_is_not_repeated(setting: dict[str, Any]) -> None:
    (fault,) = settings_faults("f", {"base_url": "https://host/v1", "endpoint_model": "x", **setting})
    for secret in (KEY, "gsk_0123456789abcdefghijkl"):
        assert secret not in fault


def test_a_key_that_no_header_can_hold_is_found_before_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in (f"{KEY}\n{KEY}", f"{KEY} x", f"{KEY}\u00e9"):
        monkeypatch.setenv("TEST_ENDPOINT_KEY", key)
        given = {"base_url": "https://host/v1", "endpoint_model": "x", "api_key_env": "TEST_ENDPOINT_KEY"}
        (fault,) = settings_faults("f", given)
        assert "holds characters that no key has" in fault
        assert KEY not in fault
