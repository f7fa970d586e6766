"""The socket that the dashboard listens on, bound before anything is launched: a port that is taken is said in time."""

from __future__ import annotations

import socket

from model_chat.errors import ConfigurationError


def bind(flag: str, host: str, port: int) -> socket.socket:
    """Return a socket that listens; requests wait in it until they are served.

    Args:
        port: 0: any free one.

    Raises:
        ConfigurationError: the port can't be used.
    """
    found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(128)
    except OSError as error:
        found.close()
        raise ConfigurationError(f"{flag}: {port} can't be used ({error.strerror}); give another.") from None
    return found


def address_of(listening: socket.socket) -> str:
    """Return the address of the page, with the slash at its end."""
    host, port = listening.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
