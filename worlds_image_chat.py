"""One conversation between a worker and a model about an image that both see.

Subclass :class:`ModelImageChatWorld` as :mod:`model_chat.worlds` says; ``mephisto.blueprint.world_file`` names the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from model_chat.bot_agent import PROMPT_ID, BotAgent
from model_chat.comparing.pair import make_side
from model_chat.comparing.paired import PairedBots
from model_chat.comparing.per_turn import ComparedBots
from model_chat.conversation.conditions import with_conditions
from model_chat.conversation.human_agent import HumanAgent
from model_chat.conversation.quota import Reservation
from model_chat.images.contexts import ImageContext, ImageContexts
from model_chat.images.design_quota import ImageDesignQuota
from model_chat.images.inputs import ImageInput, first_message, repeated_keys
from model_chat.images.quota import ImageQuota
from model_chat.serving.pool import ModelPool
from model_chat.worlds import ChatOptions, ModelChatOnboardWorld, ModelChatWorld, NoReservationLeftError
from model_chat.worlds import get_world_params as get_world_params  # the same as in text chat, and so are these:
from model_chat.worlds import make_onboarding_world as make_onboarding_world
from model_chat.worlds import validate_onboarding as validate_onboarding

__all__ = [
    "ImageBotAgent",
    "ImageChatOptions",
    "ModelChatOnboardWorld",
    "ModelImageChatWorld",
    "get_world_params",
    "make_onboarding_world",
    "make_world",
    "validate_onboarding",
]


@dataclass(frozen=True, kw_only=True)
class ImageChatOptions(ChatOptions):
    """What all conversations of a run share. Made once, at launch.

    Attributes:
        inputs: nickname -> the images in the form that the model wants.
    """

    quota: ImageQuota | ImageDesignQuota
    images: ImageContexts
    inputs: Mapping[str, ImageInput] = field(repr=False)


class ImageBotAgent(BotAgent):
    """A model that is shown the same image with every message, and what its teacher says of it but the text.

    Args:
        image: in the form that the model wants.
        act: the teacher's act about the image; a model that chooses among ``label_candidates`` finds them there.
    """

    def __init__(self, pool: ModelPool, nickname: str, image: Any, act: Mapping[str, Any] | None = None) -> None:
        super().__init__(pool, nickname)
        self._image = image
        self._act = dict(act or {})

    def observe_image(self) -> None:
        """Let the model see the image and the teacher's whole act before anything is said."""
        super().observe(dict(first_message(self._image, self._act)))

    def observe_prompt(self, text: str) -> None:
        """Add a text to the model's system prompt, which has no image."""
        super().observe({"id": PROMPT_ID, "text": text})

    def observe(self, message: dict[str, Any]) -> None:
        """Let the model see a message, and the image again."""
        super().observe({**repeated_keys(self._act), **message, "image": self._image})


class ComparedImageBots(ComparedBots, ImageBotAgent):
    """Two models that are shown the same image, and whose replies are compared."""

    def observe_image(self) -> None:
        """Let both models see the image before anything is said."""
        self.tell_both(lambda bot: bot.observe_image() if isinstance(bot, ImageBotAgent) else None)


class PairedImageBots(PairedBots, ImageBotAgent):
    """Two models that are shown the same image, one after the other."""

    def observe_image(self) -> None:
        """Let the model of this chat see the image before anything is said."""
        if isinstance(self.speaker, ImageBotAgent):
            self.speaker.observe_image()


class ModelImageChatWorld(ModelChatWorld):
    """One conversation about an image: the model has the first turn, then it continues as in text chat."""

    options: ImageChatOptions
    bot: ImageBotAgent
    reservation: Reservation[int]

    def __init__(
        self, options: ImageChatOptions, human: HumanAgent, bot: ImageBotAgent, reservation: Reservation[int]
    ) -> None:
        super().__init__(options, human, bot, reservation)
        self.image: ImageContext = options.images[reservation.subject]

    def additional_start_data(self) -> dict[str, Any]:
        """The image, which the page gets this once, and its alternative text."""
        alt = self.image.context.get("alt")
        return {"image": self.image.data_url(), "image_alt": alt if isinstance(alt, str) else ""}

    def additional_record(self) -> dict[str, Any]:
        """Which image it was and where it comes from; never the image itself."""
        task = self.image.context.get("task")
        return {
            "image_idx": self.reservation.subject,
            "context_dataset": task if isinstance(task, str) else None,
            "additional_context": json.dumps(self.image.context, ensure_ascii=False) if self.image.context else None,
        }

    @property
    def begins_midway(self) -> bool:
        """The model has spoken already."""
        return True

    def begin(self) -> None:
        """Show the image to both, and let the model say the first word."""
        self.reservation.seen = True
        self._start_page([])
        self.open_chat()

    def open_chat(self) -> None:
        """Let the model see the image and say the first word."""
        self.bot.observe_image()
        self._let_model_reply()


def make_world(
    opt: ImageChatOptions,
    agents: Sequence[HumanAgent],
    initialization_data: Any = None,
    world_class: type[ModelImageChatWorld] = ModelImageChatWorld,
) -> ModelImageChatWorld:
    """Make the world of one conversation, about the next image that this worker has not seen.

    Args:
        world_class: the class to make; world files of the user's own name theirs.

    Raises:
        NoReservationLeftError: there is nothing for this worker.
    """
    human = agents[0]
    reservation = opt.quota.take(human.worker_id)
    if reservation is None:
        raise NoReservationLeftError("There is no image for this worker.")
    image_idx = reservation.subject

    def make_bot(nickname: str) -> ImageBotAgent:
        images = opt.inputs[nickname]
        return ImageBotAgent(opt.models, nickname, images[image_idx], images.act(image_idx))

    with reservation:  # released where anything below raises
        options = with_conditions(opt, reservation)
        bot = make_side(options, human, reservation, make_bot, (PairedImageBots, ComparedImageBots))
        return world_class(options, human, bot, reservation)
