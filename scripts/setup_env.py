"""Set up everything that model-chat needs in this folder: run by `make`, with the standard library alone.

    python3 scripts/setup_env.py [--dev] [--only python|page|router] [--torch auto|cpu|gpu]

Makes `.venv` from requirements.lock, the worker's page (frontend/dist) and the router's packages (router/node_modules);
with --dev also what the tests need, Chromium included. What is up to date already is left as it is.

Of an installed wheel (`python -m model_chat.scripts.setup_env`), whose page is built, the locked packages go into the
environment that it is installed in.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOCK = ROOT / "requirements.lock"
RUN_GROUPS = ("run",)
DEV_GROUPS = ("run", "dev", "scale", "ray", "exports")
OLDEST_PYTHON, NEWEST_PYTHON, OLDEST_NODE = (3, 11), (3, 13), 20
TORCH_BUILDS, TORCH_VARIABLE = ("auto", "cpu", "gpu"), "MODEL_CHAT_TORCH"
NVIDIA_DEVICES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg")  # the last: Windows' subsystem for Linux
LARGE_DOWNLOAD = re.compile(r"\s*Downloading (\S+) \((\d{2,}\.\d MB|\d+\.\d GB)\)")
IS_WHEEL = not (ROOT / "pyproject.toml").is_file()
COMPILE_ON_ALL_CORES = """
import compileall, re, sysconfig
folder = sysconfig.get_path("purelib")
seldom = re.compile("[/\\\\\\\\](tests|transformers.models|ray.rllib)[/\\\\\\\\]")
try:
    compileall.compile_dir(folder, rx=seldom, quiet=2, workers=0)
except (OSError, ImportError, NotImplementedError):  # no semaphores here, as without /dev/shm
    compileall.compile_dir(folder, rx=seldom, quiet=2)
"""
"""pip compiles on one core. What is written for other Pythons doesn't compile, and nobody imports it.

A third is left to Python's first import: packages' own tests, and the 500 models of transformers, of which few are used.
"""
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class SetupError(RuntimeError):
    """Something is missing that the user has to install; the message is one sentence for them."""


def say(text: str) -> None:
    """Tell what is being done."""
    print(f"[setup] {text}", file=sys.stderr, flush=True)


def program_environment() -> dict[str, str]:
    """Return the environment of pip and npm: this one's, without notes on versions and on old ways to build."""
    quiet = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_USE_PEP517": "1", "NPM_CONFIG_UPDATE_NOTIFIER": "false"}
    return {**os.environ, **quiet}


def run(*command: str | Path, cwd: Path = ROOT) -> None:
    """Run a command and let its output through.

    Raises:
        SetupError: it failed.
    """
    words = [str(word) for word in command]
    if subprocess.run(words, cwd=cwd, env=program_environment(), check=False).returncode != 0:
        raise SetupError(f"'{' '.join(words)}' failed in {cwd}; see its message above.")


def run_pip_install(python: str | Path, *words: str | Path) -> None:
    """Run ``pip install``; of its output, tell the large downloads and how many packages are installed.

    Raises:
        SetupError: it failed.
    """
    command = [str(word) for word in (python, "-m", "pip", "install", "--no-compile", "--progress-bar=off", *words)]
    with subprocess.Popen(
        command, cwd=ROOT, env=program_environment(), stdout=subprocess.PIPE, text=True, errors="replace"
    ) as process:
        for line in process.stdout or ():
            download = LARGE_DOWNLOAD.match(line)
            if download:
                say(f"downloading {'-'.join(download[1].rpartition('/')[2].split('-')[:2])} ({download[2]})")
            elif line.startswith("Installing collected packages:"):
                say(f"installing {line.count(',') + 1} packages")
    if process.returncode != 0:
        raise SetupError(f"'{' '.join(command)}' failed in {ROOT}; see its message above.")


def digest(paths: Iterable[Path]) -> str:
    """Return a digest of the files' names and contents."""
    total = hashlib.sha256()
    for path in sorted(paths):
        total.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()


