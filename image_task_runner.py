"""Runs image chats: a worker for whom the stack holds nothing gets no unit, and is told why."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from model_chat.human_agent import HumanAgent
from model_chat.images.quota import Outlook
from model_chat.quality.blocks import BlockReason, name_of, platform_id, soft_block
from model_chat.quality.refusals import TEXTS, Refusal
from model_chat.records.schema import Completion
from model_chat.task_runner import ModelChatTaskRunner

if TYPE_CHECKING:
    from mephisto.data_model.agent import Agent
    from mephisto.data_model.unit import Unit
    from mephisto.data_model.worker import Worker

logger = logging.getLogger(__name__)

NOTHING_FREE = "All chats that are new to you are taken at the moment. Please submit; thank you for coming."


class ModelImageChatTaskRunner(ModelChatTaskRunner):
    """Asks the image stack before a unit is handed out, and again when the conversation begins."""

    def filter_units_for_worker(self, units: list[Unit], worker: Worker) -> list[Unit]:
        """Return the units, or none if the stack has no place for this worker now; called by Mephisto."""
        return super().filter_units_for_worker(units, worker) if self._outlook(worker) is Outlook.WORK else []

    def _outlook(self, worker: Worker) -> Outlook:
        """Ask the stack; a worker for whom there is nothing for good gets the block qualification."""
        outlook: Outlook = self.shared_state.world_opt.quota.outlook(platform_id(worker))
        if outlook is Outlook.NOTHING:
            soft_block(worker, name_of(self.args.blueprint, "block_qualification"), BlockReason.NO_MORE_WORK)
        return outlook

    def end_without_place(self, unit: Unit, agent: Agent, human: HumanAgent) -> None:
        """Tell a worker that what was there when they came is gone, and offer the unit to somebody else."""
        nothing = self._outlook(agent.get_worker()) is Outlook.NOTHING
        if self.shared_state.world_opt.quota.remaining():
            self._launch_replacement(unit)
        reason = f"{TEXTS[Refusal.NOTHING_NEW]} Please submit." if nothing else NOTHING_FREE
        human.control("ended", outcome=Completion.INCOMPLETE.value, reason=reason, task_done=True)
