"""What Ray Serve deploys; importing this module imports Ray."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from ray import serve

from model_chat.serving.histories import Failure, Turn
from model_chat.serving.ray_replica import KEPT_CONVERSATIONS, ModelReplica, ReplicaPlan

logger = logging.getLogger(__name__)


class ServedReplica(ModelReplica):
    """A copy that tells Serve which conversations it knows, where the run asks for that copy in particular."""

    def __init__(self, plan: ReplicaPlan) -> None:
        if plan.keeper is None:
            _stay_on_this_machine()
        super().__init__(plan)

    async def answer(self, turns: Sequence[Turn]) -> list[dict[str, Any] | Failure]:
        """Reply to a turn of each of several conversations; never raises what a model raises."""
        if conversation := serve.get_multiplexed_model_id():
            await self._know(conversation)
        return await super().answer(turns)

    @serve.multiplexed(max_num_models_per_replica=KEPT_CONVERSATIONS)  # type: ignore[untyped-decorator]  # Ray's
    async def _know(self, conversation: str) -> str:
        """Serve's "model" is a conversation here: further requests of it come to the copy that has taken it up."""
        return conversation


def _stay_on_this_machine() -> None:
    """Let the copy listen on the loopback alone.

    Serve (2.60) opens a port in each copy by which deployments can call each other, on every network of the machine and
    for anybody, and takes pickles there. Nobody calls it here, and it can't be switched off; it is opened after this.
    """
    from ray.serve._private import replica

    opens = getattr(replica, "add_port_to_grpc_server", None)
    if opens is None:
        logger.warning(
            "This version of Ray opens its ports by other means; the model may be reachable from the network."
        )
        return

    def on_loopback(server: Any, address: str) -> Any:
        return opens(server, f"127.0.0.1:{address.rpartition(':')[2]}")

    replica.add_port_to_grpc_server = on_loopback
