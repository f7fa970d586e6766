"""What comes to a panel's study and is nobody: addresses without an id, and requests that no page sends."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from model_chat.tests.e2e.running_task import RunningTask, make_fixed_model
from model_chat.tests.e2e.test_panels import PROLIFIC, come


@pytest.mark.parametrize(
    ("query", "what"),
    [
        ("?", "does not say who you are"),
        ("?PROLIFIC_PID={{%PROLIFIC_PID%}}", "placeholder"),
        ("?PROLIFIC_PID=a&PROLIFIC_PID=b", "twice"),
        (f"?PROLIFIC_PID={'x' * 300}", "not one that the panel gives"),
    ],
)
def test_an_address_that_names_nobody_uses_no_unit_and_makes_no_record(
    shared_task: RunningTask, query: str, what: str
) -> None:
    before = shared_task.rows("SELECT worker_name FROM workers")
    outcome = come(shared_task, query)
    assert what in outcome.result
    assert outcome.ending is None
    assert shared_task.rows("SELECT worker_name FROM workers") == before
    assert shared_task.agent_statuses() == []


@pytest.fixture(scope="module")
def shared_task(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningTask]:
    """A run in which nobody takes part."""
    folder = tmp_path_factory.mktemp("shared")
    make_fixed_model(folder / "models/a")
    flags = [f"mephisto.blueprint.base_model_folder={folder / 'models'}", *PROLIFIC]
    with RunningTask(folder / "task", [*flags, 'mephisto.blueprint.conversations_needed_string="a:1"']) as task:
        yield task


def test_the_router_takes_an_address_and_nothing_beside_it(shared_task: RunningTask) -> None:
    refused = [
        {"query": "?x", "worker_name": "w"},
        {"query": "x" * 4097},
        {"query": "?a\x00"},
        {"query": 7},
        {"query": "?x", "visitor": "v" * 300},
        {"query": "?x", "visitor": ["v"]},
    ]
    with httpx.Client(base_url=shared_task.url, trust_env=False, timeout=120) as http:
        answers = [http.post("request_agent", json={"provider_data": data}).status_code for data in refused]
    assert answers == [400] * len(refused)
