"""The process that :mod:`model_chat.tests.preloaded` forks commands from: ``preloading.py DESCRIPTOR``.

It imports packages, none of model_chat, mephisto and parlai, whose patches and own imports run in each command. It has one
thread, and takes requests from the socket with the given number until that is closed. The process that is forked becomes
what ``python ARGS`` would be, and ends as that does.
"""

from __future__ import annotations

import atexit
import codecs
import contextlib
import fcntl
import gc
import importlib
import io
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import threading
import time
import types
import warnings
from collections.abc import Callable, Iterable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

PACKAGES = (
    "asyncio", "concurrent.futures.thread", "multiprocessing.connection", "sqlite3", "unittest.mock",
    "xml.etree.ElementTree", "antlr4", "boto3", "botocore.session", "cloudpickle", "dateutil", "dill", "httpx",
    "hydra", "hydra.core.global_hydra", "hydra._internal.hydra", "iopath", "numpy", "omegaconf", "orjson", "pandas",
    "PIL.Image", "prometheus_client", "psutil", "pyarrow", "pyarrow.parquet", "pydantic", "regex", "requests",
    "rich.console", "rich.logging", "rich.markdown", "rich.progress", "rich.table", "scipy.optimize",
    "scipy.sparse.csgraph", "scipy.special", "sh", "torch", "tornado.ioloop", "tornado.web", "tornado.websocket",
    "tqdm", "transformers.generation",
    "transformers.models.auto.modeling_auto", "transformers.models.auto.tokenization_auto",
    "transformers.models.llama.modeling_llama", "websockets.asyncio.client", "websockets.sync.client", "xmltodict", "yaml",
)  # fmt: skip
NEVER = ("model_chat", "mephisto", "parlai")
"""What is under test, and the packages that it patches when they are imported."""


