"""The Hydra configuration of the run scripts: top-level flags, and Mephisto's own below ``mephisto``."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_store import ConfigStore
from mephisto.operations.hydra_config import MephistoConfig
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from model_chat.configuration.flags import all_flags, flag, flag_tree
from model_chat.configuration.places import ROOT as ROOT
from model_chat.configuration.places import work_dir
from model_chat.configuration.yaml_files import read_yaml
from model_chat.errors import ConfigurationError

CONFIG_NAME = "model_chat_task"


@dataclass
class MTurkConfig:
    """Flags under ``mturk``."""

    worker_blocklist_paths: str | None = flag(None, "Comma-separated files of worker ids to soft-block, one id a line.")

    min_percent_approved: int = flag(0, "MTurk: least share of a worker's approved work, in percent; 0: any.")
    min_hits_approved: int = flag(0, "MTurk: least number of a worker's approved HITs.")
    allowed_countries: str | None = flag(
        None, "MTurk: two-letter codes, comma-separated; unset: Mephisto's choice, US,CA,GB,AU,NZ."
    )


@dataclass
class ModelChatMephistoConfig(MephistoConfig):
    """Mephisto's configuration, quieter, and with its data folder as a flag."""

    datapath: str | None = flag(
        None, "Mephisto's data folder; unset: core.main_data_directory of ~/.mephisto/config.yml."
    )
    log_level: str = flag("warning", "Of Mephisto's and ParlAI's log lines: debug, info, warning, error.")


@dataclass
class TaskConfig:
    """The whole configuration of a run."""

    defaults: list[Any] = field(default_factory=list)
    hydra: Any = field(default_factory=dict)
    mephisto: ModelChatMephistoConfig = field(default_factory=ModelChatMephistoConfig)
    task_dir: str = flag(str(ROOT), "Folder of the task; the defaults of other flags refer to it.")
    work_dir: str = field(
        default_factory=lambda: str(work_dir()),
        metadata={
            "help": "Folder that holds models, data and your own conf/: the task's, or, when model-chat is installed as a "
            "package, the current one."
        },
    )
    monitoring_log_rate: int = flag(30, "Seconds between two progress lines where there is no terminal.")
    current_time: str = flag("${now:%Y%m%d_%H%M%S}", "For names in your own files under conf/.")
    confirm_cost: str = flag("", "On MTurk: what the run costs, in dollars; it is said if this is empty or wrong.")
    mturk: MTurkConfig = field(default_factory=MTurkConfig)


@dataclass
class ConfFile:
    """A file of the config group ``conf``.

    Attributes:
        lines: dotted key -> its line, from 1.
        faults: one sentence each; of a file with faults nothing is used.
    """

    path: Path
    lines: dict[str, int] = field(default_factory=dict)
    faults: tuple[str, ...] = ()


CONF_FILES: dict[str, ConfFile] = {}
"""Name -> file, of each file that the config group ``conf`` has; filled by :func:`store_conf_files`."""


def store_conf_files(folder: Path) -> None:
    """Offer each YAML file of a folder as a choice of the config group ``conf``, in place of an earlier one of that name.

    A file that can't be read keeps nobody from using the others: its faults are kept in :data:`CONF_FILES`.

    The folder that holds ``conf/`` is the whole repository; as a Hydra search path it would be walked through, virtual
    environment and all, for every ``--help``.
    """
    store, tree = ConfigStore.instance(), flag_tree(all_flags())
    for path in sorted(folder.glob("*.yaml")):
        name, file = path.stem, ConfFile(path)
        CONF_FILES[name] = file
        store.repo.get("conf", {}).pop(f"{name}.yaml", None)
        try:
            found = read_yaml(f"conf={name}", str(path), tree)
            content = {} if found.content is None else found.content
            if not isinstance(content, dict):
                raise ConfigurationError(f"conf={name}: '{path}' must map flags to values, such as  num_turns: 4.")
            faults = _shape_faults(content, tree, "", found.lines)
            ConfigurationError.raise_if(f"conf={name}: '{path}', {fault}." for fault in faults)
            node = OmegaConf.create(content)
        except ConfigurationError as error:
            file.faults = error.faults
        except RecursionError:
            file.faults = (f"conf={name}: '{path}' has a mapping that contains itself; correct it.",)
        except OmegaConfBaseException as error:  # such as half an interpolation
            file.faults = (f"conf={name}: '{path}': {str(error).splitlines()[0].rstrip('.')}; correct it.",)
        else:
            file.lines = found.lines
            store.store(group="conf", name=name, node=node, package="_global_", provider="model_chat")


