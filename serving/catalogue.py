"""The available models: the base model folder and the model option file."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_chat.agents.endpoint_settings import ENDPOINT_AGENT, secrets_of, settings_faults
from model_chat.configuration.files import expand
from model_chat.configuration.lists import split_list
from model_chat.configuration.redaction import learn_flags, learn_secrets, without_secrets
from model_chat.configuration.yaml_files import read_yaml
from model_chat.errors import ConfigurationError

NOT_OF_THE_ENDPOINT = frozenset({"model", "model_file", "override"})
"""Keys of a ``model.opt`` that are ParlAI's."""
PRICES = ("usd_per_million_input_tokens", "usd_per_million_output_tokens")
MODEL_FILE = "model"
OPT_FILE = "model.opt"


@dataclass(frozen=True)
class ModelSource:
    """Where one model comes from.

    Attributes:
        nickname: what the requester calls it; workers never see it.
        folder: its folder below the base model folder, or None when it comes from the option file.
        flags: ParlAI flags from the option file, or None when it has none there.
        endpoint: settings of a model behind an endpoint, from the option file, or None.
    """

    nickname: str
    folder: Path | None = None
    flags: str | None = None
    endpoint: Mapping[str, Any] | None = None

    @property
    def settings(self) -> Mapping[str, Any] | None:
        """The settings of its endpoint, or its ``model.opt``, empty where that can't be read; None where it has flags."""
        if self.endpoint is not None:
            return {**self.endpoint, "model": ENDPOINT_AGENT}
        if self.folder is None:
            return None
        try:
            opt = json.loads((self.folder / OPT_FILE).read_bytes())
        except (OSError, ValueError, RecursionError):  # which opt_faults says
            return {}
        return opt if isinstance(opt, Mapping) else {}

    @property
    def is_endpoint(self) -> bool:
        """Whether the model runs behind an endpoint, so that nothing of it is loaded here."""
        settings = self.settings
        return ENDPOINT_AGENT in (self.flags or "") if settings is None else settings.get("model") == ENDPOINT_AGENT

    @property
    def agent(self) -> str | None:
        """ParlAI's name of its agent, as far as it is known before the model is loaded."""
        settings = self.settings
        if settings is not None:
            return str(settings.get("model"))
        words = shlex.split(self.flags or "")
        names = [word.partition("=") for word in words]
        for at, (name, given, value) in enumerate(names):
            if name in ("-m", "--model"):
                return value if given else (words[at + 1] if at + 1 < len(words) else None)
        return None

    def missing_prices(self) -> list[str]:
        """Return the prices that an endpoint model's settings leave out."""
        settings = self.settings
        if settings is None:
            return [price for price in PRICES if f"--{price.replace('_', '-')}" not in (self.flags or "")]
        return [price for price in PRICES if settings.get(price) is None]

    @property
    def model_file(self) -> str | None:
        """ParlAI's `model_file`: ``<folder>/model``, whether or not such a file exists."""
        return None if self.folder is None else str(self.folder / MODEL_FILE)


def models_in_folder(flag: str, base_model_folder: str) -> dict[str, ModelSource]:
    """Find every ``model.opt`` below the base model folder.

    Returns:
        nickname (the path of the model's folder relative to the base folder, with slashes) -> source, sorted.

    Raises:
        ConfigurationError: no such folder.
    """
    base = expand(base_model_folder)
    if not base.is_dir():
        raise ConfigurationError(
            f"{flag}: the folder '{base_model_folder}' does not exist; create it with one folder a model, each holding a "
            f"'{OPT_FILE}', or run scripts/make_demo_models.py for the demo models."
        )
    found = {}
    # os.walk follows links on request, which Path.rglob does not: models are often linked in from a larger disk.
    # Folder -> the real folders on the way to it, itself included: a link back to one of them has no end.
    ways = {str(base): frozenset({base.resolve()})}
    for folder, subfolders, files in os.walk(base, followlinks=True):
        way = ways.pop(folder)
        real = {name: (Path(folder) / name).resolve() for name in sorted(subfolders)}
        subfolders[:] = [name for name, place in real.items() if place not in way]
        ways.update({os.path.join(folder, name): way | {real[name]} for name in subfolders})  # noqa: PTH118 (os.walk's)
        if OPT_FILE in files and Path(folder) != base and (Path(folder) / OPT_FILE).is_file():
            nickname = Path(folder).relative_to(base).as_posix()
            found[nickname] = ModelSource(nickname=nickname, folder=Path(folder))
    return dict(sorted(found.items()))


