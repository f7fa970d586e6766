"""One copy of a model, as Ray Serve runs it on a machine of the cluster, and the checks of that machine before.

Nothing here needs Ray to be imported: a replica is a plain class that Serve makes in a process of its own.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import shlex
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from model_chat.errors import ConfigurationError
from model_chat.serving.batching import Asked, keeps_to_recipe
from model_chat.serving.catalogue import OPT_FILE, ModelSource
from model_chat.serving.histories import Agents, Failure, Turn, portable
from model_chat.serving.loading import LoadedModel, load_model
from model_chat.serving.opt_export import exportable_opt

KEPT_CONVERSATIONS = 256
PATIENCE_WITH_HANGING = 1.5
"""A run that takes so many times the time limit of a reply hangs: its replica is given up."""
MARK = "model-chat-faults:"
KEEPER_MISSED = 3


@dataclass(frozen=True)
class ReplicaPlan:
    """How to make a replica.

    Attributes:
        source: where the model comes from; the same path on every machine.
        time_limit: seconds that a reply may take.
        at_once: how many replies a model that takes no batches may be asked for at once.
        search_path: folders that Python searches where the run was started (a requester's own agents are there).
        keeper: an actor that lives as long as the run, and its namespace; None where Ray itself ends with the run, and
            nobody outside this machine needs to reach the replica.
    """

    source: ModelSource
    model_parallel: bool
    flag: str
    time_limit: float
    at_once: int
    search_path: tuple[str, ...] = ()
    application: str = ""
    keeper: tuple[str, str] | None = None


@dataclass(frozen=True)
class Description:
    """What the run knows of a model: everything but the model.

    Attributes:
        opt: the agent's opt, JSON types only, without secrets.
        model_file: ParlAI's `model_file`, or None.
        takes_batches: whether several conversations may be answered at once.
    """

    opt: dict[str, Any]
    model_file: str | None
    takes_batches: bool


class ModelReplica:
    """A loaded model that answers turns, each with its whole history.

    ``_lock`` guards the set of active runs; ``_model_lock`` is held by the one that works on a batched model.

    Raises:
        RuntimeError: the model can't be loaded; the message holds what :func:`faults_in` finds.
    """

    def __init__(self, plan: ReplicaPlan) -> None:
        extend_search_path(plan.search_path)
        self._plan = plan
        try:
            self._model = load_model(plan.source, plan.model_parallel, plan.flag)
        except ConfigurationError as error:
            raise RuntimeError(with_faults(error.faults)) from error
        self._agents = Agents(self._model.clone, KEPT_CONVERSATIONS)
        self._model_lock = threading.Lock() if self._model.takes_batches else nullcontext()
        self._threads = ThreadPoolExecutor(plan.at_once + 1, thread_name_prefix="model-reply")
        self._lock = threading.Lock()
        self._runs: dict[int, float] = {}
        self._missed = 0

    async def describe(self) -> Description:
        """Return what the run knows of the model."""
        model = self._model
        return Description(exportable_opt(model.opt), model.model_file, model.takes_batches)

    async def answer(self, turns: Sequence[Turn]) -> list[dict[str, Any] | Failure]:
        """Reply to a turn of each of several conversations; never raises what a model raises."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._answer, turns)

    async def examine(self, examination: Callable[..., None], subjects: Sequence[Any]) -> None:
        """Call ``examination(model, *subjects)``.

        Raises:
            RuntimeError: the examination found faults; the message holds what :func:`faults_in` finds.
        """

        def work() -> None:
            try:
                with self._at_work():
                    self._model.examine(examination, *subjects)
            except ConfigurationError as error:
                raise RuntimeError(with_faults(error.faults)) from error

        await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def check_health(self) -> None:
        """Called by Serve every few seconds; a replica that raises is replaced.

        Raises:
            RuntimeError: the model hangs.
        """
        with self._lock:
            oldest = min(self._runs.values(), default=None)
        if oldest is not None and time.monotonic() - oldest > PATIENCE_WITH_HANGING * self._plan.time_limit:
            raise RuntimeError(f"{self._plan.source.nickname} hangs: a reply takes longer than it may.")
        if self._plan.keeper is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._leave_with_the_run, *self._plan.keeper)

    def _leave_with_the_run(self, keeper: str, namespace: str) -> None:
        """Delete the application when the run that made it has died without doing so (``kill -9``, a lost machine)."""
        import ray

        try:
            ray.get_actor(keeper, namespace=namespace)
            self._missed = 0
        except ValueError:
            self._missed += 1
        if self._missed >= KEEPER_MISSED:
            from ray import serve

            serve.delete(self._plan.application, _blocking=False)

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        with self._model_lock:
            with self._lock:
                self._runs[threading.get_ident()] = time.monotonic()
            try:
                yield
            finally:
                with self._lock:
                    del self._runs[threading.get_ident()]

    def _answer(self, turns: Sequence[Turn]) -> list[dict[str, Any] | Failure]:
        with self._at_work():
            return answer_turns(self._model, self._agents, turns)


