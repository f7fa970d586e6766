"""Logging of the commands: one handler, on standard error, without control characters and without keys."""

from __future__ import annotations

import logging
import re

from rich.console import Console
from rich.logging import RichHandler

from model_chat.configuration.redaction import learn_secrets, redacted

PLAIN_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def without_controls(text: str) -> str:
    """Return a text with its control characters written out (``\\x1b``), so that it commands no terminal."""
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


class _HarmlessFormatter(logging.Formatter):
    """Writes control characters as what they are, so that no text of a worker or model commands a terminal, and no keys."""

    def format(self, record: logging.LogRecord) -> str:
        return without_controls(redacted(super().format(record)))


def _is_worth_reading(record: logging.LogRecord) -> bool:
    """Drop ParlAI's warning about a missing dictionary file: agents that have no dictionary are no mistake."""
    return not record.getMessage().startswith("WARNING: Neither the specified dict file")


def set_up_logging(level: str, console: Console) -> None:
    """Send all log lines through one handler: a coloured one on a terminal, plain lines elsewhere.

    Mephisto and ParlAI put handlers of their own on their loggers, so that each line comes twice; these are removed.

    Args:
        level: of the loggers of mephisto and parlai (debug, info, warning, error); ours log from info on at least.
    """
    learn_secrets()
    handler: logging.Handler
    if console.is_terminal:
        handler = RichHandler(console=console, show_path=False, rich_tracebacks=False)
        handler.setFormatter(_HarmlessFormatter("%(message)s", datefmt="%H:%M:%S"))
    else:
        handler = logging.StreamHandler(console.file)
        handler.setFormatter(_HarmlessFormatter(PLAIN_FORMAT))
    handler.addFilter(_is_worth_reading)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    theirs = logging.getLevelName(level.upper())
    if not isinstance(theirs, int):
        theirs = logging.WARNING
    root.setLevel(theirs)
    for name in list(logging.root.manager.loggerDict):
        if name.split(".")[0] in ("mephisto", "parlai"):
            logger = logging.getLogger(name)
            logger.handlers.clear()
            logger.propagate = True
            logger.setLevel(theirs)
    logging.getLogger("model_chat").setLevel(min(theirs, logging.INFO))
    logging.captureWarnings(True)


def adopt_parlai_logger() -> None:
    """Let ParlAI's own logger, which stands outside Python's tree of loggers and writes to stdout, log as the others do.

    To be called once ParlAI is about to be used; importing it takes seconds.
    """
    from parlai.utils.logging import logger as parlai_logger

    root = logging.getLogger()
    parlai_logger.handlers[:] = root.handlers
    parlai_logger.name = "parlai"
    parlai_logger.setLevel(root.level)
