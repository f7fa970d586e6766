"""Patches for parlai 1.7.2."""

from __future__ import annotations

import importlib.resources
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from model_chat.compat._hooks import FINDER


@FINDER.around("parlai.core.opt")
@contextmanager
def pkg_resources_for_opt() -> Iterator[None]:
    """Give ``parlai.core.opt`` the two functions of ``pkg_resources`` that it uses.

    Needed by parlai 1.7.2 with setuptools >= 81, which no longer ships ``pkg_resources``.
    Can go when ``parlai/core/opt.py`` no longer imports it. The stand-in leaves ``sys.modules`` again as soon as
    ``parlai.core.opt`` holds its reference, so that nothing else takes it for the real one.
    """
    if "pkg_resources" in sys.modules or importlib.util.find_spec("pkg_resources") is not None:
        yield
        return
    stand_in = ModuleType("pkg_resources")

    def resource_filename(package: str, name: str) -> str:
        return str(importlib.resources.files(package).joinpath(name))

    def resource_exists(package: str, name: str) -> bool:
        resource = importlib.resources.files(package).joinpath(name)
        return resource.is_file() or resource.is_dir()

    stand_in.resource_filename = resource_filename  # type: ignore[attr-defined]  # building a module by hand
    stand_in.resource_exists = resource_exists  # type: ignore[attr-defined]  # building a module by hand
    sys.modules["pkg_resources"] = stand_in
    try:
        yield
    finally:
        del sys.modules["pkg_resources"]


class _NumpyWithInt:
    """numpy as ``parlai.core.dict`` knows it: with the alias ``int`` that numpy 1.24 removed."""

    int = int

    def __init__(self, numpy: ModuleType) -> None:
        self._numpy = numpy

    def __getattr__(self, name: str) -> Any:
        return getattr(self._numpy, name)


@FINDER.after("parlai.core.dict")
def numpy_int_for_dict(module: ModuleType) -> None:
    """Restore ``np.int`` for ``DictionaryAgent.txt2vec(…, vec_type=np.ndarray)``, in that module alone.

    Needed by parlai 1.7.2 with numpy >= 1.24. Can go when ``parlai/core/dict.py`` no longer says ``np.int``.
    """
    module.np = _NumpyWithInt(module.np)  # type: ignore[attr-defined]  # parlai.core.dict imports numpy as np


@FINDER.after("parlai.nn.lr_scheduler")
def plateau_scheduler_without_verbose(module: ModuleType) -> None:
    """Drop the argument ``verbose`` where ParlAI makes torch's ``ReduceLROnPlateau`` (training only).

    Needed by parlai 1.7.2 with torch >= 2.7. Can go when ``parlai/nn/lr_scheduler.py`` no longer passes ``verbose``.
    """
    module.optim = _OptimWithQuietPlateau(module.optim)  # type: ignore[attr-defined]  # it does `from torch import optim`


class _OptimWithQuietPlateau:
    """``torch.optim`` whose ``lr_scheduler.ReduceLROnPlateau`` ignores ``verbose``."""

    def __init__(self, optim: ModuleType) -> None:
        self._optim = optim
        self.lr_scheduler = _SchedulersWithQuietPlateau(optim.lr_scheduler)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._optim, name)


class _SchedulersWithQuietPlateau:
    def __init__(self, lr_scheduler: ModuleType) -> None:
        self._lr_scheduler = lr_scheduler

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lr_scheduler, name)

    def ReduceLROnPlateau(self, *args: Any, verbose: bool = False, **kwargs: Any) -> Any:  # noqa: N802  # torch's name
        """Make the scheduler without the argument that torch no longer knows."""
        return self._lr_scheduler.ReduceLROnPlateau(*args, **kwargs)


DATA_FOLDER = "~/ParlAI/data"
"""Where the original's users have ParlAI's data: its README says ``base_model_folder=~/ParlAI/data/models``."""


@FINDER.after("parlai.core.params")
def data_in_the_users_folder(module: ModuleType) -> None:
    """Let ParlAI download data and models into the user's folder instead of among the installed packages.

    Needed by parlai 1.7.2, whose default is a folder ``data`` beside its own: gone with the environment, and in an
    environment of the system's not to be written to. Can go when ParlAI's default is in the user's folder.
    ``PARLAI_DATAPATH`` and ``--datapath`` go before, as ever.
    """
    os.environ.setdefault("PARLAI_DATAPATH", os.path.expanduser(DATA_FOLDER))  # noqa: PTH111  # Path's raises for no home
