from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

from model_chat.configuration.places import ROOT
from model_chat.scripts import doctor, setup_env
from model_chat.scripts.setup_env import SetupError, digest, find_chromium, is_done, read_lock


def test_the_lock_has_both_groups_and_pins_every_package_once() -> None:
    groups = read_lock()
    assert groups.keys() == {"run", "dev", "scale", "ray", "exports"}
    names = [pin.split("==")[0] for pins in groups.values() for pin in pins]
    assert len(names) == len(set(names))
    assert {"mephisto", "parlai", "torch", "hydra-core"} <= {pin.split("==")[0] for pin in groups["run"]}
    assert {"pytest", "ruff", "mypy"} <= {pin.split("==")[0] for pin in groups["dev"]}


def test_every_locked_package_is_installed_in_the_locked_version() -> None:
    from importlib.metadata import version

    groups = read_lock()
    wrong = {
        pin: installed
        for pin in [pin for pins in groups.values() for pin in pins]
        for name, wanted in [pin.split("==")]
        if (installed := version(name).split("+")[0]) != wanted  # "+cpu" is torch's build, not its version
    }
    assert wrong == {}


@pytest.mark.parametrize("text", ["numpy==1.0\n", "# --- group: run ---\nnumpy>=1.0\n"])
def test_a_lock_that_pins_nothing_or_has_no_group_is_refused_with_its_line(tmp_path: Path, text: str) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text(text, encoding="utf-8")
    with pytest.raises(SetupError, match=r"requirements\.lock, line [12]"):
        read_lock(lock)


def test_a_step_is_done_only_for_the_same_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup_env, "ROOT", tmp_path)
    source, stamp = tmp_path / "source.txt", tmp_path / ".stamp"
    source.write_text("one", encoding="utf-8")
    before = digest([source])
    assert not is_done(stamp, before)
    stamp.write_text(before, encoding="utf-8")
    assert is_done(stamp, digest([source]))
    source.write_text("two", encoding="utf-8")
    assert not is_done(stamp, digest([source]))


