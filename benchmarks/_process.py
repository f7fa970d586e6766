"""What processes use, read from /proc, and an endpoint that a benchmark serves from a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def status_of(pid: int | str = "self") -> dict[str, int]:
    """Return the numbers of /proc/<pid>/status by their names; memory (VmRSS, VmHWM, RssAnon) in kB."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    fields = (line.split(":", 1) for line in lines if ":" in line)
    return {name: int(words[0]) for name, text in fields if (words := text.split()) and words[0].isdecimal()}


def processor_seconds(pid: int) -> float:
    """Return the time of the processor that a process has used, without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def served_endpoint(script: str, *arguments: str) -> Iterator[str]:
    """Run ``script --serve``, and yield the line that it prints; it ends with its standard input."""
    command = [sys.executable, script, "--serve", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        if server.stdout is None or server.stdin is None:
            raise RuntimeError("the endpoint has no pipes")
        try:
            yield server.stdout.readline().strip()
        finally:
            server.stdin.close()