def answer_turns(model: LoadedModel, agents: Agents, turns: Sequence[Turn]) -> list[dict[str, Any] | Failure]:
    """Reply to a turn of each of several conversations, together where the model takes batches.

    Args:
        agents: keeps the conversations' agents; made with the model's ``clone``.
        turns: at least one; each conversation at most once.

    Returns:
        for each, in order, the act, or why there is none.
    """
    from parlai.core.message import Message

    outcomes: list[dict[str, Any] | Failure | None] = [None] * len(turns)
    asked: dict[int, Asked] = {}
    for at, turn in enumerate(turns):
        try:
            asked[at] = Asked(agents.take(turn), [Message(message) for message in turn.heard])
        except BaseException as error:  # whatever an agent raises belongs to its own conversation
            outcomes[at] = _failure(error)
    together = [list(asked)] if model.takes_batches else [[at] for at in asked]
    for group in filter(None, together):
        for at, outcome in zip(group, model.answer([asked[at] for at in group]), strict=True):
            if isinstance(outcome, BaseException):
                outcomes[at] = _failure(outcome)
            else:
                outcomes[at] = portable(outcome) if isinstance(outcome, Mapping) else {}
                agents.keep(turns[at], asked[at].clone)
    return [outcome for outcome in outcomes if outcome is not None]


def _failure(error: BaseException) -> Failure:
    return Failure(repr(error), "".join(traceback.format_exception(error)))


def with_faults(faults: Sequence[str]) -> str:
    """Return sentences in a form that :func:`faults_in` finds again in whatever Ray makes of them."""
    return f"{MARK}{json.dumps(list(faults)).encode().hex()};"


def faults_in(text: str) -> tuple[str, ...]:
    """Return the sentences that :func:`with_faults` has put somewhere into a text; none, if it is another error's."""
    found = re.search(f"{MARK}([0-9a-f]+);", text)
    return tuple(json.loads(bytes.fromhex(found[1]))) if found else ()


def extend_search_path(folders: Sequence[str]) -> None:
    """Let Python find modules in further folders, after all others; those that are not on this machine are left out."""
    for folder in folders:
        if folder not in sys.path and Path(folder).is_dir():
            sys.path.append(folder)


@dataclass(frozen=True)
class ModelRequirement:
    """A model that a machine is to have.

    Attributes:
        files: the names of the files in its folder -> bytes, where the run was started; None for one without a folder.
    """

    source: ModelSource
    files: dict[str, int] | None

    @classmethod
    def of(cls, source: ModelSource) -> ModelRequirement:
        """What a model's source is on this machine."""
        return cls(source, None if source.folder is None else files_in(source.folder))


def files_in(folder: Path) -> dict[str, int]:
    """Return the files directly in a folder and their bytes, empty where there is no such folder."""
    try:
        return {file.name: file.stat().st_size for file in folder.iterdir() if file.is_file()}
    except OSError:
        return {}


