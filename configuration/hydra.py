"""The Hydra configuration of the run scripts: top-level flags, and Mephisto's own below ``mephisto``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from mephisto.operations.hydra_config import MephistoConfig
from omegaconf import OmegaConf

from model_chat.configuration.files import read_yaml
from model_chat.configuration.places import ROOT as ROOT
from model_chat.configuration.places import work_dir

CONFIG_NAME = "model_chat_task"


@dataclass
class MTurkConfig:
    """Flags under ``mturk``."""

    worker_blocklist_paths: str | None = field(
        default=None, metadata={"help": "Comma-separated files of worker ids to soft-block, one id a line."}
    )

    min_percent_approved: int = field(
        default=0, metadata={"help": "MTurk: least share of a worker's approved work, in percent; 0: any."}
    )
    min_hits_approved: int = field(default=0, metadata={"help": "MTurk: least number of a worker's approved HITs."})
    allowed_countries: str | None = field(
        default=None,
        metadata={"help": "MTurk: two-letter codes, comma-separated; unset: Mephisto's choice, US,CA,GB,AU,NZ."},
    )


@dataclass
class ModelChatMephistoConfig(MephistoConfig):  # type: ignore[misc]  # mephisto has no types
    """Mephisto's configuration, quieter, and with its data folder as a flag."""

    datapath: str | None = field(
        default=None,
        metadata={"help": "Mephisto's data folder; unset: core.main_data_directory of ~/.mephisto/config.yml."},
    )
    log_level: str = field(
        default="warning", metadata={"help": "Of Mephisto's and ParlAI's log lines: debug, info, warning, error."}
    )


@dataclass
class TaskConfig:
    """The whole configuration of a run."""

    defaults: list[Any] = field(default_factory=list)
    hydra: Any = field(default_factory=dict)
    mephisto: ModelChatMephistoConfig = field(default_factory=ModelChatMephistoConfig)
    task_dir: str = field(
        default=str(ROOT), metadata={"help": "Folder of the task; the defaults of other flags refer to it."}
    )
    work_dir: str = field(
        default_factory=lambda: str(work_dir()),
        metadata={
            "help": "Folder below which models, data and conf/ of your own lie: the task's, or where model-chat is "
            "installed as a package, the one you stand in."
        },
    )
    monitoring_log_rate: int = field(
        default=30, metadata={"help": "Seconds between two progress lines where there is no terminal."}
    )
    current_time: str = field(
        default="${now:%Y%m%d_%H%M%S}", metadata={"help": "For names in your own files under conf/."}
    )
    confirm_cost: str = field(
        default="", metadata={"help": "On MTurk: what the run costs, in dollars; it is said if this is empty or wrong."}
    )
    mturk: MTurkConfig = field(default_factory=MTurkConfig)


def store_conf_files(folder: Path) -> None:
    """Offer each YAML file of a folder as a choice of the config group ``conf``.

    The folder that holds ``conf/`` is the whole repository; as a Hydra search path it would be walked through, virtual
    environment and all, for every ``--help``.

    Raises:
        ConfigurationError: a file is not valid YAML.
    """
    for file in sorted(folder.glob("*.yaml")):
        content = read_yaml("conf", str(file))
        ConfigStore.instance().store(
            group="conf", name=file.stem, node=OmegaConf.create(content), package="_global_", provider="model_chat"
        )


def register(default_conf: str) -> str:
    """Register the configuration whose ``conf`` group has the given default; return the name for ``hydra.main``."""
    name = f"{CONFIG_NAME}_{default_conf}"
    config = TaskConfig(
        defaults=["_self_", {"conf": default_conf}, {"override hydra/job_logging": "none"}],
        # Hydra would make a folder for each start, with copies of the configuration; Mephisto's database keeps that.
        hydra={"run": {"dir": "."}, "output_subdir": None},
    )
    for folder in dict.fromkeys((ROOT, Path(config.work_dir))):
        store_conf_files(folder / "conf")
    ConfigStore.instance().store(name=name, node=config, provider="model_chat")
    return name
