"""Python commands that need not import the libraries again: forked from a process that has imported them once.

:class:`Popen` and :func:`run` are those of :mod:`subprocess`. ``[sys.executable, "run.py", …]``, ``[sys.executable, "-m",
…]`` and ``[sys.executable, "-c", …]`` are forked from :mod:`model_chat.tests.preloading`, one process for each process of
pytest, which has imported third-party packages and nothing of model_chat, mephisto or parlai. Everything else is started
as ever: other programs and options of Python, and another locale. Where pytest is measured for coverage, so are forked
commands that run this repository's files, and not a copy's.

What differs from a start: ``/proc/PID/cmdline`` and ``environ`` are those of the process that was forked, its parent
process is not pytest (``os.waitpid`` and ``ps --ppid``), and packages in ``sys.modules`` that the command has not asked
for. Tests of these, of imports and of warnings at an import use :mod:`subprocess`; each command has such a test.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
"""That of pytest, before a test changes it, with what run.py sets before it imports torch."""
READ_AT_START = (
    "COVERAGE", "CUDA", "HF_", "HUGGINGFACE", "KMP", "LANG", "LC_", "LD_", "MALLOC", "MKL", "NUMEXPR", "OMP", "OPENBLAS",
    "PYTHON", "TORCH_", "TRANSFORMERS", "TZ",
)  # fmt: skip
"""How variables begin that an interpreter or a library reads when it starts."""
SET_AGAIN = ("PYTHONPATH", "PYTHONWARNINGS", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "PYTHONIOENCODING")
"""Those of them that a forked process can still follow."""
SET_BY_IMPORTS = ("TORCHINDUCTOR_CACHE_DIR", "KMP_INIT_AT_FORK", "KMP_DUPLICATE_LIB_OK")
"""Those that a library sets when a test's module imports it; a command's own import sets them again."""


def run(
    args: Sequence[str | os.PathLike[str]],
    *,
    input: Any = None,
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    **popen: Any,
) -> subprocess.CompletedProcess[Any]:
    """Run a command as :func:`subprocess.run` does."""
    if capture_output:
        popen |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    if input is not None:
        popen["stdin"] = subprocess.PIPE
    with Popen(args, **popen) as process:
        try:
            out, err = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(process.args, process.returncode, out, err)
    if check:
        done.check_returncode()
    return done


class Popen(subprocess.Popen[Any]):
    """A started command, with all that :class:`subprocess.Popen` has."""

    _ending: socket.socket | None = None  # its exit status comes here; None: a start as ever

    def _execute_child(  # type: ignore[override, misc]  # typeshed leaves it out
        self,
        args: Any,
        executable: Any,
        preexec_fn: Any,
        close_fds: bool,
        pass_fds: Sequence[int],
        cwd: Any,
        env: Any,
        startupinfo: Any,
        creationflags: Any,
        shell: bool,
        *rest: Any,
    ) -> None:
        (p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite), others = rest[:6], rest[6:]
        restore_signals, gid, gids, uid, umask, start_new_session, process_group = others
        environment = dict(os.environ if env is None else env)
        plain = (preexec_fn, executable, gid, gids, uid) == (None,) * 5 and (umask, process_group) == (-1, -1)
        if plain and close_fds and restore_signals and not shell and _can_be_forked(args, cwd, environment):
            streams = [number if number >= 0 else own for own, number in enumerate((p2cread, c2pwrite, errwrite))]
            request = {
                "args": [os.fspath(arg) for arg in args],
                "cwd": os.fspath(cwd or Path.cwd()),
                "environment": environment,
                "umask": _umask(),
                "measured": _measured(environment),
                "new_session": start_new_session,
                "descriptors": [0, 1, 2, *pass_fds],
            }
            self._ending, self.pid = _parent().fork(request, [*streams, *pass_fds])
            self._child_created = True
            self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)  # type: ignore[attr-defined]  # as above
            return
        super()._execute_child(  # type: ignore[misc]  # as above
            args, executable, preexec_fn, close_fds, pass_fds, cwd, env, startupinfo, creationflags, shell, *rest
        )

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        if self._ending is None:
            return super()._try_wait(wait_flags)  # type: ignore[misc, no-any-return]  # as above
        if wait_flags & os.WNOHANG and not select.select([self._ending], [], [], 0)[0]:
            return 0, 0
        status = self._ending.recv(16)
        self._ending.close()
        if not status:
            raise RuntimeError("the process that commands are forked from has ended")
        return self.pid, int(status)

    def _internal_poll(self, *args: Any, **kwargs: Any) -> int | None:
        if self._ending is None:
            return super()._internal_poll(*args, **kwargs)  # type: ignore[misc, no-any-return]  # as above
        if self.returncode is None and self._waitpid_lock.acquire(False):  # type: ignore[attr-defined]  # as above
            try:
                if self.returncode is None:
                    pid, status = self._try_wait(os.WNOHANG)
                    if pid:
                        self._handle_exitstatus(status)  # type: ignore[attr-defined]  # as above
            finally:
                self._waitpid_lock.release()  # type: ignore[attr-defined]  # as above
        return self.returncode


def _can_be_forked(args: Any, cwd: Any, environment: dict[str, str]) -> bool:
    """Whether it is one of this Python's commands, in an environment that a fork can be given."""
    if not hasattr(os, "pidfd_open") or isinstance(args, (str, bytes, os.PathLike)) or len(args) < 2:
        return False
    words = [os.fspath(arg) for arg in args]
    folder = Path(cwd or ".")
    with_default = {"OMP_WAIT_POLICY": "PASSIVE", **environment}
    kind = words[1] in ("-m", "-c") or (words[1][0] != "-" and (folder / words[1]).is_file())
    return (
        words[0] == sys.executable
        and kind
        and folder.is_dir()
        and all(with_default.get(name) == ENVIRONMENT.get(name) for name in _read_at_start(environment))
        and not any(name.startswith("COVERAGE_PROCESS") for name in environment)
    )


