"""Who gets a unit of an image chat, and what becomes of those for whom the stack holds nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from model_chat import worlds, worlds_image_chat
from model_chat.images.quota import ImageQuota
from model_chat.images.stack import ImageStack
from model_chat.mephisto_task.image_task_runner import NOTHING_FREE, ModelImageChatTaskRunner
from model_chat.mephisto_task.shared_state import ModelChatSharedState
from model_chat.quality.blocks import has_no_more_work, platform_id
from model_chat.quality.refusals import TEXTS, Refusal
from model_chat.tests.mephisto_run import Run
from model_chat.tests.scripted_human import ScriptedHuman, chat_options

BLOCK = "blocked"  # the name in Run's arguments
UNITS: list[Any] = [object()]


class Study:
    """An image study with its stack, and the runner of its units."""

    def __init__(self, run: Run, folder: Path, images: int, conversations: int = 100) -> None:
        self.quota = ImageQuota(ImageStack(images, ["a"], 1, folder / "stack", rng=1), conversations)
        self.shared = ModelChatSharedState(
            world_module=worlds_image_chat,
            world_opt=SimpleNamespace(quota=self.quota),  # all that the runner asks of it
            chat_data_folder=folder / "chats",
            units=1,
        )
        self.launched: list[Any] = []
        launcher = SimpleNamespace(replace=lambda: self.launched.append("a unit") or True)
        self.shared.live_run = SimpleNamespace(task_launcher=launcher, worker_pool=None)
        run.task_run.get_blueprint(args=run.args, shared_state=self.shared)
        self.runner = ModelImageChatTaskRunner(run.task_run, run.args, self.shared)

    def holds(self, worker: Any) -> Any:
        place = self.quota.take(platform_id(worker))
        assert place is not None
        place.seen = True
        return place

    def offers(self, worker: Any) -> bool:
        return self.runner.filter_units_for_worker(UNITS, worker) == UNITS


@pytest.fixture
def study(mephisto_run: Run, tmp_path: Path) -> Iterator[Callable[..., Study]]:
    made: list[Study] = []

    def make(**sizes: int) -> Study:
        while made:
            made.pop().quota.close()
        made.append(Study(mephisto_run, tmp_path, **sizes))
        return made[0]

    yield make
    while made:
        made.pop().quota.close()


def test_a_worker_gets_a_unit_while_the_stack_has_something_for_them(
    study: Callable[..., Study], mephisto_run: Run
) -> None:
    worker = mephisto_run.worker()
    assert study(images=1).offers(worker)
    assert not has_no_more_work(worker, BLOCK)


def test_who_may_get_something_later_gets_nothing_now_and_is_not_noted(
    study: Callable[..., Study], mephisto_run: Run
) -> None:
    on, worker = study(images=1), mephisto_run.worker()
    on.holds(mephisto_run.worker())
    assert not on.offers(worker)
    assert not has_no_more_work(worker, BLOCK)


def test_who_has_seen_everything_is_noted_and_not_told_to_come_back(
    study: Callable[..., Study], mephisto_run: Run
) -> None:
    on, worker = study(images=2), mephisto_run.worker()
    for _ in range(2):
        on.holds(worker).complete()
    assert not on.offers(worker)
    assert has_no_more_work(worker, BLOCK)
    on.runner.readmit(worker)
    assert has_no_more_work(worker, BLOCK), "there is still nothing for them here"


def test_a_study_with_more_images_lets_them_in_again(study: Callable[..., Study], mephisto_run: Run) -> None:
    on, worker = study(images=1), mephisto_run.worker()
    on.holds(worker).release()
    assert not on.offers(worker)
    assert has_no_more_work(worker, BLOCK)
    on.quota.close()
    on = Study(mephisto_run, on.shared.chat_data_folder / "more", images=2)
    on.runner.readmit(worker)
    assert not has_no_more_work(worker, BLOCK)
    assert on.offers(worker)
    on.quota.close()


def test_a_text_study_with_the_same_block_qualification_lets_them_in(
    study: Callable[..., Study], mephisto_run: Run, tmp_path: Path
) -> None:
    on, worker = study(images=1), mephisto_run.worker()
    on.holds(worker).complete()
    assert not on.offers(worker)
    text = mephisto_run.runner(
        ModelChatSharedState(world_module=worlds, world_opt=chat_options(), chat_data_folder=tmp_path, units=1)
    )
    text.readmit(worker)
    assert worker.get_granted_qualification(BLOCK) is None


def test_failures_in_a_row_keep_a_worker_from_image_chats_too(study: Callable[..., Study], mephisto_run: Run) -> None:
    on, worker = study(images=1), mephisto_run.worker()
    for _ in range(3):
        on.runner.failures.failed(platform_id(worker))
    assert not on.offers(worker)


@pytest.mark.parametrize("seen_all", [True, False])
def test_who_comes_too_late_is_told_whether_to_come_back_and_the_unit_is_offered_to_somebody_else(
    study: Callable[..., Study], mephisto_run: Run, seen_all: bool
) -> None:
    on, agent = study(images=1), mephisto_run.agent()
    on.holds(agent.get_worker() if seen_all else mephisto_run.worker())
    human, unit = ScriptedHuman(), agent.get_unit()
    on.runner.running_units[unit.db_id] = object()
    on.runner.end_without_reservation(unit, agent, human)
    (ended,) = human.controls("ended")
    assert ended["outcome"] == "incomplete"
    assert (NOTHING_FREE in ended["reason"], TEXTS[Refusal.NOTHING_NEW] in ended["reason"]) == (not seen_all, seen_all)
    assert len(on.launched) == 1


def test_no_unit_is_offered_in_place_of_one_when_all_is_collected(
    study: Callable[..., Study], mephisto_run: Run
) -> None:
    on, agent = study(images=1), mephisto_run.agent()
    on.holds(mephisto_run.worker()).complete()
    unit = agent.get_unit()
    on.runner.running_units[unit.db_id] = object()
    on.runner.end_without_reservation(unit, agent, ScriptedHuman())
    assert on.launched == []
