"""`record_authenticity` needs the consent of each worker, before the chat."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from model_chat.configuration.authenticity import asks_everybody, authenticity_faults
from model_chat.configuration.study_flow import StudyFlow, parse_study_flow

B = "mephisto.blueprint"
CHAT = "{id: chat, kind: chat}"
CONSENT = "{id: agree, kind: consent, text: Please.}"
ABOUT = "{id: about, kind: questions, items: [{id: adult, kind: choice, question: Adult, options: [a, b]}]}"
CONDITIONAL = "{id: agree, kind: consent, text: Please., show_if: {adult: a}}"


def flow_of(*pages: str) -> StudyFlow:
    return parse_study_flow("flow", "flow.yaml", "pages:\n" + "".join(f"  - {page}\n" for page in pages))


def faults(flow: StudyFlow | None, path: str = "flow.yaml", record: bool = True, writes: bool = True) -> list[str]:
    args = SimpleNamespace(record_authenticity=record, study_flow_path=path)
    return list(authenticity_faults(B, args, flow, writes))


@pytest.mark.parametrize(
    ("pages", "asked"),
    [
        ((CONSENT, CHAT), True),
        ((ABOUT, CONSENT, CHAT), True),
        ((ABOUT, CONDITIONAL, CHAT), False),
        ((CHAT, CONSENT), False),
        ((CHAT,), False),
        ((ABOUT, CONDITIONAL, "{id: second, kind: consent, text: Please.}", CHAT), True),
    ],
)
def test_only_consent_that_everybody_is_asked_for_before_the_chat_will_do(pages: tuple[str, ...], asked: bool) -> None:
    flow = flow_of(*pages)
    assert asks_everybody(flow) is asked
    found = faults(flow)
    assert (found == []) is asked
    if found:
        assert found == [
            f"{B}.record_authenticity: needs every worker's consent, and the study flow 'flow.yaml' has no page of the kind "
            "consent before the chat that everybody is shown; add one without 'show_if', or leave the flag out."
        ]


def test_without_a_study_flow_there_is_no_consent() -> None:
    (fault,) = faults(None, path="")
    assert fault.startswith(
        f"{B}.record_authenticity: needs every worker's consent, and {B}.study_flow_path is not set;"
    )


def test_a_study_flow_with_faults_of_its_own_gets_no_second_fault() -> None:
    assert faults(None) == []


def test_who_writes_no_messages_is_not_counted() -> None:
    (fault,) = faults(flow_of(CONSENT, CHAT), writes=False)
    assert fault == (
        f"{B}.record_authenticity: annotators write no messages; leave the flag out where finished conversations are "
        "annotated."
    )


def test_off_needs_nothing() -> None:
    assert faults(None, path="", record=False) == []
    assert faults(flow_of(CHAT), record=False, writes=False) == []
