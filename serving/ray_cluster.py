"""Connects to a Ray cluster: the run's own on this machine, or an existing one."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from model_chat.errors import ConfigurationError
from model_chat.serving.ray_options import BLUEPRINT

logger = logging.getLogger(__name__)

FLAG = f"{BLUEPRINT}.ray_address"
NAMESPACE = "model-chat"
OBJECT_STORE_BYTES = 128 << 20
"""Of the run's own Ray; requests and replies go through it only when they hold images."""
TCP_SECONDS, PROBE_SECONDS, CLOSE_SECONDS = 10, 60, 40
_PROBE = "import sys, ray; ray.init(address=sys.argv[1], configure_logging=False, log_to_driver=False)"
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_enable_metrics_collection": "0",
    "GRPC_VERBOSITY": "ERROR",
}
_OWN = {
    # The name is that of other systems, where this is Ray's default: all addresses are the loopback's.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # Seconds that Ray's processes look for each other before they end, when the run was killed.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "5",
}
_FOLDER = "mc-ray-"


class RayCluster:
    """A connection to Ray, and how to leave without a trace.

    Args:
        address: see :class:`~model_chat.serving.ray_options.RayOptions`; None and no ``$RAY_ADDRESS``: one of our own.
        cpus: how many processors one of our own has to offer at least; they are only counted, not reserved.

    Attributes:
        keeper: name and namespace of an actor that lives as long as this process; None with a cluster of our own.

    Raises:
        ConfigurationError: no cluster can be reached there.
    """

    def __init__(self, address: str | None, cpus: float) -> None:
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        address = address or os.environ.get("RAY_ADDRESS") or None
        self.is_own = address is None
        self.keeper: tuple[str, str] | None = None
        self._folder: Path | None = None
        self._keeper_actor: Any = None
        self._started_serve = False
        self._is_connected_here = True
        with _signals_kept():
            if address is None:
                self._start(cpus)
            else:
                self._connect(address)
            try:
                self._start_serve()
            except BaseException:
                self.close()
                raise

    def _start(self, cpus: float) -> None:
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # other accounts of this machine can reach its loopback
        with _environment(_OWN):
            import ray

            self._folder = _fresh_folder()
            try:
                ray.init(
                    address="local",
                    num_cpus=max(os.cpu_count() or 1, int(cpus + 1)),
                    include_dashboard=False,
                    configure_logging=False,
                    log_to_driver=False,
                    object_store_memory=OBJECT_STORE_BYTES,
                    namespace=NAMESPACE,
                    _temp_dir=str(self._folder),
                )
            except Exception as error:  # Ray raises unrelated types, those of its subprocesses among them
                self.close()
                raise ConfigurationError(
                    f"{BLUEPRINT}.serving: Ray can't be started on this machine ({_one_line(error)}); see docs/ray.md."
                ) from error

    def _connect(self, address: str) -> None:
        found = address if address != "auto" else _running_here()
        host, _, port = found.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=TCP_SECONDS).close()
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"{FLAG}: there is no Ray cluster at {found} ({error}); start one with 'ray start --head', or leave the "
                "flag out for one of the run's own."
            ) from None
        import ray

        if ray.is_initialized() and ray.get_runtime_context().gcs_address == found:
            self._is_connected_here = False  # somebody else in this process uses it, too
        else:
            self._join(found)
        name = f"keeper-{uuid.uuid4().hex}"
        self._keeper_actor = (
            ray.remote(num_cpus=0, max_restarts=-1)(Keeper).options(name=name, namespace=NAMESPACE).remote()
        )
        self.keeper = (name, NAMESPACE)

    def _join(self, found: str) -> None:
        # Ray waits for minutes for a cluster that does not answer: a child asks first.
        try:
            probe = subprocess.run(
                [sys.executable, "-c", _PROBE, found],
                capture_output=True,
                text=True,
                timeout=PROBE_SECONDS,
                check=False,
            )
            reason = None if probe.returncode == 0 else _last_line(probe.stderr)
        except subprocess.TimeoutExpired:
            reason = f"no answer within {PROBE_SECONDS} s"
        if reason is not None:
            raise ConfigurationError(
                f"{FLAG}: the Ray cluster at {found} can't be joined ({reason}); check the address, that this machine is "
                "one of the cluster's, and that Ray and Python have the same versions there."
            )
        import ray

        ray.init(address=found, configure_logging=False, log_to_driver=False, namespace=NAMESPACE)

    def _start_serve(self) -> None:
        import ray
        from ray import serve

        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        self._started_serve = not any(
            actor["namespace"] == "serve" for actor in ray.util.list_named_actors(all_namespaces=True)
        )
        if self._started_serve:  # no HTTP: the run is the only one that asks
            serve.start(proxy_location="Disabled", logging_config={"log_level": "WARNING"})

    def close(self, applications: tuple[str, ...] = ()) -> None:
        """End what the run has started and nothing else; waits for a while, and not for ever.

        Args:
            applications: Serve's names of what the run has put there.
        """
        thread = threading.Thread(target=self._close, args=(applications,), name="leave-ray", daemon=True)
        with contextlib.redirect_stdout(io.StringIO()):  # where Ray announces as errors that what is ended has ended
            thread.start()
            thread.join(CLOSE_SECONDS)
        if thread.is_alive():
            logger.warning("Ray did not end within %d s; it is left to itself.", CLOSE_SECONDS)

    def _close(self, applications: tuple[str, ...]) -> None:
        import ray
        from ray import serve

        if ray.is_initialized():
            try:
                if not self.is_own:  # all of one of our own goes at once
                    for application in applications:
                        serve.delete(application)
                    if self._started_serve and not serve.status().applications:
                        serve.shutdown()
            except Exception as error:  # a cluster that is gone has ended what ran there
                logger.warning("What ran on Ray could not be ended in order: %s", _one_line(error))
            if self._keeper_actor is not None:
                ray.kill(self._keeper_actor)
            if self._is_connected_here:
                ray.shutdown()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


class Keeper:
    """An actor without a task: it lives as long as the run that made it, whatever becomes of that run."""


def _fresh_folder() -> Path:
    """Return a folder for Ray's sockets and logs, this account's alone; what killed runs have left is removed."""
    place = tempfile.gettempdir()
    if len(place) > 24:  # paths of Unix sockets have 107 characters at most, and Ray's own names take most of them
        place = "/tmp"
    for old in Path(place).glob(f"{_FOLDER}*"):
        owner = old.name.removeprefix(_FOLDER).partition("-")[0]
        if owner.isdecimal() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{_FOLDER}{os.getpid()}-", dir=place))


def _running_here() -> str:
    """Return the address of the cluster that this machine belongs to.

    Raises:
        ConfigurationError: there is none.
    """
    file = Path(os.environ.get("RAY_TMPDIR") or "/tmp", "ray", "ray_current_cluster")
    try:
        return os.environ.get("RAY_ADDRESS") or file.read_text(encoding="utf-8").strip()
    except OSError:
        raise ConfigurationError(
            f"{FLAG}: is auto, and no Ray runs on this machine; start it with 'ray start --head' (or 'ray start "
            "--address=…' on a further machine of a cluster), or leave the flag out for one of the run's own."
        ) from None


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:400].rstrip('.')}"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:400].rstrip(".") if lines else "no reason given"


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Keep the run's handlers of Ctrl-C and SIGTERM: Ray puts its own in the place of the second."""
    if threading.current_thread() is not threading.main_thread():
        yield  # nobody can set handlers there
        return
    handlers = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
