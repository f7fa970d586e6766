"""A scripted worker, who sends what a list says, and what a conversation with them needs."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from typing import Any

from parlai.core.opt import Opt

from model_chat.configuration.annotations import AnnotationsConfig
from model_chat.conversation.human_agent import HumanAgent, ServerUpdate
from model_chat.conversation.quota import ConversationQuota
from model_chat.serving.loading import LoadedModel
from model_chat.serving.pool import ModelPool
from model_chat.tests.parlai_agents import ScriptedAgent
from model_chat.worlds import ChatOptions

NICKNAME = "secret-nickname/v2"
MODEL_FILE = "/secret/folder/model"
BUCKETS = AnnotationsConfig.model_validate(
    {"config": [{"value": value, "name": value.title()} for value in ("bucket_0", "bucket_1", "none_all_good")]}
)
SHORT_CHAT: dict[str, Any] = {
    "num_turns": 2,
    "max_resp_time": 100,
    "max_message_length": 50,
    "annotations": BUCKETS,
    "annotations_text": '{"config": []}',
    "final_rating_questions": ("How good?",),
}
"""What text chat and image chat alike are told about a conversation."""
_ids = count()


class Early:
    """Something that the page sent while it was not its turn."""

    def __init__(self, packet: Any) -> None:
        self.packet = packet


class ScriptedHuman(HumanAgent):
    """Sends one entry of ``script`` after another; an exception in it is raised, an :class:`Early` comes too early.

    ``updates`` is all that the page got, ``recorded`` what is recorded beside each of them, ``parts`` the ``task_data`` of
    transient ones, ``deadlines`` the times until which the server was ready to wait, ``waits`` those until which it held a
    reply back (which costs no time).
    """

    worker_id = "worker-7"
    hit_id = "hit-8"
    assignment_id = "assignment-9"

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.updates: list[dict[str, Any]] = []
        self.recorded: list[dict[str, Any]] = []
        self.deadlines: list[float] = []
        self.parts: list[dict[str, Any]] = []
        self.waits: list[float] = []

    def send_part(self, take: Callable[[], dict[str, Any]]) -> bool:
        self.parts.append(take())
        return True

    def wait(self, until: float) -> None:
        self.waits.append(until)

    def _send(self, update: ServerUpdate) -> None:
        self.updates.append(json.loads(json.dumps(update, allow_nan=False)))
        self.recorded.append(json.loads(json.dumps(getattr(update, "generation", None), allow_nan=False)))

    def discard_waiting(self) -> list[Any]:
        waiting = []
        while self.script and isinstance(self.script[0], Early):
            waiting.append(self.script.pop(0).packet)
        return waiting

    def receive(self, deadline: float) -> Any:
        self.deadlines.append(deadline)
        if not self.script:
            raise AssertionError(f"the server asks for more than the script holds; it sent {self.updates[-1]}")
        item = self.script.pop(0)
        if isinstance(item, BaseException):
            raise item
        return item

    def controls(self, *names: str) -> list[dict[str, Any]]:
        """The ``task_data`` of the control updates, of the given names or all."""
        found = [update["task_data"] for update in self.updates if "control" in update["task_data"]]
        return [data for data in found if not names or data["control"] in names]

    def steps(self) -> list[str]:
        """What the page got, in short: the texts said, and the names of the controls."""
        return [update["text"] or update["task_data"]["control"] for update in self.updates]


def message(text: Any = "I like tea.", ticks: Any = None, message_id: str | None = None, **task_data: Any) -> Any:
    """A message as a page sends it."""
    data: dict[str, Any] = {"message_id": message_id or f"message-{next(_ids)}", **task_data}
    if ticks is not None:
        data["problem_data_for_prior_message"] = {ticks: True} if isinstance(ticks, str) else ticks
    return {"text": text, "id": "Speaker 1", "episode_done": False, "task_data": data}


def rating(*ratings: int, ticks: Any = None, message_id: str | None = None) -> Any:
    """The final ratings as a page sends them."""
    return message("", ticks, message_id, final_rating=list(ratings))


def chat_options(script: list[str] | None = None, opt: dict[str, Any] | None = None, **changes: Any) -> ChatOptions:
    """Options of a run with one model that follows ``script``."""
    agent = ScriptedAgent(Opt({"script": script or [], "my_api_key": "sk-secret", **(opt or {})}))
    settings: dict[str, Any] = {
        "models": ModelPool([LoadedModel(NICKNAME, agent, MODEL_FILE)], 1, 60),
        "quota": ConversationQuota({NICKNAME: 1}),
        **SHORT_CHAT,
    }
    return ChatOptions(**{**settings, **changes})


def play(world: Any, until: Callable[[], bool] | None = None) -> None:
    """Run a world to its end, or until a condition holds."""
    while not world.episode_done() and not (until is not None and until()):
        world.parley()