def models_in_opt_file(flag: str, model_opt_path: str) -> dict[str, ModelSource]:
    """Read a YAML file that maps nicknames to strings of ParlAI flags, or to the settings of models behind endpoints.

    A nickname is text, ``3.10`` and ``no`` too.

    Raises:
        ConfigurationError: no such file, not YAML, or an entry that is neither.
    """
    data = read_yaml(flag, model_opt_path).content
    if not isinstance(data, Mapping):
        raise ConfigurationError(
            f"{flag}: '{model_opt_path}' must map each nickname to a string of ParlAI flags, "
            f'such as  my_model: "--model-file path/to/model", or to the settings of an endpoint.'
        )
    faults, found = [], {}
    for nickname, flags in data.items():
        if isinstance(flags, Mapping):
            found[nickname] = ModelSource(nickname=nickname, endpoint=dict(flags))
            continue
        if not isinstance(flags, str) or not flags.strip():
            faults.append(
                f"{flag}: '{model_opt_path}': the entry '{nickname}' must be a string of ParlAI flags, or settings of "
                f"an endpoint, not {without_secrets(flags)!r}."
            )
            continue
        try:
            shlex.split(flags)
        except ValueError as error:
            faults.append(f"{flag}: '{model_opt_path}': the flags of '{nickname}' can't be split ({error}).")
            continue
        found[nickname] = ModelSource(nickname=nickname, flags=flags)
    ConfigurationError.raise_if(faults)
    return found


def opt_faults(flag: str, source: ModelSource) -> list[str]:
    """Say what is wrong with a model's ``model.opt``, or with its settings, without loading the model."""
    if source.endpoint is not None:
        return settings_faults(f"{flag}: the endpoint model '{source.nickname}'", source.endpoint)
    if source.folder is None:
        return []
    path = source.folder / OPT_FILE
    try:
        opt = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        return [f"{flag}: '{path}' is not valid JSON: line {error.lineno}, column {error.colno}: {error.msg}."]
    except UnicodeDecodeError:
        return [f"{flag}: '{path}' is not UTF-8 text (a pickled opt of an old ParlAI?); save it as JSON."]
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or thousands of levels
        return [f"{flag}: '{path}' is not valid JSON ({error}); save it as ParlAI does."]
    except OSError as error:
        return [f"{flag}: '{path}' can't be read ({error.strerror}); check its permissions."]
    if not isinstance(opt, dict) or not isinstance(opt.get("model"), str):
        return [f"{flag}: '{path}' names no agent; add \"model\", as ParlAI writes it when it saves a model."]
    if opt["model"] == ENDPOINT_AGENT:
        settings = {key: value for key, value in opt.items() if key not in NOT_OF_THE_ENDPOINT}
        return settings_faults(f"{flag}: '{path}'", settings)
    return []


def spend_faults(flag: str, limit: float | None, sources: Mapping[str, ModelSource]) -> list[str]:
    """Say what is wrong with a limit of what models may cost: its value, or models behind endpoints without prices."""
    if limit is None:
        return []
    if not (math.isfinite(limit) and limit > 0):
        return [f"{flag}: {limit} is no amount of money; give US dollars above 0, or leave it out for no limit."]
    return [
        f"{flag}: the endpoint model '{nickname}' has no {' and no '.join(missing)}, so nobody knows what it costs; set the "
        "price (0 where it costs nothing)."
        for nickname, source in sources.items()
        if source.is_endpoint and (missing := source.missing_prices())
    ]


def parse_conversations_needed(flag: str, text: str | None) -> dict[str, int]:
    """Read ``nick:count,nick:count``; nicknames may hold slashes and colons, counts are whole numbers of at least 1.

    An entry whose nickname holds a comma is quoted as in csv.

    Raises:
        ConfigurationError: one sentence for each entry that can't be read, or for an empty string.
    """
    example = "write it as nickname:count,nickname:count, for instance demo/smollm2:10"
    if not text or not text.strip():
        raise ConfigurationError(f"{flag}: says which models to talk to and is empty; {example}.")
    faults: list[str] = []
    needed: dict[str, int] = {}
    for entry in split_list(flag, text, keep_empty=True):
        nickname, separator, count_text = (part.strip() for part in entry.rpartition(":"))
        if not separator or not nickname:
            faults.append(f"{flag}: '{entry.strip()}' has no nickname and count; {example}.")
        elif not re.fullmatch("0*[1-9][0-9]{0,8}", count_text):
            faults.append(f"{flag}: the count '{count_text:.40}' of '{nickname}' is not a whole number of at least 1.")
        elif nickname in needed:
            faults.append(f"{flag}: duplicate nickname '{nickname}'; give it once, with the sum of the counts.")
        else:
            needed[nickname] = int(count_text)
    ConfigurationError.raise_if(faults)
    return needed


def choose_sources(
    needed: Mapping[str, Any], available: Mapping[str, ModelSource], flag: str, places: str
) -> dict[str, ModelSource]:
    """Pick the sources of the models that are needed.

    Raises:
        ConfigurationError: a nickname is not there, one sentence each, with those that are.
    """
    there = (
        f"there: {', '.join(available)}."
        if available
        else "it holds no model. Put the model there; 'python scripts/make_demo_models.py' makes the demo models."
    )
    ConfigurationError.raise_if(
        f"{flag}: there is no model '{nickname}' in {places}; {there}"
        for nickname in needed
        if nickname not in available
    )
    chosen = {nickname: available[nickname] for nickname in needed}
    for (
        source
    ) in chosen.values():  # wherever it will run, no log line and no reason is to hold the keys that it is given
        settings = source.settings
        if settings is None:
            learn_flags(source.flags or "")
        else:
            learn_secrets(settings, secrets_of(settings))
    return chosen
