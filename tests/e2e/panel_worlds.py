"""A world file whose process is killed at the end of a conversation, between its record and what its participant is told."""

from __future__ import annotations

import os
import signal
from typing import Any

from model_chat import worlds
from model_chat.worlds import get_world_params as get_world_params
from model_chat.worlds import make_onboarding_world as make_onboarding_world
from model_chat.worlds import validate_onboarding as validate_onboarding


class KilledWorld(worlds.ModelChatWorld):
    """Ends the process as `kill -9` does: once the record is saved, or once the ending is kept as well."""

    def settle(self, collected: bool) -> None:
        """Called when the conversation is saved and its participant has been told nothing."""
        endings: Any = self.human._endings
        if os.environ["KILL_AFTER"] == "ending":
            keep = endings.keep

            def keep_and_die(ending: Any) -> Any:
                keep(ending)
                os.kill(os.getpid(), signal.SIGKILL)

            endings.keep = keep_and_die
        else:
            os.kill(os.getpid(), signal.SIGKILL)
        super().settle(collected)


def make_world(opt: Any, agents: Any, initialization_data: Any = None) -> KilledWorld:
    """Make the world of one conversation."""
    world = worlds.make_world(opt, agents, initialization_data, KilledWorld)
    assert isinstance(world, KilledWorld)
    return world