def test_without_node_the_set_up_says_what_to_install(tmp_path: Path) -> None:
    script = Path(setup_env.__file__)
    outcome = subprocess.run(
        [sys.executable, str(script)], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert outcome.returncode == 1
    assert outcome.stderr == "✗ Node.js (with npm) is missing; install version 20 or newer.\n"


def test_an_old_node_is_named(tmp_path: Path) -> None:
    for name in ("node", "npm"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\necho v18.1.0\n", encoding="utf-8")
        program.chmod(0o755)
    outcome = subprocess.run(
        [sys.executable, str(Path(setup_env.__file__))],
        env={"PATH": f"{tmp_path}:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 1
    assert outcome.stderr == "✗ Node.js v18.1.0 is too old; install version 20 or newer.\n"


def test_chromium_can_be_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMIUM", "/somewhere/chrome")
    assert find_chromium() == "/somewhere/chrome"


def test_the_doctor_asks_for_what_the_set_up_asks_for() -> None:
    # Each begins with the standard library alone, wherever it is called from: neither can import the other.
    names = ("OLDEST_PYTHON", "NEWEST_PYTHON", "OLDEST_NODE")
    assert [getattr(doctor, name) for name in names] == [getattr(setup_env, name) for name in names]


def test_a_wheel_is_set_up_in_the_environment_that_it_is_installed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    for name in ("run", "run_pip_install"):
        monkeypatch.setattr(setup_env, name, lambda *command, **more: commands.append([str(word) for word in command]))
    monkeypatch.setattr(sys, "prefix", "/somewhere/venv")
    setup_env.install_beside_wheel(("run",), "auto")
    assert [command[0] for command in commands[:2]] == [sys.executable] * 2
    assert commands[2] == [sys.executable, "-W", "ignore", "-c", setup_env.COMPILE_ON_ALL_CORES]
    assert any(word.startswith("torch==") for word in commands[0])
    assert "--no-deps" not in commands[0]  # torch brings its own
    assert "--no-deps" in commands[1]
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    with pytest.raises(SetupError, match="is no virtual environment; make one"):
        setup_env.install_beside_wheel(("run",), "auto")
    assert len(commands) == 3


def test_what_fails_in_one_part_is_told_after_the_other_has_ended() -> None:
    done: list[str] = []

    def failing() -> None:
        raise SetupError("'npm ci' failed")

    def slow() -> None:
        time.sleep(0.2)
        done.append("pip")

    assert [str(failure) for failure in setup_env.all_of(failing, slow)] == ["'npm ci' failed"]
    assert done == ["pip"]
    with pytest.raises(KeyError):  # a fault of ours is shown as one
        setup_env.all_of(slow, lambda: {}["nowhere"])


def test_packages_are_compiled_where_no_process_pool_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("A = 1\n", encoding="utf-8")
    # As in a container without /dev/shm: a pool's first semaphore can't be made.
    setting = (
        "import concurrent.futures as futures, sysconfig\n"
        "def refuse(*args, **more): raise OSError(38, 'Function not implemented')\n"
        "futures.ProcessPoolExecutor = refuse\n"
        f"sysconfig.get_path = lambda name: {str(tmp_path)!r}\n"
    )
    subprocess.run([sys.executable, "-c", setting + setup_env.COMPILE_ON_ALL_CORES], check=True)
    assert list((tmp_path / "__pycache__").glob("module.*.pyc"))


def test_a_set_up_does_not_fail_for_what_only_saves_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*command: object, **more: object) -> None:
        if setup_env.COMPILE_ON_ALL_CORES in command:
            raise SetupError("failed")

    monkeypatch.setattr(setup_env, "run", run)
    monkeypatch.setattr(setup_env, "run_pip_install", lambda *command: None)
    setup_env.install(sys.executable, ["torch==1", "numpy==1"], {"run": ["torch==1", "numpy==1"]}, "gpu")


@pytest.fixture(scope="module")
def copy_with_own_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository whose environment was linked by the set-up; installed packages are this environment's."""
    copy = tmp_path_factory.mktemp("copy") / "repository"
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, listing.split("\0")):
        # Of the page only the texts, which the program reads, too.
        is_left_out = name.startswith(("frontend/", "docs/")) and not name.startswith("frontend/src/texts/")
        if (ROOT / name).is_file() and not is_left_out:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    venv = copy / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setup_env, "ROOT", copy)
        patch.setattr(setup_env, "VENV", venv)
        patch.setattr(setup_env, "PYTHON", venv / "bin/python")
        setup_env.link_package()
        setup_env.link_package()  # once more changes nothing
    site = next((venv / "lib").glob("python*/site-packages"))
    (site / "locked.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    return copy


def typed(copy: Path, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [copy / ".venv/bin/python", *words]
    return subprocess.run(
        command, cwd=cwd or copy, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize(
    ("scripts", "beside"),
    [
        (("run.py",), ("model_chat/conversation.json", "yaml.py", "rich/__init__.py", "random.py")),
        (("run.py", "run_image_chat.py"), ("model_chat/__init__.py",)),
        (("run.py",), ("model_chat.py",)),
    ],
)
def test_nothing_beside_the_run_script_takes_the_place_of_a_package(
    copy_with_own_environment: Path, scripts: tuple[str, ...], beside: tuple[str, ...]
) -> None:
    files = [copy_with_own_environment / name for name in beside]
    try:
        for file in files:
            file.parent.mkdir(exist_ok=True)
            file.write_text("raise RuntimeError('taken for a package')\n", encoding="utf-8")
        for script in scripts:
            done = typed(copy_with_own_environment, script, "--help")
            assert (done.returncode, done.stderr) == (0, "")
            assert f"usage: python {script}" in done.stdout
    finally:
        for file in files:
            shutil.rmtree(file.parent) if file.parent != copy_with_own_environment else file.unlink()


def test_an_agent_of_ones_own_beside_the_run_script_is_still_found(copy_with_own_environment: Path) -> None:
    file = copy_with_own_environment / "my_agent.py"
    file.write_text("", encoding="utf-8")
    script = copy_with_own_environment / "try.py"
    script.write_text(
        (copy_with_own_environment / "run.py").read_text(encoding="utf-8").partition("from model_chat")[0]
        + "import my_agent, model_chat; print(model_chat.__file__)\n",
        encoding="utf-8",
    )
    done = typed(copy_with_own_environment, "try.py")
    assert done.stdout.strip().endswith(".venv/package/model_chat/__init__.py"), done.stderr


def test_the_doctor_names_what_takes_the_place_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert doctor.check_place() == []
    (tmp_path / "model_chat").mkdir()
    (finding,) = doctor.check_place()
    assert f"'{tmp_path / 'model_chat'}' is found in its place; run 'make setup' once more" in finding.text
    (tmp_path / "package/model_chat").mkdir(parents=True)
    (tmp_path / "package/model_chat/__init__.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(tmp_path / "package")])
    assert doctor.check_place() == []
