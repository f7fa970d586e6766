"""A study read from its files, with a model that always gives the same reply."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from model_chat.configuration.files import expand
from model_chat.configuration.lists import join_list
from model_chat.configuration.places import ROOT, work_dir
from model_chat.configuration.study_design import load_study_design
from model_chat.errors import ConfigurationError, collecting
from model_chat.launch.checks import check_task
from model_chat.launch.command_line import compose_config
from model_chat.launch.task_run import prepare
from model_chat.model_chat_blueprint import FRONTEND_DIST, ModelChatSharedState

NICKNAME, SECOND = "preview", "preview_second"
AGENT = "model_chat.preview.fixed_reply:FixedReplyAgent"  # by name, so that torch is imported when a model is loaded
MANY = 999_999
"""Conversations wanted: as many as somebody looks at."""
CLOSE_SECONDS = 10.0
"""That a conversation has to end, once its page has started over and its model is closed."""
SECOND_REPLY = "Another reply:"
"""What the second model says before the fixed reply, where replies are compared."""
B = "mephisto.blueprint"
FILES = (
    "annotations_config_path",
    "task_description_file",
    "left_pane_text_path",
    "onboard_task_data_path",
    "attention_checks_path",
    "study_flow_path",
    "model_opt_path",
    "world_file",
    "design_path",
    "texts_path",
    "logs_path",
    "image_context_path",
)
"""Flags under ``mephisto.blueprint`` that name the files of a study."""


class Study:
    """A study whose files have been read, with the fixed-reply model in place of its own.

    Args:
        overrides: of the command line, ``conf=…`` among them.
        onboarding: show onboarding even where no qualification remembers who passed it.
        folder: fresh; for the model and what a check wants to write.
        model: nickname of the study's own model to talk to, which must be behind an endpoint; None: the fixed reply.

    Raises:
        ConfigurationError: one sentence for each fault of flags and files.
    """

    def __init__(
        self,
        overrides: Sequence[str],
        reply: str,
        onboarding: bool,
        folder: Path,
        console: Console,
        model: str | None = None,
    ) -> None:
        for nickname, text in ((NICKNAME, reply), (SECOND, f"{SECOND_REPLY} {reply}")):
            fixed = folder / "models" / nickname
            fixed.mkdir(parents=True, exist_ok=True)
            opt = {"model": AGENT, "fixed_response": text, "dict_lower": False, "image_mode": "raw"}
            (fixed / "model.opt").write_text(json.dumps(opt), encoding="utf-8")
        cfg = compose_config("example", overrides)
        design_path = cfg.mephisto.blueprint.get("design_path")
        for key, value in _changes(cfg.mephisto.blueprint, folder, model).items():
            OmegaConf.update(cfg, key, value)
        if onboarding and not cfg.mephisto.blueprint.onboarding_qualification:
            cfg.mephisto.blueprint.onboarding_qualification = "preview"
        self.cfg: DictConfig = cfg
        self.shared: ModelChatSharedState
        with ExitStack() as closing:
            faults: list[str] = []
            with collecting(faults):
                if design_path:
                    load_study_design(f"{B}.design_path", design_path)
            with collecting(faults):
                task = check_task(cfg)
            ConfigurationError.raise_if(faults)
            if model is not None and not task.sources[model].is_endpoint:
                raise ConfigurationError(
                    f"--model: '{model}' is not behind an endpoint; the preview loads no weights. Talk to it with run.py."
                )
            self.shared, quota = prepare(cfg, task, console, folder, {}, closing, stopped=lambda: False)
            self._quota = quota
            self._closing = closing.pop_all()

    def close(self, chats: Iterable[threading.Thread] = ()) -> None:
        """End the model, wait for the conversations, which give their places back, and close the quota."""
        self._closing.close()
        for chat in chats:
            chat.join(CLOSE_SECONDS)
        self._quota.close()

    @property
    def has_onboarding(self) -> bool:
        """Whether workers see an onboarding first."""
        return self.shared.onboarding_world_opt is not None


def _changes(args: DictConfig, folder: Path, model: str | None) -> dict[str, Any]:
    """Return the flags that differ from those of a run: models, how much is wanted, and places to write to.

    Raises:
        ConfigurationError: there is no model to talk to.
    """
    changes: dict[str, Any] = {
        f"{B}.chat_data_folder": str(folder / "conversations"),
        f"{B}.serving": "local",
        f"{B}.max_model_spend_usd": None,
        "mephisto.architect.port": "0",
        f"{B}.metrics_port": None,
        f"{B}.metrics_host": "127.0.0.1",
        "mephisto.provider._provider_type": "mock",  # nothing here costs anything, whatever the study will
    }
    if "logs_path" in args:
        if model is not None:
            raise ConfigurationError(f"--model: '{model}' can't be talked to where conversations are annotated.")
        (folder / "conversations").mkdir(exist_ok=True)
        # Each page is a new worker, who begins with any of the conversations.
        return changes | {f"{B}.annotators_per_conversation": MANY, f"{B}.conversations_per_worker": 0}
    changes[f"{B}.design_path"] = ""  # its faults are said; the chat shown has no condition
    if model is None:
        changes |= {f"{B}.base_model_folder": str(folder / "models"), f"{B}.model_opt_path": None}
    talked_to = model or NICKNAME
    if args.comparison is not None:
        talked_to = f"{talked_to}|{model or SECOND}"
        changes[f"{B}.comparison_allow_self"] = True
    if "image_context_path" not in args:
        return changes | {f"{B}.conversations_needed_string": join_list([f"{talked_to}:{MANY}"])}
    return changes | {
        f"{B}.image_models": join_list([talked_to]),
        f"{B}.num_conversations": MANY,
        f"{B}.evals_per_image_model_combo": MANY,  # each page is a new worker, who is shown the first image
        f"{B}.stack_folder": tempfile.mkdtemp(prefix="stack", dir=folder),  # that of the study before is still in use
        f"{B}.stack_on_model_change": "stop",
    }


def watched_files(cfg: DictConfig | None) -> list[Path]:
    """Return the files whose change makes the page start over: those of ``conf/``, and those that flags name."""
    named: list[Path] = []
    if cfg is not None:
        named = [expand(path) for path in (cfg.mephisto.blueprint.get(flag) for flag in FILES) if path]
    own = sorted({*(ROOT / "conf").glob("*.yaml"), *(work_dir() / "conf").glob("*.yaml")})
    return [*own, *named, FRONTEND_DIST / "index.html"]


def state_of(files: Sequence[Path]) -> tuple[Any, ...]:
    """Return what changes when one of the files does."""
    found = []
    for file in files:
        try:
            stat = file.stat()
            found.append((str(file), stat.st_mtime_ns, stat.st_size))
        except OSError:
            found.append((str(file), 0, -1))
    return tuple(found)
