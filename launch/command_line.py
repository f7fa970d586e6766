"""The command line of the run scripts: the action that it asks for, and the configuration."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import CompactHydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from model_chat.configuration.arguments import as_meant, config_dir_of, split_arguments
from model_chat.configuration.diagnosis import Diagnosis, diagnose, word_faults
from model_chat.configuration.hydra import ROOT, register
from model_chat.errors import ConfigurationError

FULL_ERROR = "HYDRA_FULL_ERROR"
"""Hydra's environment variable: let exceptions out of ``hydra.main`` instead of printing them."""


class Action(StrEnum):
    """What the command line asks for."""

    RUN = "run"
    HELP = "help"
    CONFIG = "configuration"


class CommandLine(NamedTuple):
    """A command line that has been read.

    Attributes:
        overrides: ``flag=value``, so that Hydra reads what is meant.
        config_dir: a folder that holds a ``conf/`` of its own.
    """

    action: Action
    options: list[str]
    overrides: list[str]
    config_dir: Path | None = None

    @property
    def for_hydra(self) -> list[str]:
        """The command line as Hydra gets it."""
        return [*self.options, *self.overrides]


def read_arguments(arguments: Sequence[str]) -> CommandLine:
    """Tell what is asked for, and what is left for Hydra.

    ``--help`` and ``-c job`` are answered by :mod:`model_chat.configuration.help`, and the files of ``conf/`` in the folder
    of ``--config-dir`` are offered by :mod:`model_chat.configuration.hydra`; all other options are Hydra's own.

    Raises:
        ConfigurationError: an option that Hydra doesn't have or that is of no use here, or a folder that is not there.
    """
    parsed, overrides = split_arguments(arguments)
    if parsed.config_path is not None:
        raise ConfigurationError(
            "--config-path: is not available; give --config-dir with a folder whose conf/ is looked into, too."
        )
    if parsed.multirun:
        raise ConfigurationError("--multirun: is not available; a run waits for people, so start each by itself.")
    folder = config_dir_of(parsed)
    offered = folder is not None and (folder / "conf").is_dir()
    is_config = parsed.cfg == "job" and parsed.package is None and not parsed.resolve
    options = [
        f"--{name.replace('_', '-')}"
        for name in ("hydra_help", "resolve", "run", "shell_completion")
        if getattr(parsed, name)
    ]
    for name in ("cfg", "package", "config_dir", "experimental_rerun", "info"):
        value = getattr(parsed, name)
        if value is None or (name == "cfg" and is_config) or (name == "config_dir" and offered):
            continue
        options.append(f"--{name.replace('_', '-')}={folder if name == 'config_dir' else value}")
    action = Action.HELP if parsed.help else Action.CONFIG if is_config else Action.RUN
    return CommandLine(action, options, [as_meant(word) for word in overrides], folder if offered else None)


def run_hydra_app(run: Callable[[], None], config_name: str, line: CommandLine) -> None:
    """Call what ``hydra.main`` made with a command line.

    Raises:
        CannotComposeError: with every fault of the flags and files.
    """
    sys.argv[1:] = line.for_hydra
    wants_all = os.environ.get(FULL_ERROR) == "1"
    os.environ[FULL_ERROR] = "1"
    try:
        if word_faults(line.overrides):
            raise CannotComposeError(diagnose(config_name, line.overrides))
        run()
    except (CompactHydraException, OmegaConfBaseException) as error:
        if wants_all:
            raise
        found = diagnose(config_name, line.overrides)
        if not found.faults:  # of Hydra's own: its search path, its launcher
            found = Diagnosis((f"{' '.join(str(error).split()).rstrip('.')}; see --help.",), None)
        raise CannotComposeError(found) from error
    finally:
        if not wants_all:
            os.environ.pop(FULL_ERROR, None)


class CannotComposeError(ConfigurationError):
    """The flags and files can't be put together to one configuration."""

    def __init__(self, found: Diagnosis) -> None:
        super().__init__(*found.faults)
        self.found = found

    def with_faults_of(self, check: Callable[[DictConfig], object]) -> ConfigurationError:
        """Return an error that has the faults which ``check`` finds in the rest of the configuration, too."""
        if self.found.cfg is None:
            return self
        try:
            check(self.found.cfg)
        except ConfigurationError as error:
            more = [fault for fault in error.faults if fault.partition(":")[0] not in self.found.touched]
            return ConfigurationError(*dict.fromkeys([*self.faults, *more]))
        return self


def compose_config(default_conf: str, arguments: Sequence[str]) -> DictConfig:
    """Compose the configuration as the run scripts do, for commands that look at a task without running it.

    Args:
        arguments: as on the command line; of Hydra's options, --config-dir with a folder of conf/ alone.

    Raises:
        CannotComposeError: one sentence for each flag that is wrong.
    """
    from model_chat.launch import (
        task_run as task_run,  # registers the blueprints, architects and providers to choose from
    )

    line = read_arguments(arguments)
    name = register(default_conf, line.config_dir)
    if not word_faults(line.overrides):
        GlobalHydra.instance().clear()
        try:
            with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
                return compose(name, overrides=line.overrides)
        except (CompactHydraException, OmegaConfBaseException):
            pass  # said below
    raise CannotComposeError(diagnose(name, line.overrides))
