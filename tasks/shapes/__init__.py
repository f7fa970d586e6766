"""A ParlAI task of drawn pictures: coloured shapes, with captions and short dialogues about them.

Named ``--task model_chat.tasks.shapes`` (or ``shapes``, once this package has been imported). Nothing is downloaded and
nothing is written: every picture is drawn from its number.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    # ParlAI looks its teachers up in the module that --task names; importing them costs ParlAI's own import, which who
    # only wants the pictures need not pay.
    if name.endswith("Teacher"):
        from model_chat.tasks.shapes import agents

        return getattr(agents, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