def is_done(stamp: Path, state: str) -> bool:
    """Whether a step was finished with the same inputs."""
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == state


def read_lock(lock: Path = LOCK) -> dict[str, list[str]]:
    """Return the lock's groups, each a list of ``name==version``."""
    groups: dict[str, list[str]] = {}
    current: list[str] | None = None
    for number, raw in enumerate(lock.read_text(encoding="utf-8").splitlines(), 1):
        heading = re.fullmatch(r"# --- group: ([a-z-]+) ---", raw.strip())
        line = raw.split("#")[0].strip()
        if heading:
            current = groups.setdefault(heading[1], [])
        elif line:
            if current is None or "==" not in line:
                raise SetupError(f"{lock.name}, line {number}: '{raw}' is not 'name==version' below a group heading.")
            current.append(line)
    return groups


def name_of_python() -> str:
    """Return the version of Python that runs this, such as 3.12."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def check_tools(node_is_needed: bool = True) -> None:
    """Check the versions of Python and, unless only Python is set up, Node.

    Raises:
        SetupError: one is missing or too old.
    """
    if sys.version_info < OLDEST_PYTHON:
        raise SetupError(
            f"Python {name_of_python()} is too old; install Python 3.11, 3.12 or 3.13, and call "
            "'make PYTHON=/path/to/python …'."
        )
    if sys.version_info[:2] > NEWEST_PYTHON:
        say(
            f"Python {name_of_python()} is newer than what this is tested with (3.11 to 3.13); not all packages may have it"
        )
    if not node_is_needed:
        return
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        raise SetupError(f"Node.js (with npm) is missing; install version {OLDEST_NODE} or newer.")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.lstrip("v").split(".")[0]) < OLDEST_NODE:
        raise SetupError(f"Node.js {version} is too old; install version {OLDEST_NODE} or newer.")


def has_gpu() -> bool:
    """Whether this machine shows a device of NVIDIA's."""
    return any(map(os.path.exists, NVIDIA_DEVICES))


def installed_version(python: str | Path, package: str) -> str | None:
    """Return the version of a package in the environment of a Python; None: it is not installed."""
    ask = f"import importlib.metadata as m; print(m.version({package!r}))"
    asked = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=False)
    return asked.stdout.strip() if asked.returncode == 0 else None


def is_offered(python: str | Path, requirement: str) -> bool:
    """Whether pip, as it is configured, finds a package."""
    command = [python, "-m", "pip", "install", "--dry-run", "--quiet", "--no-deps", "--ignore-installed", requirement]
    return subprocess.run(command, env=program_environment(), capture_output=True, check=False).returncode == 0


def choose_torch(python: str | Path, pin: str, build: str) -> str:
    """Return what pip is asked for: torch's locked version in the build that is wanted.

    Args:
        pin: ``torch==`` and a version without a build.
        build: one of `TORCH_BUILDS`. ``auto`` keeps what is installed. Else it is the CPU build where there is no GPU and
            the package index has that build; the CUDA build brings some gigabytes of NVIDIA's packages.

    Raises:
        SetupError: the CPU build is asked for by name, and the index does not have it.
    """
    version = pin.partition("==")[2]
    installed = installed_version(python, "torch")
    if sys.platform == "darwin" or (
        installed is not None
        and installed.split("+")[0] == version
        and (build == "auto" or (build == "cpu") == installed.endswith("+cpu"))
    ):
        return pin
    if build == "gpu":
        return f"{pin},!={version}+cpu"
    if build == "auto" and has_gpu():
        return pin
    if is_offered(python, f"{pin}+cpu"):
        return f"{pin}+cpu"
    if build == "cpu":
        raise SetupError(
            f"The package index has no CPU build of torch {version}; name one that has it by PIP_EXTRA_INDEX_URL, or leave "
            f"out --torch and {TORCH_VARIABLE}."
        )
    say("there is no GPU, but the package index has no CPU build of torch; its default build may be several GB large")
    return pin


