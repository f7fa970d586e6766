"""Whom a study with a design gives a unit, in a real Mephisto database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from model_chat.conversation.design_quota import DesignQuota
from model_chat.conversation.quota import Outlook
from model_chat.mephisto_task.task_runner import NO_MORE_WORK
from model_chat.quality.blocks import has_no_more_work, platform_id
from model_chat.tests.designs import design_of, quota_of
from model_chat.tests.mephisto_run import Run
from model_chat.tests.mephisto_task.stage import Stage
from model_chat.tests.scripted_human import NICKNAME

BLOCK = "blocked"
DESIGN = "factors: {num_turns: [1, 2]}\nwithin: num_turns\norder: fixed\nconversations_per_cell: 2\n"
MakeStage = Callable[[], tuple[Stage, DesignQuota]]


@pytest.fixture
def make_stage(mephisto_run: Run, tmp_path: Path) -> MakeStage:
    """A stage whose conversations have conditions, and their quota."""

    def make() -> tuple[Stage, DesignQuota]:
        quota = quota_of(design_of(DESIGN), tmp_path)
        quota._model = NICKNAME
        return Stage(mephisto_run, tmp_path / "chats", quota=quota), quota

    return make


def test_a_conversation_is_saved_with_its_conditions_in_both_records_and_counts(make_stage: MakeStage) -> None:
    stage, quota = make_stage()

    stage.run()

    (file,), (record,) = stage.files(), stage.recorded()
    assert file == record
    assert file["conditions"] == {"num_turns": "1"}
    assert [count.done for count in quota.counts()] == [1, 0]


def test_a_worker_who_has_had_every_condition_gets_no_unit_until_there_are_more(make_stage: MakeStage) -> None:
    stage, quota = make_stage()
    worker, unit = stage.agent.get_worker(), stage.unit
    for _ in range(2):
        assert stage.runner.filter_units_for_worker([unit], worker) == [unit]
        place = quota.take(platform_id(worker))
        assert place is not None
        place.complete()

    assert stage.runner.filter_units_for_worker([unit], worker) == []
    assert has_no_more_work(worker, BLOCK)
    stage.runner.readmit(worker)
    assert has_no_more_work(worker, BLOCK), "there is still nothing"
    quota._state.per_cell = 9
    quota._state.workers[platform_id(worker)].finished.clear()
    stage.runner.readmit(worker)
    assert not has_no_more_work(worker, BLOCK)


def test_a_worker_for_whom_all_is_taken_now_is_not_marked(make_stage: MakeStage) -> None:
    stage, quota = make_stage()
    worker = stage.agent.get_worker()
    while quota.take(f"other-{quota._state._next_number}") is not None:
        pass

    assert quota.outlook(platform_id(worker)) is Outlook.LATER
    assert stage.runner.filter_units_for_worker([stage.unit], worker) == []
    assert not has_no_more_work(worker, BLOCK)


def test_a_unit_whose_condition_went_to_somebody_else_is_offered_again(make_stage: MakeStage) -> None:
    stage, quota = make_stage()
    while quota.take(f"other-{quota._state._next_number}") is not None:
        pass

    stage.run()

    assert [ended["reason"] for ended in stage.controls("ended")] == [NO_MORE_WORK]
    assert stage.launcher.units == ["a unit"]


def test_when_all_cells_are_full_no_further_unit_is_offered(make_stage: MakeStage) -> None:
    stage, quota = make_stage()
    while (place := quota.take(f"other-{quota._state._next_number}")) is not None:
        place.complete()

    stage.run()

    assert [ended["reason"] for ended in stage.controls("ended")] == [NO_MORE_WORK]
    assert stage.launcher.units == []
