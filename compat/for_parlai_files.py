"""Patches of parlai 1.7.2 for files of models, which are pickles: loading a pickle can run any code that is in it."""

from __future__ import annotations

import logging
import pickle
from types import ModuleType
from typing import Any

from model_chat.compat._hooks import FINDER

logger = logging.getLogger(__name__)


class _TorchThatLoadsWeights:
    """``torch`` whose ``load`` takes weights alone where the file allows it, whatever pickle module it is called with."""

    def __init__(self, torch: ModuleType) -> None:
        self._torch = torch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._torch, name)

    def load(self, f: Any, map_location: Any = None, pickle_module: Any = None, **options: Any) -> Any:
        """Load an open file; one that holds more than weights is loaded as it was, with a warning."""
        start = f.tell()
        try:
            return self._torch.load(f, map_location=map_location, weights_only=True, **options)
        except pickle.UnpicklingError as error:
            reason = str(error)
        f.seek(start)
        logger.warning(
            "The model file '%s' holds more than weights (%s): it is loaded as a pickle, which runs any code that is in it. "
            "Use it only if you trust whoever made it.",
            getattr(f, "name", f),
            self._contents(f, reason),
        )
        f.seek(start)
        return self._torch.load(
            f, map_location=map_location, pickle_module=pickle_module or pickle, weights_only=False, **options
        )

    def _contents(self, f: Any, reason: str) -> str:
        """Name what the file holds beside weights, as far as can be seen without loading it."""
        try:
            names = self._torch.serialization.get_unsafe_globals_in_checkpoint(f)
        except (RuntimeError, ValueError, pickle.UnpicklingError):  # a file of before torch 1.6
            names = []
        return ", ".join(sorted(names)[:5]) or " ".join(reason.split())[:200]


def _load_weights_alone(module: ModuleType) -> None:
    module.torch = _TorchThatLoadsWeights(module.torch)  # type: ignore[attr-defined]  # parlai does `import torch`


@FINDER.after("parlai.core.torch_agent")
def weights_alone_for_torch_agent(module: ModuleType) -> None:
    """Load the weights of ``model`` without running code from it where that is possible.

    Needed by parlai 1.7.2, which names a pickle module of its own and so switches off what torch >= 2.6 does by itself.
    Can go when ``TorchAgent.load`` says ``weights_only=True``.
    """
    _load_weights_alone(module)


@FINDER.after("parlai.agents.rag.rag")
def weights_alone_for_rag(module: ModuleType) -> None:
    """The same for ``RagAgent``, which has its own copy of that code."""
    _load_weights_alone(module)


class _NoPickle:
    """``pickle`` as ``parlai.core.opt`` knows it: it loads nothing."""

    @staticmethod
    def load(file: Any) -> Any:
        """Refuse.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"'{getattr(file, 'name', file)}' is a pickled opt of an old ParlAI, and loading it could run code; save it as "
            "JSON"
        )


@FINDER.after("parlai.core.opt")
def no_pickled_opts(module: ModuleType) -> None:
    """Refuse opt files that are pickles; ParlAI has written JSON since 2019.

    Needed by parlai 1.7.2. Can go when ``Opt.load`` no longer unpickles what isn't JSON.
    """
    module.pickle = _NoPickle()  # type: ignore[attr-defined]  # parlai.core.opt imports pickle for this alone
