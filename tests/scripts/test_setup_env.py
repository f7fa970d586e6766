from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from model_chat.scripts import doctor, setup_env
from model_chat.scripts.setup_env import SetupError, digest, find_chromium, is_done, read_lock


def test_the_lock_has_both_groups_and_pins_every_package_once() -> None:
    groups = read_lock()
    assert groups.keys() == {"run", "dev", "scale", "ray"}
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
    assert (doctor.OLDEST_PYTHON, doctor.OLDEST_NODE) == (setup_env.OLDEST_PYTHON, setup_env.OLDEST_NODE)


def test_a_wheel_is_set_up_in_the_environment_that_it_is_installed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(setup_env, "run", lambda *command, **more: commands.append([str(word) for word in command]))
    monkeypatch.setattr(sys, "prefix", "/somewhere/venv")
    setup_env.install_beside_wheel(("run",))
    assert [command[:4] for command in commands[:2]] == [[sys.executable, "-m", "pip", "install"]] * 2
    assert commands[2] == [sys.executable, "-c", setup_env.COMPILE_ON_ALL_CORES]
    assert any(word.startswith("torch==") for word in commands[0])
    assert "--no-deps" not in commands[0]  # torch brings its own
    assert "--no-deps" in commands[1]
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    with pytest.raises(SetupError, match="is no virtual environment; make one"):
        setup_env.install_beside_wheel(("run",))
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