def _shape_faults(content: dict[str, Any], tree: Mapping[str, Any], prefix: str, lines: Mapping[str, int]) -> list[str]:
    """Find groups of flags that are no mapping; one that is empty, since all below it is a comment, say, is left out."""
    faults = []
    for key, value in list(content.items()):
        name = f"{prefix}{key}"
        line = f"line {lines.get(name, 1)}: '{name}'"
        group = name.removeprefix("mephisto.")
        if name == "defaults" and value is not None and not isinstance(value, list):
            faults.append(f"{line} must be a list, such as  - /mephisto/blueprint: model_chat_blueprint")
        below = tree.get(key)
        if not isinstance(below, Mapping):
            continue
        if value is None:
            del content[key]
        elif isinstance(value, dict):
            faults += _shape_faults(value, below, f"{name}.", lines)
        elif name != group and group in ConfigStore.instance().repo.get("mephisto", {}):
            faults.append(f"{line} is chosen in the list 'defaults', as  - /mephisto/{group}: {value}")
        else:
            faults.append(f"{line} is a group of flags; give each below it")
    return faults


class BesideConf(FileConfigSource):
    """What a folder of ``--config-dir`` holds for Hydra, but for ``conf/``, whose files :func:`store_conf_files` offers.

    Hydra would take those files, too, but only with a comment in the first line that says ``@package _global_``, which a
    copy of a shipped file has not.
    """

    @staticmethod
    def scheme() -> str:
        """Return how such a path begins in Hydra's search path."""
        return "beside-conf"

    def is_group(self, config_path: str) -> bool:
        """Whether there is such a group."""
        return config_path.strip("/") != "conf" and bool(super().is_group(config_path))

    def is_config(self, config_path: str) -> bool:
        """Whether there is such a file."""
        return not config_path.lstrip("/").startswith("conf/") and bool(super().is_config(config_path))


def search_path(folder: Path) -> str:
    """Return the element of Hydra's search path for what a folder holds beside ``conf/``."""
    SourcesRegistry.instance().register(BesideConf)
    # Hydra names search paths that are not there if there are any of our own; Mephisto's are optional.
    warnings.filterwarnings("ignore", "provider=mephisto-profiles", UserWarning)
    return f"{BesideConf.scheme()}://{folder}"


def register(default_conf: str, config_dir: Path | None = None) -> str:
    """Register the configuration whose ``conf`` group has the given default; return the name for ``hydra.main``.

    Args:
        default_conf: a file of ``conf/``.
        config_dir: a folder that holds a ``conf/`` of its own, and whatever else Hydra is to find there.
    """
    name = f"{CONFIG_NAME}_{default_conf}"
    config = TaskConfig(
        defaults=["_self_", {"conf": default_conf}, {"override hydra/job_logging": "none"}],
        # Hydra would make a folder for each start, with copies of the configuration; Mephisto's database keeps that.
        hydra={
            "run": {"dir": "."},
            "output_subdir": None,
            **({"searchpath": [search_path(config_dir)]} if config_dir else {}),
        },
    )
    CONF_FILES.clear()
    ConfigStore.instance().repo.pop("conf", None)
    for folder in dict.fromkeys((ROOT, Path(config.work_dir), *([config_dir] if config_dir else []))):
        store_conf_files(folder / "conf")
    ConfigStore.instance().store(name=name, node=config, provider="model_chat")
    return name
