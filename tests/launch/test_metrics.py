"""The metrics of a run: over HTTP, with a real Mephisto database and real ParlAI agents; and the faults of their flags."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from mephisto.abstractions._subcomponents.agent_state import AgentState
from parlai.core.message import Message
from parlai.core.opt import Opt

from model_chat.conversation.quota import ConversationQuota
from model_chat.errors import ConfigurationError
from model_chat.launch.metrics import metrics_faults, serve_metrics
from model_chat.mephisto_task.task_database import worker_counts
from model_chat.model_chat_blueprint import ModelChatSharedState
from model_chat.serving.loading import LoadedModel
from model_chat.serving.pool import ModelFailureError, ModelPool
from model_chat.serving.spend import ModelSpend
from model_chat.tests.mephisto_run import Run
from model_chat.tests.parlai_agents import RAISE, ScriptedAgent
from model_chat.tests.ports import own_port

PORT, HOST = "mephisto.blueprint.metrics_port", "mephisto.blueprint.metrics_host"
SECRET_WORKER = "A1B2C3SECRETID"


def args(port: int | None, host: str = "127.0.0.1") -> Any:
    return SimpleNamespace(metrics_port=port, metrics_host=host)


def pool_of(nickname: str, *script: str) -> ModelPool:
    return ModelPool([LoadedModel(nickname, ScriptedAgent(Opt(script=list(script))), None)], 1, 30)


def ask(pool: ModelPool, nickname: str, clone: Any) -> None:
    message = Message({"id": "Speaker 1", "text": "Hi!", "episode_done": False})
    pool.reply(nickname, clone, [message])


@contextmanager
def served(shared: Any, quota: Any, host: str = "127.0.0.1") -> Iterator[str]:
    with serve_metrics(args(own_port(), host), shared, quota) as address:
        assert address is not None
        yield address


def values(text: str) -> dict[str, float]:
    """What is shown: a metric with its labels -> its value."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


@pytest.fixture
def mephisto_run(tmp_path: Path) -> Run:
    """A run of the test's own: what it counts is there alone, and one test breaks its database."""
    return Run(tmp_path)


@pytest.fixture
def shared(mephisto_run: Run) -> Any:
    """The shared state of a run with one model, one worker in a chat, one who left, one in onboarding."""
    pool = pool_of('odd "name"\\', "Hello.", RAISE, "Hello again.")
    state = ModelChatSharedState(world_opt=SimpleNamespace(models=pool))  # type: ignore[arg-type]  # all that is read
    state.spend = ModelSpend(pool, 2.5, 0.25)
    state.live_run = SimpleNamespace(task_run=mephisto_run.task_run)  # type: ignore[assignment]  # likewise
    mephisto_run.agent().update_status(AgentState.STATUS_IN_TASK)
    mephisto_run.agent().update_status(AgentState.STATUS_DISCONNECT)
    return state


def test_replies_failures_conversations_workers_and_spend_are_shown(shared: Any) -> None:
    nickname = 'odd "name"\\'
    label = 'model="odd \\"name\\"\\\\"'
    pool = shared.world_opt.models
    clone = pool.model(nickname).clone()
    quota = ConversationQuota({nickname: 5}, {nickname: 2})
    quota.take()
    with served(shared, quota) as address:
        before = values(requests.get(address, timeout=60).text)
        assert before[f"model_chat_reply_seconds_count{{{label}}}"] == 0
        assert before[f"model_chat_reply_failures_total{{{label}}}"] == 0
        ask(pool, nickname, clone)
        with pytest.raises(ModelFailureError):
            ask(pool, nickname, clone)
        ask(pool, nickname, clone)
        answer = requests.get(address, timeout=60)
    now = values(answer.text)
    assert now[f"model_chat_reply_seconds_count{{{label}}}"] == 2
    assert now[f'model_chat_reply_seconds_bucket{{le="+Inf",{label}}}'] == 2
    assert now[f"model_chat_reply_failures_total{{{label}}}"] == 1
    assert now[f"model_chat_conversations_done{{{label}}}"] == 2
    assert now[f"model_chat_conversations_in_flight{{{label}}}"] == 1
    assert now[f"model_chat_conversations_needed{{{label}}}"] == 5
    assert now['model_chat_workers{stage="task",state="in task"}'] == 1
    assert now['model_chat_workers{stage="task",state="disconnect"}'] == 1
    assert now["model_chat_spend_usd"] == 0.25
    assert now["model_chat_spend_limit_usd"] == 2.5
    assert now[f"model_chat_model_spend_usd_total{{{label}}}"] == 0
    assert answer.headers["Content-Type"].startswith("text/plain")