@dataclass(frozen=True)
class NodeReport:
    """What a machine of the cluster has.

    Attributes:
        takes_batches: nickname -> whether the model may be asked for several replies at once, as far as its class tells;
            empty if agents were not to be imported.
    """

    faults: tuple[str, ...]
    takes_batches: dict[str, bool]


def inspect_node(
    wanted: Sequence[ModelRequirement], search_path: Sequence[str], flag: str, must_import: bool
) -> NodeReport:
    """Say what this machine lacks that models need: their files, and the modules of their agents.

    Args:
        must_import: whether to import the agents, which takes seconds, or only to see that their modules can be found.
    """
    extend_search_path(search_path)
    here = socket.gethostname()
    faults: list[str] = []
    batches: dict[str, bool] = {}
    for each in wanted:
        source = each.source
        if source.folder is not None and (fault := _fault_of_folder(source.folder, each.files or {})):
            faults.append(
                f"{flag}: the model '{source.nickname}' {fault} on the machine {here} of the Ray cluster; "
                "every machine needs the same files at the same path (docs/ray.md)."
            )
            continue
        try:
            name = _agent_name(source)
            if must_import:
                batches[source.nickname] = keeps_to_recipe(_agent_class(name))
            else:
                _find_agent(name)
        except Exception as error:  # an agent's module may raise anything when it is imported
            faults.append(
                f"{flag}: the agent of the model '{source.nickname}' can't be imported on the machine {here} of the Ray "
                f"cluster ({type(error).__name__}: {' '.join(str(error).split())[:300]}); every machine needs the same "
                "packages (docs/ray.md)."
            )
    return NodeReport(tuple(faults), batches)


def _fault_of_folder(folder: Path, files: Mapping[str, int]) -> str | None:
    found = files_in(folder)
    if OPT_FILE not in found:
        return f"is not there ({folder})"
    for name, size in files.items():
        if name not in found:
            return f"lacks the file '{name}' ({folder})"
        if found[name] != size:
            return f"has another file '{name}' ({folder}: {found[name]} bytes instead of {size})"
    return None


def _agent_name(source: ModelSource) -> str:
    """Return what ParlAI calls a model's agent.

    Raises:
        Exception: it can't be found out.
    """
    flags = shlex.split(source.flags or "")
    named = {name: value for name, value in pairwise(flags) if name.startswith("-")}
    name = named.get("--model") or named.get("-m")
    opt_file = None if source.folder is None else source.folder / OPT_FILE
    if opt_file is None and name is None and (model_file := named.get("--model-file") or named.get("-mf")):
        opt_file = Path(f"{model_file}.opt").expanduser()
    if opt_file is not None:
        name = json.loads(opt_file.read_text(encoding="utf-8"))["model"]
    if name is None:
        raise ConfigurationError(f"the flags {source.flags!r} name no agent")
    return str(name)


def _agent_class(name: str) -> type[Any]:
    from parlai.core.loader import load_agent_module

    kind: type[Any] = load_agent_module(name)
    return kind


def _find_agent(name: str) -> None:
    """Look for an agent's module.

    Raises:
        ModuleNotFoundError: it isn't here.
    """
    module = name.partition(":")[0] if ":" in name else "parlai"  # names without a class are ParlAI's own
    if importlib.util.find_spec(module) is None:
        raise ModuleNotFoundError(f"No module named '{module}'")


def own_search_path() -> tuple[str, ...]:
    """The folders that Python searches here beside its own: where the run was started, and ``PYTHONPATH``."""
    prefixes = {Path(prefix).resolve() for prefix in (sys.prefix, sys.base_prefix, sys.exec_prefix)}
    folders = [Path(entry or ".").resolve() for entry in sys.path]
    return tuple(
        dict.fromkeys(
            str(folder)
            for folder in folders
            if folder.is_dir() and not any(p in (folder, *folder.parents) for p in prefixes)
        )
    )