def install(python: str | Path, wanted: list[str], locked: dict[str, list[str]], torch_build: str = "auto") -> None:
    """Install locked packages into the environment of a Python; the build of torch is one of `TORCH_BUILDS`."""
    torch = next(pin for pin in wanted if pin.startswith("torch=="))
    with tempfile.TemporaryDirectory() as folder:
        pins, rest = Path(folder) / "constraints.txt", Path(folder) / "rest.txt"
        pins.write_text("\n".join(pin for group in locked.values() for pin in group), encoding="utf-8")
        rest.write_text("\n".join(pin for pin in wanted if pin != torch), encoding="utf-8")
        # torch's dependencies differ between its CPU and GPU builds, so pip finds them; the others are all in the lock.
        run_pip_install(python, choose_torch(python, torch, torch_build), "--constraint", pins)
        run_pip_install(python, "--no-deps", "--requirement", rest)
    say("compiling the packages")
    try:
        run(python, "-W", "ignore", "-c", COMPILE_ON_ALL_CORES)
    except SetupError:  # Python compiles what it imports
        say("the packages could not be compiled beforehand; the first start takes longer")


def install_beside_wheel(groups: tuple[str, ...], torch_build: str) -> None:
    """Install the lock's groups where this wheel is installed.

    Raises:
        SetupError: that is no virtual environment, whose other packages might break.
    """
    if sys.prefix == sys.base_prefix:
        raise SetupError(
            f"{sys.executable} is no virtual environment; make one with 'python3 -m venv', and install there."
        )
    locked = read_lock()
    say("installing the locked packages (some minutes the first time)")
    install(sys.executable, [pin for group in groups for pin in locked[group]], locked, torch_build)


def make_venv(groups: tuple[str, ...], torch_build: str) -> None:
    """Make `.venv` and install the lock's groups and this package into it."""
    locked = read_lock()

    def state_of(names: tuple[str, ...], build: str) -> str:
        pins = [pin for name in names for pin in locked[name]]
        return json.dumps([sys.version, pins, "linked", *([] if build == "auto" else [build])])

    wanted = [pin for group in groups for pin in locked[group]]
    state = state_of(groups, torch_build)
    stamp = VENV / ".setup"
    # What runs the tests runs the task, too; and who names no build keeps the one that was named before.
    enough = itertools.product((groups, DEV_GROUPS), TORCH_BUILDS if torch_build == "auto" else (torch_build,))
    if any(is_done(stamp, state_of(*combination)) for combination in enough):
        return
    if not PYTHON.exists():
        say("making .venv")
        run(sys.executable, "-m", "venv", VENV)
    stamp.unlink(missing_ok=True)
    say("installing the locked packages (some minutes the first time)")
    install(PYTHON, wanted, locked, torch_build)
    link_package()
    stamp.write_text(state, encoding="utf-8")


def link_package() -> None:
    """Let `.venv` find this folder as the package model_chat: a link by that name, in a folder that Python searches.

    Every tool follows that. An editable installation by pip (up to version 0.1 of this script) has an import hook instead,
    which is asked last: a folder `model_chat` in any other place that Python searches would come before it.
    """
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.run([PYTHON, "-c", ask], capture_output=True, text=True, check=True).stdout.strip())
    if any(site.glob("__editable__*model_chat*")):
        run(PYTHON, "-m", "pip", "uninstall", "--quiet", "--yes", "model-chat")
    link = VENV / "package" / "model_chat"
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(os.path.relpath(ROOT, link.parent), target_is_directory=True)
    (site / "model_chat.pth").write_text(f"{os.path.relpath(link.parent, site)}\n", encoding="utf-8")


def make_router() -> None:
    """Install the router's packages."""
    folder = ROOT / "router"
    stamp = folder / "node_modules" / ".setup"
    state = digest([folder / "package.json", folder / "package-lock.json"])
    if is_done(stamp, state):
        return
    say("installing the router's packages")
    run("npm", "ci", "--omit=dev", "--no-audit", "--no-fund", "--loglevel=error", cwd=folder)
    stamp.write_text(state, encoding="utf-8")


