"""Long imports without garbage collections."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from model_chat.compat._hooks import FINDER


@FINDER.around("model_chat.launch.task_run", "parlai.core.agents", "torch")
@contextmanager
def without_collections() -> Iterator[None]:
    """Import a module, and leave what there is then out of later collections.

    Imports leave next to no garbage, and each collection looks through what was imported before: 0.3 s of a launch in all.
    """
    if not gc.isenabled():  # the caller's choice, or an import around this one
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
