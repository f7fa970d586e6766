"""The settings of a model behind an OpenAI-compatible endpoint, as `model.opt` or the YAML file of models gives them."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

if TYPE_CHECKING:
    import ssl

ENDPOINT_AGENT = "model_chat.agents.endpoint:EndpointAgent"
"""What ``"model"`` names in a ``model.opt``."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
"""RFC 9110, section 5.6.2."""
_KEY = re.compile(r"[!-~]+")
_LONGEST_VARIABLE_WITH_LOWER_CASE = 20
"""Characters; a longer name with small letters and digits is taken for a key."""
_NOT_SHOWN = frozenset({"base_url", "api_key_env", "headers_env"})
"""Settings that people put secrets into by mistake."""

_Positive = Annotated[int, Field(ge=1)]
_Dollars = Annotated[float, Field(ge=0)]


class EndpointSettings(BaseModel):
    """One model behind an endpoint. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

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
    dict_lower: bool = False
    """Whether replies pass through ParlAI's ``normalize_reply`` (capitals, punctuation), as those of ParlAI's models do."""
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
    read_timeout: Annotated[float, Field(gt=0)] = 60
    """Seconds without a byte from the server until the request is given up and sent again."""
    ca_file: str | None = None
    """PEM file with the certificate authority of a server of one's own."""
    usd_per_million_input_tokens: _Dollars | None = None
    usd_per_million_output_tokens: _Dollars | None = None

    @field_validator("base_url")
    @classmethod
    def _is_address(cls, value: str) -> str:
        import httpx

        try:
            parts = urlsplit(value)
            _ = parts.port, httpx.URL(value).host  # as the client reads it: no characters that an address can't hold
        except (ValueError, httpx.InvalidURL):
            raise ValueError("must be an address such as https://host/v1") from None
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

    @field_validator("api_key_env")
    @classmethod
    def _is_variable(cls, value: str | None) -> str | None:
        if value is not None and not _could_be_variable(value):
            raise ValueError("must be the name of an environment variable, never the key itself")
        return value

    @field_validator("headers_env")
    @classmethod
    def _are_headers(cls, value: dict[str, str]) -> dict[str, str]:
        for header, variable in value.items():
            if not _HEADER.fullmatch(header):
                raise ValueError("must map names of headers to names of environment variables")
            if not _could_be_variable(variable):
                raise ValueError(f"'{header}' must name an environment variable, never hold the value itself")
        return value

    @field_validator(
        "temperature",
        "top_p",
        "connect_timeout",
        "read_timeout",
        "usd_per_million_input_tokens",
        "usd_per_million_output_tokens",
        mode="after",
    )
    @classmethod
    def _is_finite(cls, value: float | None) -> float | None:
        if value is not None and not math.isfinite(value):
            raise ValueError("must be a finite number")
        return value

    def headers(self) -> dict[str, str]:
        """Return the headers with the key and what else is secret, read from the environment."""
        headers = {name: os.environ.get(variable, "").strip() for name, variable in self.headers_env.items()}
        key = os.environ.get(self.api_key_env, "").strip() if self.api_key_env else ""
        return headers | ({"Authorization": f"Bearer {key}"} if key else {})

    def tls_context(self) -> ssl.SSLContext | None:
        """Return what certificates are checked with, or None for the usual authorities.

        Raises:
            OSError: ``ca_file`` can't be read, or holds no certificate (:class:`ssl.SSLError` is one).
        """
        if self.ca_file is None:
            return None
        import ssl

        return ssl.create_default_context(cafile=Path(self.ca_file).expanduser())

    def environment_faults(self) -> list[str]:
        """Say what is missing or wrong around the settings: environment variables and files, a sentence each."""
        names = [("api_key_env", self.api_key_env)] + [("headers_env", name) for name in self.headers_env.values()]
        faults = []
        for setting, name in names:
            if name is None:
                continue
            value = os.environ.get(name, "").strip()
            if not value:
                faults.append(
                    f"{setting}: the environment variable '{name}' is not set; put the key into it, for instance "
                    f"'export {name}=…' in the shell that starts the run."
                )
            elif setting == "api_key_env" and not _KEY.fullmatch(value):
                faults.append(
                    f"{setting}: the environment variable '{name}' holds characters that no key has, such as spaces or "
                    "line ends; put the key alone into it."
                )
            elif not (value.isascii() and value.isprintable()):
                faults.append(
                    f"{setting}: the environment variable '{name}' holds characters that no header has; use ASCII "
                    "without line ends."
                )
        try:
            self.tls_context()
        except OSError as error:
            reason = error.strerror or str(error)
            faults.append(f"ca_file: '{self.ca_file}' can't be used ({reason}); give a PEM file with certificates.")
        return faults


def _could_be_variable(name: str) -> bool:
    """Whether a text is the name of an environment variable, and doesn't look like a key."""
    is_mixed = not name.isupper() and any(sign.isdigit() for sign in name)
    return bool(_VARIABLE.fullmatch(name)) and not (is_mixed and len(name) > _LONGEST_VARIABLE_WITH_LOWER_CASE)


HINTS = {
    "api_key": "a key is never written into a file: name the environment variable that holds it as 'api_key_env'",
    "model": "the model's name at the endpoint is 'endpoint_model'",
    "api_base": "the address is 'base_url'",
    "max_new_tokens": "it is called 'max_tokens' here",
    "top_k": "fields that not all servers know stand under 'extra_body'",
}
"""What to say about keys that people bring from other tools."""


def secrets_of(given: Mapping[str, Any]) -> dict[str, str]:
    """Return the values of the environment variables that settings name, right or wrong, under names of secrets."""
    headers = given.get("headers_env")
    names = [given.get("api_key_env"), *(headers.values() if isinstance(headers, Mapping) else ())]
    return {
        f"secret_{number}": os.environ.get(name, "").strip()
        for number, name in enumerate(names)
        if isinstance(name, str) and _VARIABLE.fullmatch(name)
    }


def settings_faults(prefix: str, given: Mapping[str, Any]) -> list[str]:
    """Say what is wrong with the settings of one model, and around them, a sentence a fault.

    Args:
        prefix: flag, file and nickname, before the colon.
        given: the settings.
    """
    faults = format_faults(prefix, given)
    if faults:
        return faults
    settings = EndpointSettings.model_validate(_given(given))
    return [f"{prefix}: {fault}" for fault in settings.environment_faults()]


def format_faults(prefix: str, given: Mapping[str, Any]) -> list[str]:
    """Say what is wrong with the settings themselves, whatever the environment holds."""
    try:
        EndpointSettings.model_validate(_given(given))
    except ValidationError as error:
        return [_sentence(prefix, fault) for fault in error.errors()]
    return []


def _given(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What is set: a null is a setting that isn't given."""
    return {key: value for key, value in settings.items() if value is not None}


def _sentence(prefix: str, fault: Any) -> str:
    where = ".".join(map(str, fault["loc"]))
    key = str(fault["loc"][0]) if fault["loc"] else ""
    if fault["type"] == "extra_forbidden":
        hint = HINTS.get(key, f"known are {', '.join(EndpointSettings.model_fields)}")
        return f"{prefix}: unknown key '{where}'; {hint}."
    if fault["type"] == "missing":
        return f"{prefix}: '{where}' is not set; an endpoint needs 'base_url' and 'endpoint_model'."
    message = fault["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(fault["input"], dict) or key in _NOT_SHOWN else f" ({str(fault['input'])[:80]!r})"
    return f"{prefix}: '{where}'{shown}: {message[:1].lower()}{message[1:]}."
