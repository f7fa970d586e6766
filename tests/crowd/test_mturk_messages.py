"""Messages to workers on MTurk, up to the edge of its API."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from model_chat.crowd.adapters import DirectAdapter
from model_chat.crowd.platform import PlatformError
from model_chat.tests.crowd.mturk_account import WORKER, Account


@pytest.fixture
def account(tmp_path: Path) -> Account:
    return Account(tmp_path)


def adapter(provider: str = "mturk") -> DirectAdapter:
    task: Any = SimpleNamespace(provider_type=provider)
    return DirectAdapter(task)


def expect(account: Account, *failures: dict[str, str]) -> None:
    account.expect(
        "notify_workers",
        {"NotifyWorkersFailureStatuses": list(failures)},
        Subject="Thanks",
        MessageText="A bonus is on its way.",
        WorkerIds=[WORKER],
    )


def test_a_message_is_sent_with_its_subject(account: Account) -> None:
    expect(account)
    adapter().send_message(account.agent(), "Thanks", "A bonus is on its way.")
    account.stub.assert_no_pending_responses()


def test_a_message_that_mturk_does_not_send_is_a_failure(account: Account) -> None:
    agent = account.agent()
    failure = {"NotifyWorkersFailureCode": "HardFailure", "NotifyWorkersFailureMessage": "Can't be reached."}
    expect(account, {**failure, "WorkerId": WORKER})
    with pytest.raises(PlatformError, match=r"^MTurk did not send the message: Can't be reached"):
        adapter().send_message(agent, "Thanks", "A bonus is on its way.")
    account.refuse("notify_workers", "no such worker")
    with pytest.raises(PlatformError, match="no such worker"):
        adapter().send_message(agent, "Thanks", "A bonus is on its way.")


@pytest.mark.parametrize("provider", ["mturk", "mturk_sandbox"])
def test_what_mturk_would_refuse_is_said_before(provider: str) -> None:
    faults = adapter(provider).message_faults
    assert faults("Thanks", "x" * 4096) == []
    assert [fault.partition(":")[0] for fault in faults(None, "x" * 4097)] == ["--subject", "--text"]
    assert [fault.partition(":")[0] for fault in faults("x" * 201, "x")] == ["--subject"]
