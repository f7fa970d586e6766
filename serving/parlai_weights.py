"""One set of weights for several of ParlAI's own generators, whose options differ in how they decode or remember alone."""

from __future__ import annotations

import copy
import sys
import threading
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from model_chat.serving.batching import keeps_to_recipe

DECODING = (
    *("inference", "beam_size", "beam_min_length", "beam_block_ngram", "beam_context_block_ngram"),
    *("beam_block_full_context", "beam_length_penalty", "beam_delay", "temperature", "topk", "topp"),
    *("lambda_decay", "omega_bound", "p_reset"),
)
"""Options of ``TorchGeneratorAgent`` that it reads for each batch, and that do not change the weights."""
HISTORY = ("history_size", "history_reversed", "split_lines", "use_reply")
"""Options that each conversation's clone reads when it observes."""
_NOT_OF_THE_MODEL = frozenset({*DECODING, *HISTORY, "model_file", "dict_file", "override", "starttime"})


class LoadedGenerators:
    """The generators in use in this process; ``_lock`` is held while one is loaded, so that no two threads load the same."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: WeakValueDictionary[Hashable, Any] = WeakValueDictionary()

    def get(self, opt: Mapping[str, Any], load: Callable[[], Any]) -> Any:
        """Return an agent with an opt, which shares the weights of one in use where it can.

        Raises:
            BaseException: whatever ``load``, or the agent, raises.
        """
        with self._lock:
            found = _resolved(opt)
            if found is None:
                return load()
            kind, resolved = found
            identity = _identity(kind, resolved)
            other = self._known.get(identity)
            if other is None:
                agent = load()
            else:
                own = copy.deepcopy(resolved)
                agent = kind(own, {**other.share(), "opt": own})  # a TorchAgent takes its opt from there
            self._known[identity] = agent
            return agent


LOADED = LoadedGenerators()


def weights_of(agent: Any) -> Hashable:
    """Return what several agents have in common that share weights; None where that is not known."""
    if hasattr(agent, "shared_weights"):
        weights: Hashable = agent.shared_weights
        return weights
    return agent.model if _is_generator(type(agent)) else None


def decoding_of(agent: Any) -> Hashable:
    """Return what agents that share weights must have in common to be answered in one batch.

    ParlAI's generators decode a whole batch with the options of one of them. Agents that say ``shared_weights`` have
    settings for each row.
    """
    if hasattr(agent, "shared_weights") or not _is_generator(type(agent)):
        return None
    return tuple(repr(agent.opt.get(name)) for name in DECODING)


def _is_generator(kind: type[Any]) -> bool:
    module = sys.modules.get("parlai.core.torch_generator_agent")
    return module is not None and issubclass(kind, module.TorchGeneratorAgent) and keeps_to_recipe(kind)


def _resolved(opt: Mapping[str, Any]) -> tuple[type[Any], Any] | None:
    """Return the agent's class and its whole opt, as ParlAI's ``create_agent_from_opt_file`` works them out.

    None for what has no weights beside an opt file, or is none of ParlAI's own kinds of generators.
    """
    from parlai.core.agents import NOCOPY_ARGS
    from parlai.core.build_data import modelzoo_path
    from parlai.core.loader import load_agent_module
    from parlai.core.opt import Opt

    if not opt.get("model_file"):
        return None
    model_file = modelzoo_path(opt.get("datapath"), opt["model_file"])
    if not (Path(model_file).is_file() and Path(f"{model_file}.opt").is_file()):
        return None
    resolved = Opt.load(f"{model_file}.opt")
    for name in NOCOPY_ARGS:
        resolved.pop(name, None)
    resolved.update(opt.get("override") or {})
    kind: type[Any] = load_agent_module(resolved["model"])
    if not _is_generator(kind):
        return None
    resolved = kind.upgrade_opt(resolved)
    for name, value in opt.items():
        resolved.setdefault(name, value)
    resolved["model_file"] = model_file
    if not (resolved.get("dict_file") and Path(resolved["dict_file"]).exists()):
        resolved["dict_file"] = f"{model_file}.dict"
    return kind, resolved


def _identity(kind: type[Any], resolved: Mapping[str, Any]) -> Hashable:
    """What two opts have in common if the same weights, with the same dictionary, serve both."""
    files = tuple(_file_identity(Path(resolved[name])) for name in ("model_file", "dict_file"))
    options = tuple(sorted((name, repr(value)) for name, value in resolved.items() if name not in _NOT_OF_THE_MODEL))
    return (kind, files, options)


def _file_identity(file: Path) -> Hashable:
    if not file.is_file():
        return None
    stat = file.stat()
    return (str(file.resolve()), stat.st_size, stat.st_mtime_ns)
