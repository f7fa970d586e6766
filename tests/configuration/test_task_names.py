"""Trial runs and paid ones have names of their own, so that their data never mix."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from model_chat.configuration.task_names import (
    full_task_name,
    note_stack_owner,
    stack_owner_fault,
    suffix_of,
    task_name_fault,
)

ARCHITECTS = ("local", "ec2", "heroku", "mock")


def named(architect: str, provider: str) -> str:
    return full_task_name(
        OmegaConf.create(
            {
                "mephisto": {
                    "task": {"task_name": "study"},
                    "architect": {"_architect_type": architect},
                    "provider": {"_provider_type": provider},
                }
            }
        )
    )


def test_only_work_that_is_paid_for_has_the_name_itself() -> None:
    unpaid = [named(architect, provider) for architect, provider in product(ARCHITECTS, ("mock", "mturk_sandbox"))]
    assert "study" not in unpaid
    assert {named("ec2", "mturk"), named("heroku", "mturk")} == {"study"}


@pytest.mark.parametrize(
    ("architect", "provider", "name"),
    [
        ("local", "mock", "study_local"),
        ("ec2", "mock", "study_mock"),
        ("heroku", "mock", "study_mock"),
        ("ec2", "mturk_sandbox", "study_sandbox"),
        ("heroku", "mturk_sandbox", "study_sandbox"),
    ],
)
def test_each_kind_of_trial_has_its_suffix(architect: str, provider: str, name: str) -> None:
    assert named(architect, provider) == name
    assert suffix_of(name) == name.removeprefix("study")


@pytest.mark.parametrize("name", ["study_local", "study_sandbox", "study_mock", "_local"])
def test_a_name_that_a_trial_run_could_have_is_refused(name: str) -> None:
    fault = task_name_fault(name)
    assert fault is not None
    assert f"'{name}'" in fault


@pytest.mark.parametrize("name", ["study", "local", "sandbox_study", "study_locals", "study_local_2"])
def test_other_names_are_taken(name: str) -> None:
    assert task_name_fault(name) is None


@pytest.mark.parametrize(("first", "second"), [("s_local", "s"), ("s", "s_sandbox"), ("s_mock", "s"), ("s", "s_local")])
def test_an_image_stack_of_a_trial_run_is_not_taken_for_the_paid_one(tmp_path: Path, first: str, second: str) -> None:
    assert stack_owner_fault("flag", tmp_path, first) is None, "a new one"
    note_stack_owner(tmp_path, first)
    assert stack_owner_fault("flag", tmp_path, first) is None
    fault = stack_owner_fault("flag", tmp_path, second)
    assert fault is not None
    assert first in fault
    note_stack_owner(tmp_path, second)
    assert stack_owner_fault("flag", tmp_path, second) == fault, "who was first stays noted"


def test_two_paid_studies_may_share_a_stack(tmp_path: Path) -> None:
    note_stack_owner(tmp_path, "one")
    assert stack_owner_fault("flag", tmp_path, "two") is None
