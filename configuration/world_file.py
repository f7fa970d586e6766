"""The module of ``mephisto.blueprint.world_file`` (docs/worlds.md)."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from model_chat.configuration.files import expand
from model_chat.configuration.places import ROOT
from model_chat.errors import ConfigurationError


def load_world(flag: str, path: str) -> ModuleType:
    """Import the module of a world file; onboarding that it does not have itself is the shipped one.

    Raises:
        ConfigurationError: no such file, it raises, it lacks ``make_world`` or ``get_world_params``, or the latter says
            nothing that can be used.
    """
    file = expand(path).resolve()
    if not file.is_file():
        raise ConfigurationError(f"{flag}: the file '{path}' does not exist; give the path of a world module.")
    # One of our own files is imported as what it is, so that it isn't there twice.
    name = f"model_chat.{file.stem}" if file.parent == ROOT else f"model_chat_world_{file.stem}"
    try:
        if file.parent == ROOT:
            module = importlib.import_module(name)
        else:
            spec = importlib.util.spec_from_file_location(name, file)
            if spec is None or spec.loader is None:
                raise ConfigurationError(f"{flag}: '{path}' is no Python file.")
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            spec.loader.exec_module(module)
    except ConfigurationError:
        raise
    except (Exception, SystemExit) as error:  # the lab's own module may raise anything
        sys.modules.pop(name, None)
        raise ConfigurationError(f"{flag}: '{path}' can't be imported: {type(error).__name__}: {error}.") from error
    ConfigurationError.raise_if(
        f"{flag}: '{path}' has no function '{function}'; see docs/worlds.md."
        for function in ("make_world", "get_world_params")
        if not callable(getattr(module, function, None))
    )
    _check_params(flag, path, module.get_world_params)
    shipped = importlib.import_module("model_chat.worlds")
    for function in ("make_onboarding_world", "validate_onboarding"):
        if not hasattr(module, function):
            setattr(module, function, getattr(shipped, function))
    return module


def _check_params(flag: str, path: str, get_world_params: Callable[[], Any]) -> None:
    """Call a world file's ``get_world_params`` as the launch will.

    Raises:
        ConfigurationError: it raises, or returns no number of workers.
    """
    try:
        count = get_world_params()["agent_count"]
    except (Exception, SystemExit) as error:  # a researcher's own code may raise anything
        raise ConfigurationError(
            f"{flag}: get_world_params of '{path}' fails: {type(error).__name__}: {error}; let it return "
            '{"agent_count": 1}.'
        ) from error
    if type(count) is not int or count < 1:
        raise ConfigurationError(
            f"{flag}: get_world_params of '{path}' gives agent_count {count!r}; let it return {{\"agent_count\": 1}}."
        )
