"""Our own router (``router/server.js``) in place of Mephisto's, with any architect."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from model_chat.configuration.redaction import learn_secrets
from model_chat.router.router_process import operator_path

ROUTER_SOURCE = Path(__file__).resolve().parent
"""Our router (``server.js``)."""
SETTINGS_NAME = "router.json"
"""A file beside the router with its key and settings (``router/settings.js``), for servers whose environment isn't ours."""


class OwnRouter:
    """What an architect of Mephisto gets mixed in to serve our router: the key, and the run script's address.

    A router of the requester's own (``server_source_path``), or Mephisto's for Flask, is left as it is.
    """

    server_type: str
    server_source_path: str | None

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._key = secrets.token_urlsafe(32)

    @property
    def has_own_router(self) -> bool:
        """Whether it is ours that is served."""
        return self.server_type == "node" and not self.server_source_path

    def _get_socket_urls(self) -> list[str]:
        """Where the run script connects: at our router an address that nobody can guess."""
        urls: list[str] = super()._get_socket_urls()  # type: ignore[misc]  # of the architect that this is mixed into
        if not self.has_own_router:
            return urls
        path = operator_path(self._key)
        learn_secrets({"secret": [self._key, path.rpartition("/")[2]]})  # Mephisto's socket logs where it connects to
        return [url + path for url in urls]

    def download_file(self, target_filename: str, save_dir: str) -> None:
        """Refuse: pages upload no files, and the name of one comes from outside.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"A page named a file to be fetched ({target_filename!r:.80}), which none has uploaded.")


@contextmanager
def router_source(folder: str | None = None, settings: dict[str, Any] | None = None) -> Iterator[Path]:
    """Copy a router without its packages, so that Mephisto can build from it; the copy goes afterwards.

    Args:
        folder: of a router of the requester's own; None: ours.
        settings: written beside it as :data:`SETTINGS_NAME`, for the account alone.
    """
    with tempfile.TemporaryDirectory(prefix="model_chat_router_") as parent:
        source = Path(parent) / "server"
        shutil.copytree(folder or ROUTER_SOURCE, source, ignore=shutil.ignore_patterns("node_modules"))
        (source / "static").mkdir(exist_ok=True)
        if settings is not None:
            descriptor = os.open(source / SETTINGS_NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                json.dump(settings, file)
        yield source
