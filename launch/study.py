"""Settings of a study that has run, from its file in ``conf/``: for commands that look at collected data."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from model_chat.configuration.files import expand
from model_chat.configuration.lists import join_list
from model_chat.errors import ConfigurationError
from model_chat.records.mephisto_database import open_read_only

CONF_HELP = "NAME of a file conf/NAME.yaml: what it says of the task's name, its boxes and its folders is used"


@dataclass(frozen=True)
class Study:
    """A study, as its file says.

    Attributes:
        database: Mephisto's; it may not be there.
        chat_data_folder: of its conversations; it may not be there.
        stack_folder: of an image chat, else None.
        buckets: the annotation's; none if replies are not annotated.
    """

    conf: str
    task_name: str
    database: Path
    chat_data_folder: Path
    stack_folder: Path | None
    buckets: tuple[str, ...]

    def is_in_database(self) -> bool:
        """Whether Mephisto's database has the task."""
        if not self.database.is_file():
            return False
        try:
            with open_read_only(self.database, seconds=30) as connection:
                found = connection.execute("SELECT 1 FROM tasks WHERE task_name = ?", (self.task_name,)).fetchone()
        except sqlite3.Error:  # no database of Mephisto's
            return False
        return found is not None

    def collected(self) -> dict[str, str]:
        """Where its conversations are, by the names of the flags of the commands that read them.

        Raises:
            ConfigurationError: nothing has been collected with it.
        """
        found = {}
        if self.chat_data_folder.is_dir():
            found["results_folders"] = join_list([str(self.chat_data_folder)])
        if self.is_in_database():
            found |= {"task_name": self.task_name, "database_path": str(self.database)}
        if not found:
            raise ConfigurationError(
                f"--conf {self.conf}: nothing is collected yet: there is no folder {self.chat_data_folder}, and no task "
                f"'{self.task_name}' in {self.database}."
            )
        return found


def find_study(conf: str) -> Study:
    """Read a file of ``conf/``.

    Raises:
        ConfigurationError: there is no such file, or it has faults.
    """
    from model_chat.configuration.annotations import load_annotations
    from model_chat.configuration.mephisto_data import DATABASE, find_data_folder
    from model_chat.configuration.task_names import full_task_name
    from model_chat.launch.checks import BLUEPRINT
    from model_chat.launch.command_line import compose_config

    cfg = compose_config("example", ["--conf", conf])
    args = cfg.mephisto.blueprint
    folder, stack = args.get("chat_data_folder", None), args.get("stack_folder", None)  # None for "???", too
    if not folder or not cfg.mephisto.task.get("task_name", None):
        raise ConfigurationError(
            f"conf={conf}: gives no chat_data_folder or no task_name; nothing was collected with it."
        )
    buckets: tuple[str, ...] = ()
    if args.annotations_config_path:
        buckets = load_annotations(f"{BLUEPRINT}.annotations_config_path", args.annotations_config_path)[0].values
    return Study(
        conf=conf,
        task_name=full_task_name(cfg),
        database=find_data_folder(cfg).path / DATABASE,
        chat_data_folder=expand(folder),
        stack_folder=expand(stack) if stack else None,
        buckets=buckets,
    )