class Forking:
    """Forks a command for each request, and says how each has ended."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ)
        self._running: dict[int, tuple[int, socket.socket]] = {}  # by the process's descriptor

    def wait(self) -> tuple[dict[str, Any], list[int]] | None:
        """Serve until nobody can ask any more (None); in a fork return what it is to become, and its descriptors."""
        while True:
            for key, _ in self._selector.select():
                if key.fd in self._running:
                    self._has_ended(key.fd)
                    continue
                message, descriptors, _, _ = socket.recv_fds(self._control, 1 << 20, 64)
                if not message:
                    return None
                pid = os.fork()
                if pid == 0:
                    os.close(descriptors[0])
                    self._close()
                    return json.loads(message), descriptors[1:]
                for descriptor in descriptors[1:]:
                    os.close(descriptor)
                self._has_started(pid, socket.socket(fileno=descriptors[0]))

    def _has_started(self, pid: int, ending: socket.socket) -> None:
        descriptor = os.pidfd_open(pid)
        self._running[descriptor] = pid, ending
        self._selector.register(descriptor, selectors.EVENT_READ)
        _say(ending, pid)

    def _has_ended(self, descriptor: int) -> None:
        pid, ending = self._running.pop(descriptor)
        self._selector.unregister(descriptor)
        os.close(descriptor)
        _say(ending, os.waitpid(pid, 0)[1])
        ending.close()

    def _close(self) -> None:
        """Close all that belongs to the parent process."""
        self._selector.close()
        self._control.close()
        for descriptor, (_, ending) in self._running.items():
            os.close(descriptor)
            ending.close()


def _say(ending: socket.socket, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # when nobody waits for it any more
        ending.send(str(number).encode())


def become(
    request: dict[str, Any], descriptors: list[int], filters: tuple[list[Any], list[Any]]
) -> Callable[[], object]:
    """Make this process what a start of Python would be; return the program."""
    if request["new_session"]:
        os.setsid()
    _place(descriptors, request["descriptors"])
    os.chdir(request["cwd"])
    os.umask(request["umask"])
    pythonpath = os.environ.get("PYTHONPATH", "")
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    _open_streams(unbuffered=bool(os.environ.get("PYTHONUNBUFFERED")))
    of_packages, of_python = filters
    sys.warnoptions[:] = filter(None, os.environ.get("PYTHONWARNINGS", "").split(","))
    warnings.filters[:] = of_python  # type: ignore[index]  # a list
    warnings._processoptions(sys.warnoptions)  # type: ignore[attr-defined]  # as warnings itself does at a start
    warnings.filters[:0] = of_packages  # type: ignore[index]  # as above
    warnings._filters_mutated()  # type: ignore[attr-defined]  # as above
    sys.modules["numpy"].random.seed()
    sys.path_importer_cache.clear()
    given = [Path(place).absolute().as_posix() for place in pythonpath.split(os.pathsep) if place]
    installed = [place for place in sys.path if place not in given]
    theirs = [str(Path(place).absolute()) for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
    if request["measured"]:
        _measure(request["measured"])
    args: list[str] = request["args"]
    sys.orig_argv[:] = args
    first = {"-m": str(Path.cwd()), "-c": ""}.get(args[1], str(Path(args[1]).resolve().parent))
    sys.path[:] = [first, *theirs, *installed]
    return _program(args)


def _measure(config: str) -> None:
    """Measure this process for coverage as the one that asked is measured; its data are saved at its end."""
    os.environ["COVERAGE_PROCESS_CONFIG"] = config
    importlib.import_module("coverage").process_startup()
    del os.environ["COVERAGE_PROCESS_CONFIG"]


def _place(descriptors: list[int], numbers: list[int]) -> None:
    """Give each descriptor the number that the command knows it by."""
    above = max(numbers) + 1
    moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, above) for descriptor in descriptors]
    for descriptor in descriptors:
        os.close(descriptor)
    for descriptor, number in zip(moved, numbers, strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)


def _open_streams(*, unbuffered: bool) -> None:
    """Open the standard streams as a start does."""
    given, _, errors = os.environ.get("PYTHONIOENCODING", "").partition(":")
    encoding = codecs.lookup(given).name if given else sys.stdin.encoding
    errors = errors or ("strict" if given else str(sys.stdin.errors))
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        raw = io.FileIO(number, "rb" if number == 0 else "wb", closefd=False)
        buffer: Any = io.BufferedReader(raw) if number == 0 else raw if unbuffered else io.BufferedWriter(raw)
        stream = io.TextIOWrapper(
            buffer,
            encoding=encoding,
            errors="backslashreplace" if number == 2 else errors,
            newline=None if number == 0 else "\n",
            line_buffering=not unbuffered and (number == 2 or raw.isatty()),
            write_through=unbuffered,
        )
        raw.name = f"<{name}>"
        stream.mode = "r" if number == 0 else "w"
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _program(args: list[str]) -> Callable[[], object]:
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = sys.modules["builtins"]
    if args[1] == "-m":
        sys.argv = ["-m", *args[3:]]
        return lambda: runpy._run_module_as_main(args[2])  # type: ignore[attr-defined]  # as Python itself does
    if args[1] == "-c":
        sys.argv = ["-c", *args[3:]]
        return lambda: exec(compile(args[2], "<string>", "exec", dont_inherit=True), main.__dict__)
    sys.argv = args[1:]
    file = os.path.abspath(args[1])  # noqa: PTH100  # as Python does it, links are left
    main.__file__ = file
    main.__loader__ = SourceFileLoader("__main__", file)
    main.__dict__["__cached__"] = None
    return lambda: exec(compile(Path(file).read_bytes(), file, "exec", dont_inherit=True), main.__dict__)


def finish(program: Callable[[], object]) -> None:
    """Run the program, and end as Python does; only what is in memory is left to the system, which takes it at once."""
    code = 0
    interrupted = False
    try:
        program()
    except SystemExit as exit_:
        code = _exit_code(exit_.code)
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        code = 1
        sys.excepthook(type(error), error, error.__traceback__ and error.__traceback__.tb_next)
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            if not stream.closed:
                stream.flush()
        except OSError:
            code = 120
    if interrupted:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code)


def _exit_code(given: object) -> int:
    if given is None or isinstance(given, int):
        return (given or 0) & 0xFF
    print(given, file=sys.stderr)
    return 1


def preload(names: Iterable[str]) -> tuple[list[Any], list[Any]]:
    """Import packages; return the filters of warnings that these have added, and Python's own."""
    del sys.path[0]  # this file's folder
    own = list(warnings.filters)
    for name in names:
        importlib.import_module(name)
    assert not {name.split(".")[0] for name in sys.modules} & {*NEVER}
    gc.collect()
    gc.freeze()  # so that collections in the commands do not copy these pages
    return [found for found in warnings.filters if found not in own], own


if __name__ == "__main__":
    known_filters = preload(PACKAGES)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also if a shell has started pytest in the background
    asked = Forking(socket.socket(fileno=int(sys.argv[1]))).wait()
    if asked is not None:
        finish(become(*asked, known_filters))
