"""A ParlAI agent for any model behind an OpenAI-compatible endpoint (docs/models.md describes its settings).

``model.opt`` names it as ``model_chat.agents.endpoint:EndpointAgent``; the YAML file of ``model_opt_path`` gives the
settings as a mapping.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from parlai.core.agents import Agent
from parlai.core.message import Message

from model_chat.agents._chat_history import ChatHistory, alternating
from model_chat.agents._endpoint_client import LOOP, EndpointClient
from model_chat.agents._endpoint_reply import Completion, RequestFailedError, Tell, Usage
from model_chat.agents._reply_text import up_to_last_sentence
from model_chat.agents.endpoint_settings import EndpointSettings, settings_faults
from model_chat.configuration.redaction import redacted
from model_chat.errors import ConfigurationError

if TYPE_CHECKING:
    from parlai.core.opt import Opt
    from parlai.core.params import ParlaiParser

ACT_SECONDS = 120.0
"""Time limit of :meth:`EndpointAgent.act`, for callers that set none."""
PROBE_SECONDS = 60.0
PROBE_ATTEMPTS = 3


class EndpointAgent(Agent):
    """Chats with a model behind an endpoint; one instance a conversation, all with the same client.

    Args:
        opt: ParlAI's opt, holding the settings of :class:`EndpointSettings`.
        shared: what :meth:`share` returned, for an instance with an empty history.

    Raises:
        ConfigurationError: the settings are wrong.
    """

    batched_serving = False

    @classmethod
    def add_cmdline_args(cls, parser: ParlaiParser, partial_opt: Opt | None = None) -> ParlaiParser:
        """Add the settings as flags, so that ParlAI's parser takes a string of them; mappings and lists as JSON."""
        del partial_opt
        group = parser.add_argument_group("Model behind an endpoint")
        for name, info in EndpointSettings.model_fields.items():
            kinds = str(info.annotation)
            kind: Any = json.loads if "dict" in kinds or "list" in kinds else str
            if "bool" in kinds:
                kind = "bool"
            elif "float" in kinds:
                kind = float
            elif "int" in kinds:
                kind = int
            group.add_argument(f"--{name.replace('_', '-')}", type=kind, default=None, help="see docs/models.md")
        return parser

    def __init__(self, opt: Opt, shared: dict[str, Any] | None = None) -> None:
        super().__init__(opt, shared)
        self.id = "Endpoint"
        if shared:
            self.settings: EndpointSettings = shared["settings"]
            self._client: EndpointClient = shared["client"]
        else:
            given = given_settings(opt)
            ConfigurationError.raise_if(settings_faults(f"the endpoint model '{given.get('endpoint_model')}'", given))
            self.settings = EndpointSettings.model_validate(given)
            self._client = EndpointClient(self.settings)
        self.opt["dict_lower"] = self.settings.dict_lower
        self.takes_images = self.settings.takes_images
        if self.takes_images:
            self.opt["image_mode"] = "raw"
        self.reset()

    def share(self) -> dict[str, Any]:
        """What :func:`parlai.core.agents.create_agent_from_shared` needs for a conversation with the same model."""
        shared: dict[str, Any] = super().share()
        return {**shared, "settings": self.settings, "client": self._client}

    def reset(self) -> None:
        """Forget the conversation, the persona included."""
        super().reset()
        self._history = ChatHistory(self.settings.system_prompt, self.settings.history_turns)
        self._image: str | None = None
        self._shown_image: Any = None
        self._episode_over = False

    def observe(self, observation: Mapping[str, Any]) -> Message:
        """Take in what the other one said, the persona, or an image."""
        if self._episode_over:
            self.reset()
        self._history.observe(observation)
        image = observation.get("image")
        if self.takes_images and image is not None and image is not self._shown_image:
            self._shown_image, self._image = image, _data_url(image)
        self._episode_over = bool(observation.get("episode_done", False))
        self.observation = Message(observation)
        return self.observation

    def self_observe(self, self_message: Mapping[str, Any]) -> None:
        """Remember what this agent itself said last."""
        self._history.has_said(self_message.get("text") or "")

    def begin_reply(self, deadline: float, tell: Tell | None = None) -> Future[Message]:
        """Ask for the reply to what was observed, beside other conversations' requests.

        Args:
            deadline: on :func:`time.monotonic`'s clock; the request is given up then.
            tell: gets the text so far, while it grows.

        Returns:
            a future of the act; cancelling it closes the connection. It may raise
            :class:`~model_chat.agents._endpoint_reply.RequestFailedError`, a
            :class:`~model_chat.errors.ModelFailureError`.
        """
        return LOOP.submit(self._reply(deadline, tell))

    async def _reply(self, deadline: float, tell: Tell | None) -> Message:
        started = time.monotonic()
        try:
            completion = await self._client.complete(self._messages(), deadline, tell)
        except RequestFailedError as error:
            error.generation = {
                "prompt_tokens": error.usage.prompt_tokens,
                "completion_tokens": error.usage.completion_tokens,
                "seconds": time.monotonic() - started,
                "retries": error.retries,
                "cost_usd": self._cost(error.usage),
            }
            raise
        text = completion.text
        if completion.finish_reason == "length" and self.settings.whole_sentences:
            text = up_to_last_sentence(text)
        act = Message({"id": self.getID(), "episode_done": False, "text": text})
        act["generation"] = self._generation(completion, time.monotonic() - started)
        self.self_observe(act)
        return act

    def act(self) -> Message:
        """Reply to what was observed last, and remember the reply."""
        return self.begin_reply(time.monotonic() + ACT_SECONDS).result()

    def probe(self) -> None:
        """Send one short request, to see before the launch whether the model can chat.

        Raises:
            ConfigurationError: it can't; one sentence that says why.
        """
        messages = alternating([*self._history.messages()])
        try:
            LOOP.submit(
                self._client.complete(messages, time.monotonic() + PROBE_SECONDS, attempts=PROBE_ATTEMPTS)
            ).result()
        except RequestFailedError as error:
            raise ConfigurationError(str(error)) from error

    def _messages(self) -> list[dict[str, Any]]:
        messages = alternating(self._history.messages())
        if self._image is not None:
            first = next(message for message in messages if message["role"] == "user")
            part: dict[str, Any] = {"url": self._image}
            if self.settings.image_detail is not None:
                part["detail"] = self.settings.image_detail
            first["content"] = [{"type": "text", "text": first["content"]}, {"type": "image_url", "image_url": part}]
        return messages

    def _generation(self, completion: Completion, seconds: float) -> dict[str, Any]:
        """What is saved of how the reply was made (:class:`model_chat.records.schema.Generation`)."""
        return {
            "served_model": completion.served_model,
            "finish_reason": completion.finish_reason,
            "prompt_tokens": completion.prompt_tokens,
            "completion_tokens": completion.completion_tokens,
            "seconds_to_first_token": completion.seconds_to_first_token,
            "seconds": seconds,
            "retries": completion.retries,
            "cost_usd": self._cost(Usage(completion.prompt_tokens, completion.completion_tokens)),
            "reasoning": redacted(completion.reasoning) or None if self.settings.keep_reasoning else None,
        }

    def _cost(self, usage: Usage) -> float | None:
        """US dollars, where the prices and the tokens are known."""
        parts = [
            tokens * price / 1e6
            for tokens, price in (
                (usage.prompt_tokens, self.settings.usd_per_million_input_tokens),
                (usage.completion_tokens, self.settings.usd_per_million_output_tokens),
            )
            if tokens is not None and price is not None
        ]
        return sum(parts) if parts else None


def given_settings(opt: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings among an opt's keys; those that are None, as ParlAI's parser leaves them, are left out."""
    return {name: opt[name] for name in EndpointSettings.model_fields if opt.get(name) is not None}


def _data_url(image: Any) -> str:
    """A PIL image as a data URL; JPEG, but for images with transparency or few colours, which are PNG."""
    import io

    if image.mode not in ("RGB", "L", "RGBA", "LA", "P", "1"):  # CMYK and others, which PNG has no room for
        image = image.convert("RGB")
    plain = image.mode in ("RGB", "L")
    content = io.BytesIO()
    image.save(content, format="JPEG" if plain else "PNG", **({"quality": 90} if plain else {}))
    kind = "jpeg" if plain else "png"
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode('ascii')}"
