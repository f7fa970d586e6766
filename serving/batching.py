"""Batched replies for several conversations with one model, by ParlAI's own scheme of clones.

ParlAI's ``BatchWorld`` lets every clone observe, lets the agent that holds the weights answer all observations in one
``batch_act``, and tells every clone what it has said by ``self_observe``. The history is the clone's, the weights and the
batch are the root's.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

logger = logging.getLogger(__name__)

_RECIPE = ("observe", "act", "batch_act", "self_observe")


class Asked(NamedTuple):
    """A conversation's request for a reply.

    Attributes:
        observations: ParlAI messages that it observes, in order, before it acts.
        tell: gets the text so far, while the reply grows; None: only the whole reply is wanted.
    """

    clone: Any
    observations: Sequence[Any]
    tell: Callable[[str], None] | None = None


def takes_batches(agent: Any) -> bool:
    """Whether the clones of an agent may be answered together.

    An agent declares it by an attribute ``batched_serving``. Of those that don't, only those are batched whose methods
    are ParlAI's own (``TorchAgent``'s): an agent that overrides one of them may generate inside ``observe``, as composed
    agents do, or keep more history than the recipe knows of, and is asked alone, in its own way.
    """
    declared = getattr(agent, "batched_serving", None)
    return bool(declared) if declared is not None else keeps_to_recipe(type(agent))


def keeps_to_recipe(kind: type[Any]) -> bool:
    """Whether agents of a class may be answered together, as far as the class tells."""
    declared = getattr(kind, "batched_serving", None)
    if declared is not None:
        return bool(declared)
    # A class that is a TorchAgent has imported the module; for others torch need not be loaded at all.
    module = sys.modules.get("parlai.core.torch_agent")
    if module is None or not issubclass(kind, module.TorchAgent):
        return False
    return all(getattr(kind, name) is getattr(module.TorchAgent, name) for name in _RECIPE)


def reply_alone(asked: Asked) -> Any:
    """Let one clone observe and act.

    Raises:
        BaseException: whatever the agent raises.
    """
    for observation in asked.observations:
        asked.clone.observe(observation)
    _leave_tell(asked, getattr(asked.clone, "observation", None))
    return asked.clone.act()


def _streams(clone: Any) -> bool:
    """Whether an agent tells its replies while they grow: its class says ``streams = True``."""
    return bool(getattr(clone, "streams", False))


def _leave_tell(asked: Asked, observation: Any) -> None:
    """Leave in what an agent has observed, under ``tell``, whom it is to tell; it takes the place of an earlier one."""
    if _streams(asked.clone) and observation is not None:
        observation.force_set("tell", asked.tell)


def reply_together(root: Any, batch: Sequence[Asked]) -> list[Any]:
    """Answer several conversations in one batch.

    Args:
        root: the agent that holds the weights; :func:`takes_batches` of it is true.
        batch: at least one; each clone at most once.

    Returns:
        For each, in order, the act, or the exception that its own clone raised. When the batch as a whole fails (out of
        memory, an observation that breaks the model) each is tried alone, so that only the one at fault fails.
    """
    outcomes: list[Any] = [None] * len(batch)
    seen: dict[int, Any] = {}
    for number, asked in enumerate(batch):
        clone = asked.clone
        try:
            for observation in asked.observations:
                seen[number] = clone.observe(observation)
            if number not in seen:
                seen[number] = clone.observation  # asked again without having heard anything new
            _leave_tell(asked, seen[number])
        except BaseException as error:  # the agent's own; it goes to whoever asked
            seen.pop(number, None)
            outcomes[number] = error
    for number, act in zip(
        seen, _acts(root, [batch[number].clone for number in seen], list(seen.values())), strict=True
    ):
        if not isinstance(act, BaseException):
            try:
                batch[number].clone.self_observe(act)
            except BaseException as error:  # the agent's own; it goes to whoever asked
                act = error
        outcomes[number] = act
    return outcomes


def _acts(root: Any, clones: Sequence[Any], observations: Sequence[Any]) -> list[Any]:
    """The acts upon observations that have been observed; exceptions in the place of those that failed."""
    if not observations:
        return []
    try:
        acts = list(root.batch_act(list(observations)))
        if len(acts) != len(observations):
            raise RuntimeError(f"batch_act gave {len(acts)} replies to {len(observations)} observations")
        return acts
    except BaseException as error:  # the agent's own; it goes to whoever asked
        if len(observations) == 1:
            return [error]
        logger.warning("A batch of %d replies failed (%r); each is tried alone", len(observations), error)
    alone: list[Any] = []
    for clone, observation in zip(clones, observations, strict=True):
        try:
            alone.append(clone.batch_act([observation])[0])
        except BaseException as error:  # the agent's own; it goes to whoever asked
            alone.append(error)
    return alone