def _read_at_start(environment: dict[str, str]) -> set[str]:
    names = environment.keys() | ENVIRONMENT.keys()
    return {name for name in names if name.startswith(READ_AT_START) and name not in (*SET_AGAIN, *SET_BY_IMPORTS)}


def _measured(environment: dict[str, str]) -> str | None:
    """How this process is measured for coverage, unless the command imports another model_chat."""
    current = sys.modules["coverage"].Coverage.current() if "coverage" in sys.modules else None
    if current is None or environment.get("PYTHONPATH") != ENVIRONMENT.get("PYTHONPATH"):
        return None
    return str(current.config.serialize())


def _umask() -> int:
    """This process's, which can't be asked for without being set."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("Umask:")).split()[1], 8)


class _Parent:
    """The process that commands are forked from. It ends with this one, when its socket is closed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # one request at a time, so that each gets its own answer
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, Path(__file__).with_name("preloading.py"), str(theirs.fileno())],
                cwd="/",
                env={name: value for name, value in ENVIRONMENT.items() if name not in SET_AGAIN[1:]},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for pytest
            )
        atexit.register(self._end)

    def fork(self, request: dict[str, Any], descriptors: Sequence[int]) -> tuple[socket.socket, int]:
        """Start a command; return the socket on which its exit status will come, and its process's number."""
        ending, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, self._lock:
            socket.send_fds(self._control, [json.dumps(request).encode()], [theirs.fileno(), *descriptors])
        pid = ending.recv(16)
        if not pid:
            raise RuntimeError("the process that commands are forked from has ended")
        return ending, int(pid)

    def _end(self) -> None:
        self._control.close()
        self._process.wait(60)


_parents: list[_Parent] = []
_starting = threading.Lock()


def _parent() -> _Parent:
    """This process's, started at the first command."""
    with _starting:
        if not _parents:
            _parents.append(_Parent())
        return _parents[0]
