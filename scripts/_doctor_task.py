"""The checks of doctor.py that need what is installed: of the configuration, the folders, the panel and the models."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from model_chat.configuration.comparison import BOTH
from model_chat.configuration.files import expand
from model_chat.configuration.mephisto_data import DATABASE, data_folder_fault, find_data_folder
from model_chat.configuration.text_files import language_remarks
from model_chat.configuration.worker_texts import ENGLISH
from model_chat.crowd.money import to_minor
from model_chat.crowd.panel_launch import cost_sentences
from model_chat.crowd.panel_pay import PANELS, PanelPay
from model_chat.errors import ConfigurationError
from model_chat.launch.checks import check_task
from model_chat.records.mephisto_database import open_read_only
from model_chat.router.local_architect import fault_of_port
from model_chat.router.public_address import public_address_of
from model_chat.scripts._manage_study import places_left
from model_chat.scripts.doctor import Finding, fault, fine, warning
from model_chat.serving.backend import shared_sentence, sharing
from model_chat.serving.loading import load_model

LEAST_FREE_BYTES = 1_000_000_000


def check_task_configuration(cfg: DictConfig) -> tuple[Any | None, list[Finding]]:
    """Check the whole configuration as a launch does; return it, checked, or None, and what was found."""
    try:
        task = check_task(cfg)
    except ConfigurationError as error:
        return None, [fault("Configuration", text) for text in error.faults]
    counts = ", ".join(f"{nickname} {count}" for nickname, count in task.needed.items())
    if task.design is not None:
        design = task.design.design
        counts += f" ({len(design.cells)} cells of the design, {design.conversations_per_cell} each)"
    found = [fine("Configuration", f"in order; conversations to collect: {counts or 'by image'}")]
    if task.logs is not None:
        number, annotators = len(task.logs.conversations), task.logs.annotators
        found.append(fine("Finished conversations", f"{number}, each to be annotated by {annotators} workers"))
    if task.study_flow is not None:
        items = sum(1 for _ in task.study_flow.items())
        pages = ", ".join(page.id for page in task.study_flow.pages)
        found.append(fine("Study flow", f"{len(task.study_flow.pages)} pages ({pages}) with {items} items"))
    if task.texts.language != ENGLISH:
        found.append(fine("Language", f"{task.texts.language}, written {task.texts.direction}"))
    found += [warning("Language", remark) for remark in language_remarks(task.texts)]
    compared = cfg.mephisto.blueprint.comparison
    if compared is not None:
        points, ties = cfg.mephisto.blueprint.comparison_points, cfg.mephisto.blueprint.comparison_ties
        boxes = ", boxes for both replies" if cfg.mephisto.blueprint.comparison_boxes == BOTH else ""
        found.append(fine("Comparisons", f"{compared}, on {points} points, further answers: {ties}{boxes}"))
    return task, found


def check_port(cfg: DictConfig) -> Finding:
    """Check that the page's port is free."""
    if cfg.mephisto.architect._architect_type != "local":
        return fine("Port", f"none is needed here with mephisto/architect={cfg.mephisto.architect._architect_type}")
    port = str(cfg.mephisto.architect.port)
    text = None if port == "0" else fault_of_port(port)
    return fine("Port", "any free one" if port == "0" else f"{port} is free") if text is None else fault("Port", text)


def check_public_address(cfg: DictConfig) -> list[Finding]:
    """Say where workers will find the page behind a reverse proxy; nothing without one, or where its address is faulty."""
    architect = cfg.mephisto.architect
    if architect._architect_type != "local":
        return []
    try:
        address = public_address_of(architect)
    except ConfigurationError:
        return []  # a fault of the configuration
    if address is None:
        return []
    to = f"{architect.bind_address}:{architect.port}"
    return [fine("Public address", f"{address.url}, which the reverse proxy has to pass on to {to}")]


def check_disk(cfg: DictConfig) -> Finding:
    """Check that conversations have room."""
    given = cfg.mephisto.blueprint.get("chat_data_folder", None)  # None for "???", too
    if not given or not given.strip():
        return warning("Conversations", "no folder is given for them.")  # a fault of the configuration
    folder = expand(given)
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not os.access(place, os.W_OK):
        return fault(
            "Conversations", f"'{place}' can't be written to; give another mephisto.blueprint.chat_data_folder."
        )
    free = shutil.disk_usage(place).free
    text = f"{folder} has {free / 1e9:.1f} GB left"
    return fine("Conversations", text) if free >= LEAST_FREE_BYTES else warning("Conversations", f"{text}; make room.")


def check_mephisto_data(cfg: DictConfig) -> list[Finding]:
    """Check Mephisto's configuration, data folder and database, without making or changing any of them."""
    subject = "Mephisto's data folder"
    problem = data_folder_fault(cfg)
    if problem is not None:
        return [fault(subject, problem)]
    folder, source, _ = find_data_folder(cfg)
    if not folder.exists():
        return [fine(subject, f"{folder} ({source}) will be made by the first run")]
    return [fine(subject, f"{folder} ({source})"), *_check_database(folder / DATABASE)]


