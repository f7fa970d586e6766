"""The dashboard's process, which a run starts as ``python -m model_chat.dashboard`` and talks to over pipes."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading

from model_chat import compat as compat  # the patches, before mephisto is imported
from model_chat.dashboard.access import Access, user_name
from model_chat.dashboard.link import RunLink, Start
from model_chat.dashboard.server import limit_resources, serve
from model_chat.dashboard.settings import PASSWORD_FLAG, read_passwords
from model_chat.dashboard.watch import Watched
from model_chat.mephisto_task import panel_providers as panel_providers  # registers them with Mephisto


def main() -> int:
    """Serve the dashboard of the run at the other end of the pipes, until it ends."""
    limit_resources()
    os.umask(0o077)  # as in the run
    logging.basicConfig(level=logging.WARNING, format="dashboard: %(message)s", stream=sys.stderr)
    from mephisto.utils.logger_core import set_mephisto_log_level

    set_mephisto_log_level(level="warning")
    from_run, to_run = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no message for the run
    start = Start.model_validate_json(from_run.readline())
    link = RunLink(to_run)
    access = Access(read_passwords(PASSWORD_FLAG, start.passwords), start.token, user_name())
    listening = socket.socket(fileno=start.socket)

    def begin(server: object) -> None:
        def end() -> None:
            server.should_exit = True  # type: ignore[attr-defined]  # uvicorn's

        threading.Thread(target=link.follow, args=(from_run, end), name="run", daemon=True).start()

    serve([Watched(start.study, link)], access, listening, begin)
    return 0


if __name__ == "__main__":
    sys.exit(main())