def test_nobodys_id_and_nothing_of_mephistos_own_metrics_is_shown(shared: Any, mephisto_run: Run) -> None:
    requester = mephisto_run.task_run.get_requester()
    worker = mephisto_run.db.new_worker(SECRET_WORKER, "mock")
    assert worker
    with served(shared, ConversationQuota({"a": 1})) as address:
        text = requests.get(address, timeout=60).text
    for secret in (
        SECRET_WORKER,
        "worker_id",
        requester.requester_name,
        "agent_id",
        mephisto_run.task_run.get_task().task_name,
    ):
        assert secret not in text
    names = set(re.findall(r"^# TYPE (\S+)", text, flags=re.MULTILINE))
    assert names
    assert {name for name in names if not name.startswith("model_chat_")} == set()


def test_before_the_launch_no_worker_is_counted(shared: Any) -> None:
    shared.live_run = shared.spend = None
    with served(shared, ConversationQuota({"a": 1})) as address:
        text = requests.get(address, timeout=60).text
    assert "model_chat_workers{" not in text
    assert "spend" not in text
    assert 'model_chat_conversations_needed{model="a"} 1.0' in text


@pytest.mark.parametrize("path", ["/", "/metrics/", "/metrics/x", "/favicon.ico", "/healthz"])
def test_only_the_metrics_are_served(shared: Any, path: str) -> None:
    with served(shared, ConversationQuota({"a": 1})) as address:
        answer = requests.get(address.replace("/metrics", path), timeout=60)
    assert (answer.status_code, answer.text) == (404, "Not found\n")


def test_a_database_that_cannot_be_read_is_an_answer_and_no_traceback(
    shared: Any, mephisto_run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    with served(shared, ConversationQuota({"a": 1})) as address:
        Path(mephisto_run.db.db_path).write_bytes(b"no database" * 1000)
        answer = requests.get(address, timeout=60)
    assert (answer.status_code, answer.text) == (503, "The database can't be read\n")
    assert "Traceback" not in capfd.readouterr().err


def test_they_are_served_to_this_machine_only_and_end_with_the_run(shared: Any) -> None:
    with served(shared, ConversationQuota({"a": 1})) as address:
        port = int(address.rsplit(":", 1)[1].split("/")[0])
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), 5)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)


def test_without_a_port_there_are_none(shared: Any) -> None:
    with serve_metrics(args(None), shared, ConversationQuota({"a": 1})) as address:
        assert address is None


def test_a_port_that_was_taken_meanwhile_is_said(shared: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(ConfigurationError, match=rf"{PORT}: {port} can't be used \(Address already in use\)"),
            serve_metrics(args(port), shared, ConversationQuota({"a": 1})),
        ):
            pass


def test_the_states_of_another_run_are_not_counted(mephisto_run: Run) -> None:
    mephisto_run.agent()
    assert sum(worker_counts(mephisto_run.db, mephisto_run.task_run.db_id).values()) == 1
    assert worker_counts(mephisto_run.db, str(int(mephisto_run.task_run.db_id) + 1)) == {}


@pytest.mark.parametrize(
    ("port", "host", "faults"),
    [
        (None, "127.0.0.1", []),
        (None, "0.0.0.0", [f"{HOST}: is of no use without {PORT}"]),
        (None, "localhost", [f"{HOST}: 'localhost' is not an IP address"]),
        (0, "127.0.0.1", [f"{PORT}: '0' is not a port"]),
        (65536, "127.0.0.1", [f"{PORT}: '65536' is not a port"]),
        (-1, "all", [f"{HOST}: 'all' is not an IP address", f"{PORT}: '-1' is not a port"]),
        (3000, "127.0.0.1", [f"{PORT}: 3000 is the page's own (mephisto.architect.port)"]),
    ],
)
def test_faults_of_the_flags_are_all_said(port: int | None, host: str, faults: list[str]) -> None:
    found = metrics_faults(args(port, host), SimpleNamespace(_architect_type="local", port="3000"))
    assert len(found) == len(faults)
    for sentence, beginning in zip(found, faults, strict=True):
        assert sentence.startswith(beginning)


def test_a_taken_port_is_a_fault_where_it_is_taken() -> None:
    architect = SimpleNamespace(_architect_type="local", port="0")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (fault,) = metrics_faults(args(port), architect)
        assert fault.startswith(f"{PORT}: {port} can't be used (Address already in use)")
        assert metrics_faults(args(port, "127.0.0.2"), architect) == []
