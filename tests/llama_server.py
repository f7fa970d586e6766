"""A real OpenAI-compatible server for tests: llama.cpp's own, from the wheel `xllamacpp`, with the demo model."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from model_chat.scripts.make_demo_models import GGUF_FILE
from model_chat.tests.ports import own_port

ROOT = Path(__file__).resolve().parents[1]
GGUF = ROOT / "models/demo/smollm2" / GGUF_FILE
START_SECONDS = 120.0


@contextmanager
def llama_server(log: Path, gguf: Path = GGUF) -> Iterator[str]:
    """Run the server in a process of its own, with one thread, which is fastest beside other work.

    Args:
        log: gets what it prints.
        gguf: the model.

    Yields:
        the address for ``base_url``.
    """
    port = own_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, __file__, str(gguf), str(port)],
            stdin=subprocess.PIPE,  # the server ends with this process
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _await(process, port, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


def _await(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        if process.poll() is not None or time.monotonic() > end:
            raise AssertionError(f"llama.cpp's server is not up:\n{log.read_text(errors='replace')}")
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)


def serve(gguf: str, port: int) -> None:
    """Serve until the standard input ends."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = gguf
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = port
    parameters.n_parallel = 4
    parameters.n_ctx = 4096
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