def _check_database(file: Path) -> Iterator[Finding]:
    subject = "Mephisto's database"
    if not file.exists():
        yield fine(subject, "will be made by the first run")
        return
    try:
        with open_read_only(file) as connection:
            said = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            runs = connection.execute("SELECT COUNT(*) FROM task_runs").fetchone()[0]
    except sqlite3.Error as error:
        yield fault(
            subject, f"{file} can't be read ({error}); restore it from a copy, or set another mephisto.datapath."
        )
        return
    if said == "ok":
        yield fine(subject, f"in order, {runs} task run{'' if runs == 1 else 's'}")
    else:
        yield fault(subject, f"{file} is damaged ({said}); restore it from a copy, or set another mephisto.datapath.")


def check_panel(cfg: DictConfig, task: Any) -> Iterator[Finding]:
    """Say what a study costs on its panel; Prolific is asked where the configuration has a token."""
    provider = cfg.mephisto.provider
    if provider._provider_type not in PANELS:
        return
    pay = PanelPay.of(provider._provider_type, provider)
    try:
        places = places_left(cfg, task.chat_data_folder, find_data_folder(cfg).path / DATABASE, task.task_name)
        sentences = cost_sentences(pay, to_minor(cfg.mephisto.task.task_reward, pay.currency), places)
    except ConfigurationError as error:
        yield from (fault("Panel", text) for text in error.faults)
        return
    for sentence in sentences:
        is_warning = sentence.startswith("! ")
        yield warning("Panel", sentence.removeprefix("! ")) if is_warning else fine("Panel", sentence)


def check_models(task: Any, model_parallel: bool, load: bool) -> Iterator[Finding]:
    """Check that the agents of all models can be imported and their files be read; with ``load``, load each and ask it."""
    models: list[Any] = []  # all are kept, as in a run, so that those of the same weights share them
    for nickname, source in task.sources.items():
        subject = f"Model {nickname}"
        if source.is_endpoint:
            yield _probe_model(subject, source, model_parallel)
            continue
        try:
            yield _try_model(subject, source, model_parallel, models) if load else _look_at_model(subject, source)
        except (Exception, SystemExit) as error:  # a model's own code may raise anything
            reason = " ".join(str(error).split())[:500] or "no reason given"
            yield fault(subject, f"{type(error).__name__}: {reason}")
    if models:
        for nicknames in sharing(models):
            yield fine("Weights", shared_sentence(nicknames).rstrip("."))


def _probe_model(subject: str, source: Any, model_parallel: bool) -> Finding:
    """Ask a model behind an endpoint for a first reply, which costs a few tokens."""
    start = time.monotonic()
    try:
        load_model(source, model_parallel).probe()
    except ConfigurationError as error:
        return fault(subject, " ".join(error.faults))
    return fine(subject, f"its endpoint answers, after {time.monotonic() - start:.1f} s")


def _look_at_model(subject: str, source: Any) -> Finding:
    from parlai.core.loader import load_agent_module
    from parlai.core.params import ParlaiParser

    if source.folder is None:
        opt = ParlaiParser(add_parlai_args=True, add_model_args=True).parse_args(shlex.split(source.flags))
        name, model_file = opt.get("model"), opt.get("model_file")
    else:
        opt = json.loads((source.folder / "model.opt").read_text(encoding="utf-8"))
        name, model_file = opt["model"], source.model_file
    agent = load_agent_module(name) if name else None
    if model_file and Path(model_file).is_file():
        size = Path(model_file).stat().st_size
        if size == 0:
            return fault(subject, f"{model_file} is empty; copy the model again.")
        with Path(model_file).open("rb") as stream:
            if stream.read(8) == b"version ":
                return fault(subject, f"{model_file} is a Git LFS pointer and no model; fetch the file itself.")
        return fine(subject, f"{_name(agent)}, {size / 1e6:,.0f} MB")
    return fine(subject, f"{_name(agent)}, no file 'model' (its agent finds its own); --load-models tries it out")


def _name(agent: Any) -> str:
    return "agent" if agent is None else agent.__name__


def _try_model(subject: str, source: Any, model_parallel: bool, models: list[Any]) -> Finding:
    """Load a model, add it to ``models``, and ask it."""
    from parlai.core.message import Message

    start = time.monotonic()
    model = load_model(source, model_parallel)
    models.append(model)
    loaded = time.monotonic()
    clone = model.clone()
    clone.observe(Message({"id": "Speaker 1", "text": "Hi!", "episode_done": False}))
    reply = " ".join(str(clone.act()["text"]).split())
    took = time.monotonic() - loaded
    return fine(subject, f"loaded in {loaded - start:.1f} s; answers 'Hi!' with '{reply:.80}' after {took:.1f} s")
