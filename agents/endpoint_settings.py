"""The settings of a model behind an OpenAI-compatible endpoint, as `model.opt` or the YAML file of models gives them."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

ENDPOINT_AGENT = "model_chat.agents.endpoint:EndpointAgent"
"""What ``"model"`` names in a ``model.opt``."""

_Positive = Annotated[int, Field(ge=1)]
_Dollars = Annotated[float, Field(ge=0)]


class EndpointSettings(BaseModel):
    """One model behind an endpoint. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=(), frozen=True)

    base_url: str
    """Address before ``/chat/completions``, such as ``https://host/v1``."""
    endpoint_model: str = Field(min_length=1)
    """The model's name there."""
    api_key_env: str | None = None
    """Environment variable with the API key; None: no key is sent."""
    headers_env: dict[str, str] = Field(default_factory=dict)
    """Further headers: name -> environment variable with the value."""
    system_prompt: str = ""
    history_turns: Annotated[int, Field(ge=-1)] = -1
    """Exchanges before the last message that are sent; -1: all."""
    temperature: Annotated[float, Field(ge=0)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: int | None = None
    stop: list[str] | None = None
    max_tokens: Annotated[int, Field(ge=0)] = 300
    """Tokens of a reply, its reasoning included; 0: the server's choice."""
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """The field of the request that carries ``max_tokens``; where a server refuses one, the other is tried once."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Further fields of the request, passed on as they are."""
    whole_sentences: bool = True
    """Whether a reply that reached ``max_tokens`` is cut after its last whole sentence."""
    takes_images: bool = False
    """Whether the image of image chat is sent, as an image part."""
    image_detail: Literal["auto", "low", "high"] | None = None
    keep_reasoning: bool = False
    """Whether the model's reasoning is saved with the reply; it is never shown."""
    stream: bool = True
    """Whether the reply is read as server-sent events."""
    requests_at_once: _Positive = 64
    requests_per_minute: _Positive | None = None
    connect_timeout: Annotated[float, Field(gt=0)] = 10
    """Seconds."""
    ca_file: str | None = None
    """PEM file with the certificate authority of a server of one's own."""
    usd_per_million_input_tokens: _Dollars | None = None
    usd_per_million_output_tokens: _Dollars | None = None

    @field_validator("base_url")
    @classmethod
    def _is_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an address such as https://host/v1")
        if parts.username or parts.password:
            raise ValueError("must hold no user or password; give the key by 'api_key_env'")
        if parts.query or parts.fragment:
            raise ValueError("must end with the path, without '?' and '#'")
        return value.rstrip("/").removesuffix("/chat/completions")

    @field_validator("extra_body")
    @classmethod
    def _is_ours(cls, value: dict[str, Any]) -> dict[str, Any]:
        taken = sorted(value.keys() & {"messages", "model", "stream", "stream_options", "n"})
        if taken:
            raise ValueError(f"must not hold {', '.join(taken)}, which the task sets")
        return value

    @field_validator("temperature", "top_p", "connect_timeout", mode="after")
    @classmethod
    def _is_finite(cls, value: float | None) -> float | None:
        if value is not None and not math.isfinite(value):
            raise ValueError("must be a finite number")
        return value

    def environment_faults(self) -> list[str]:
        """Name the environment variables that are needed and not set, a sentence each."""
        names = [("api_key_env", self.api_key_env)] + [("headers_env", name) for name in self.headers_env.values()]
        return [
            f"{setting}: the environment variable '{name}' is not set; put the key into it, for instance "
            f"'export {name}=…' in the shell that starts the run."
            for setting, name in names
            if name is not None and not os.environ.get(name, "").strip()
        ]


HINTS = {
    "api_key": "a key is never written into a file: name the environment variable that holds it as 'api_key_env'",
    "model": "the model's name at the endpoint is 'endpoint_model'",
    "api_base": "the address is 'base_url'",
    "max_new_tokens": "it is called 'max_tokens' here",
    "top_k": "fields that not all servers know stand under 'extra_body'",
}
"""What to say about keys that people bring from other tools."""


def settings_faults(prefix: str, given: Mapping[str, Any]) -> list[str]:
    """Say what is wrong with the settings of one model, a sentence a fault.

    Args:
        prefix: flag, file and nickname, before the colon.
        given: the settings.
    """
    try:
        settings = EndpointSettings.model_validate({key: value for key, value in given.items() if value is not None})
    except ValidationError as error:
        return [_sentence(prefix, fault) for fault in error.errors()]
    return [f"{prefix}: {fault}" for fault in settings.environment_faults()]


def _sentence(prefix: str, fault: Any) -> str:
    where = ".".join(map(str, fault["loc"]))
    key = str(fault["loc"][0]) if fault["loc"] else ""
    if fault["type"] == "extra_forbidden":
        hint = HINTS.get(key, f"known are {', '.join(EndpointSettings.model_fields)}")
        return f"{prefix}: unknown key '{where}'; {hint}."
    if fault["type"] == "missing":
        return f"{prefix}: '{where}' is not set; an endpoint needs 'base_url' and 'endpoint_model'."
    message = fault["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(fault["input"], dict) else f" ({str(fault['input'])[:80]!r})"
    return f"{prefix}: '{where}'{shown}: {message[:1].lower()}{message[1:]}."