def make_page() -> None:
    """Install the front end's packages and build the worker's page."""
    folder = ROOT / "frontend"
    packages = folder / "node_modules" / ".setup"
    state = digest([folder / "package.json", folder / "package-lock.json"])
    if not is_done(packages, state):
        say("installing the page's packages")
        run("npm", "ci", "--no-audit", "--no-fund", "--loglevel=error", cwd=folder)
        packages.write_text(state, encoding="utf-8")
    sources = [path for name in ("src", "public") for path in (folder / name).rglob("*") if path.is_file()]
    sources += [path for path in folder.glob("*") if path.is_file() and path.suffix in (".html", ".json", ".ts", ".js")]
    built = folder / "node_modules" / ".built"
    state = digest(sources)
    if is_done(built, state) and (folder / "dist" / "index.html").is_file():
        return
    say("building the page")
    run("npm", "run", "--silent", "build", cwd=folder)
    built.write_text(state, encoding="utf-8")


def find_chromium() -> str | None:
    """Return Chromium's path: ``$CHROMIUM``, or the first of its usual names on the PATH."""
    named = os.environ.get("CHROMIUM")
    return named or next((path for path in map(shutil.which, CHROMIUM_NAMES) if path), None)


def make_chromium() -> None:
    """Install Debian's Chromium when run as root.

    Raises:
        SetupError: there is none and it can't be installed from here.
    """
    if find_chromium() is not None:
        return
    remedy = "install Chromium (Debian: apt-get install chromium) or set CHROMIUM to its path"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SetupError(f"The tests need Chromium, and there is none on the PATH; {remedy}.")
    say("installing Chromium")
    run("apt-get", "update", "-qq")
    run("apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium", "fonts-noto-color-emoji")
    if find_chromium() is None:
        raise SetupError(f"Chromium was installed but can't be found; {remedy}.")


def all_of(*parts: Callable[[], None]) -> list[SetupError]:
    """Do what doesn't wait for each other at the same time; return what failed, once all have ended."""
    with ThreadPoolExecutor(len(parts)) as pool:
        ended = [pool.submit(part) for part in parts]
    failures = [part.exception() for part in ended]
    for failure in failures:
        if failure is not None and not isinstance(failure, SetupError):
            raise failure
    return [failure for failure in failures if isinstance(failure, SetupError)]


def main() -> int:
    """Run the command; return its exit code."""
    for stream in (sys.stdout, sys.stderr):  # as in compat/terminal.py, which may not be there yet
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a stream of Python's own
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--dev", action="store_true", help="also install what tests and linters need")
    parser.add_argument("--only", choices=["python", "page", "router"], help="one of the three parts and no other")
    parser.add_argument(
        "--torch",
        metavar="|".join(TORCH_BUILDS),
        default=os.environ.get(TORCH_VARIABLE) or "auto",
        help="torch's build; auto: the CPU build if there is no GPU and the index has it; "
        f"default: ${TORCH_VARIABLE}, or auto",
    )
    args = parser.parse_args()
    if args.torch not in TORCH_BUILDS:
        parser.error(f"--torch, or {TORCH_VARIABLE}: '{args.torch}' is none of {', '.join(TORCH_BUILDS)}")
    try:
        check_tools(node_is_needed=args.only != "python")
    except SetupError as error:
        print(f"✗ {error}", file=sys.stderr)
        return 1

    def for_python() -> None:
        if args.only in (None, "python"):
            (install_beside_wheel if IS_WHEEL else make_venv)(DEV_GROUPS if args.dev else RUN_GROUPS, args.torch)

    def for_the_page() -> None:
        if args.only in (None, "router"):
            make_router()
        if args.only in (None, "page") and not IS_WHEEL:
            make_page()
        if args.dev and args.only is None:
            make_chromium()

    failures = all_of(for_python, for_the_page)  # pip's work and npm's wait for the network by turns
    for failure in failures:
        print(f"✗ {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
