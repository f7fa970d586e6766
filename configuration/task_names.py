"""Names of tasks: data are counted by them, so trial runs have names of their own."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from model_chat.records.participation import PANELS
from model_chat.records.writing import replace_file

LOCAL, MTURK_SANDBOX, MOCK = "local", "mturk_sandbox", "mock"
LOCAL_SUFFIX, SANDBOX_SUFFIX, MOCK_SUFFIX = SUFFIXES = ("_local", "_sandbox", "_mock")
"""Added to the names of tasks whose work nobody is paid for: served from this machine, in MTurk's sandbox, elsewhere."""
OWNER_FILE = "task_name"
"""In the folder of an image stack: the name of the task that it was made for."""


def full_task_name(cfg: DictConfig) -> str:
    """Return the task's name with the suffix that keeps trial runs and paid ones apart.

    The name itself is for work that is paid for, that of panels included. Runs with the mock provider have another
    name wherever their page is
    served: a pilot with invited colleagues on EC2, say, must not count as collected in the paid run.
    """
    name: str = cfg.mephisto.task.task_name
    provider = cfg.mephisto.provider._provider_type
    if provider in PANELS:  # their participants are paid, wherever the page is served
        return name
    if cfg.mephisto.architect._architect_type == LOCAL:
        return f"{name}{LOCAL_SUFFIX}"
    if provider == MTURK_SANDBOX:
        return f"{name}{SANDBOX_SUFFIX}"
    return f"{name}{MOCK_SUFFIX}" if provider == MOCK else name


def suffix_of(name: str) -> str:
    """Return the suffix of a trial run's name, "" for a name without one."""
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")


def task_name_fault(name: str) -> str | None:
    """Say that a name, as given, could be that of another task's trial run; None if it can't."""
    suffix = suffix_of(name)
    if not suffix:
        return None
    short = name.removesuffix(suffix)
    return (
        f"mephisto.task.task_name: '{name}' ends in {suffix}, which is added to the names of trial runs: its data and those "
        f"of a task '{short}' could mix; give another, such as {short or 'my_study'}."
    )


def stack_owner_fault(flag: str, folder: Path, task_name: str) -> str | None:
    """Say that an image stack counts the conversations of a trial run, or of a paid one, and this run is another kind.

    Args:
        folder: of the stack; need not exist.
    """
    try:
        owner = (folder / OWNER_FILE).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):  # a new stack, or one of an older version
        return None
    if suffix_of(owner) == suffix_of(task_name):
        return None
    return (
        f"{flag}: '{folder}' counts what '{owner}' has collected, and '{task_name}' would count it as its own; give a "
        "folder for each."
    )


def note_stack_owner(folder: Path, task_name: str) -> None:
    """Remember for which task an image stack was made, unless that is known.

    Raises:
        OSError: it can't be written.
    """
    if not (folder / OWNER_FILE).exists():
        replace_file(folder / OWNER_FILE, f"{task_name}\n".encode(), durable=False)
