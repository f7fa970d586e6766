"""Keys that a task is given stand in nothing that it writes, prints or sends; and what it writes is for its owner alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from model_chat.scripts.simulate_workers import Behaviour, simulate
from model_chat.tests.e2e.running_task import ROOT, RunningTask

Start = Callable[..., RunningTask]
SECRETS = {
    "key": "kq83-model-key-71",
    "address": "hunter2hunter2",
    "header": "tok-9f2c77aa",
    "environment": "env-55d1c0ffee",
    "flag": "flag-0a1b2c3d4e",
}


def test_no_key_is_written_printed_or_sent(start_task: Start, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opt = {
        "model": "model_chat.tests.e2e.quoting_agent:QuotingAgent",
        "api_key": SECRETS["key"],
        "endpoint": f"https://me:{SECRETS['address']}@model.example/v1?key={SECRETS['environment']}",
        "headers": {"Authorization": SECRETS["header"]},
    }
    (models / "a" / "model.opt").write_text(json.dumps(opt), encoding="utf-8")
    monkeypatch.setenv("STUDY_API_KEY", SECRETS["environment"])
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    flags = [f"+mephisto.blueprint.override_opt.api_key={SECRETS['flag']}", "mephisto.log_level=debug"]
    task = start_task("mephisto.blueprint.num_turns=2", *flags, needed="a:1,b:1", forked=False)
    outcomes = asyncio.run(simulate(task.port, 2, [Behaviour()]))
    assert sorted(outcome.result.partition(":")[0] for outcome in outcomes) == ["complete", "incomplete"], task.log
    served = [requests.get(f"{task.url}{name}", timeout=60).text for name in ("", "task_config.json")]
    task.__exit__()
    (failed,) = [chat for chat in task.conversations() if chat["status"] == "incomplete"]
    assert failed["reason"].startswith("model failed: ")
    assert "incorrect API key provided: [secret]" in failed["reason"]
    assert failed["dialog"][1]["text"] == "Reply 1. My key is [secret]."
    saved_opt = failed["task_description"]["model_opt"]
    assert saved_opt["endpoint"] == "https://[secret]@model.example/v1?key=[secret]"
    assert "api_key" not in saved_opt
    everything = {path: path.read_bytes() for path in task.folder.rglob("*") if path.is_file()}
    assert len(everything) > 10
    told = json.dumps([outcome.packets for outcome in outcomes] + served).encode()
    for name, secret in SECRETS.items():
        assert [path for path, data in everything.items() if secret.encode() in data] == [], name
        assert secret.encode() not in told, name
    collected = [path for place in (task.data, task.chats) for path in (place, *place.rglob("*"))]
    assert [f"{path.stat().st_mode:o} {path}" for path in collected if path.stat().st_mode & 0o077] == []
