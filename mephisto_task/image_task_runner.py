"""Runs image chats: a worker for whom no image is left gets no unit, and is told why."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

from model_chat.configuration.worker_texts import worker_text
from model_chat.conversation.human_agent import HumanAgent
from model_chat.conversation.quota import Outlook
from model_chat.mephisto_task.task_runner import ModelChatTaskRunner, tell_end
from model_chat.quality.blocks import platform_id
from model_chat.quality.no_more_work import note_no_more_work
from model_chat.records.participation import EndingKind

if TYPE_CHECKING:
    from mephisto.data_model.agent import Agent
    from mephisto.data_model.unit import Unit
    from mephisto.data_model.worker import Worker

    from model_chat.images.design_quota import ImageDesignQuota
    from model_chat.images.quota import ImageQuota
    from model_chat.worlds_image_chat import ImageChatOptions

logger = logging.getLogger(__name__)

NOTHING_LEFT = worker_text("chat.nothing_new")
NOTHING_FREE = worker_text("chat.nothing_free")


class ModelImageChatTaskRunner(ModelChatTaskRunner):
    """Asks the image stack before a unit is handed out, and again when the conversation begins."""

    def filter_units_for_worker(self, units: list[Unit], worker: Worker) -> list[Unit]:
        """Return the units, or none if the stack has no place for this worker now; called by Mephisto."""
        free = super().filter_units_for_worker(units, worker)
        return free if free and self._outlook(worker) is Outlook.WORK else []

    def readmit(self, worker: Worker) -> None:
        """Let a worker who had seen everything come back if there is something for them again; called on arrival."""
        if self._ask_stack(worker) is not Outlook.NOTHING:
            super().readmit(worker)

    def _ask_stack(self, worker: Worker) -> Outlook:
        return self._quota.outlook(platform_id(worker))

    @property
    def _quota(self) -> ImageQuota | ImageDesignQuota:
        return cast("ImageChatOptions", self.shared_state.world_opt).quota

    def _outlook(self, worker: Worker) -> Outlook:
        """Ask the stack; a worker for whom there is nothing for good is noted as such."""
        outlook = self._ask_stack(worker)
        if outlook is Outlook.NOTHING:
            note_no_more_work(worker, self._block_name)
        return outlook

    def end_without_reservation(self, unit: Unit, agent: Agent, human: HumanAgent) -> None:
        """Tell a worker that what was there when they came is gone, and offer the unit to somebody else."""
        nothing = self._outlook(agent.get_worker()) is Outlook.NOTHING
        if self._quota.remaining():
            self._launch_replacement()
        reason = NOTHING_LEFT if nothing else NOTHING_FREE
        tell_end(human, EndingKind.NO_WORK, "no_work", reason)
