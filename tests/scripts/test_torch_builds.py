"""Which build of torch the set-up installs, asked of pip itself with an index of small packages in a folder."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from model_chat.scripts import setup_env
from model_chat.scripts.setup_env import SetupError

PIN = "torch==2.13.0"
CPU, DEFAULT, CUDA = "2.13.0+cpu", "2.13.0", "2.13.0+cu130"


def make_wheel(folder: Path, name: str, version: str) -> None:
    """Write a package with nothing in it."""
    information = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{information}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{information}/RECORD", "")


@pytest.fixture
def empty_python(tmp_path: Path) -> Path:
    """The interpreter of an environment that has nothing but pip."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    spec = importlib.util.find_spec("pip")
    assert spec is not None and spec.origin is not None
    site = sysconfig.get_path("purelib", vars={"base": str(venv)})
    (Path(site) / "pip").symlink_to(Path(spec.origin).parent)  # ensurepip would take some seconds
    return venv / "bin/python"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where pip looks for packages."""
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_CONSTRAINT", "PIP_REQUIREMENT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def with_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shown: bool) -> None:
    device = tmp_path / "nvidia0"
    if shown:
        device.touch()
    monkeypatch.setattr(setup_env, "NVIDIA_DEVICES", ("/nowhere/nvidiactl", str(device)))


@pytest.mark.skipif(sys.platform == "darwin", reason="there torch has one build")
@pytest.mark.parametrize(
    ("offered", "gpu", "build", "asked"),
    [
        ((CPU, DEFAULT), False, "auto", f"{PIN}+cpu"),
        ((DEFAULT, CUDA), False, "auto", PIN),
        ((CPU, DEFAULT), True, "auto", PIN),
        ((CPU, DEFAULT), True, "cpu", f"{PIN}+cpu"),
        ((CPU, DEFAULT), False, "gpu", f"{PIN},!=2.13.0+cpu"),
    ],
)
def test_a_machine_without_a_gpu_gets_the_cpu_build_that_its_index_has(
    empty_python: Path,
    index: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    offered: tuple[str, ...],
    gpu: bool,
    build: str,
    asked: str,
) -> None:
    for version in offered:
        make_wheel(index, "torch", version)
    with_gpu(monkeypatch, index, gpu)
    assert setup_env.choose_torch(empty_python, PIN, build) == asked
    told = capfd.readouterr()
    assert ("the package index has no CPU build" in told.err) is (offered == (DEFAULT, CUDA))
    assert told.out == "" and "ERROR" not in told.err  # pip's own words on what it didn't find


@pytest.mark.skipif(sys.platform == "darwin", reason="there torch has one build")
def test_a_cpu_build_that_is_asked_for_by_name_and_not_offered_is_refused(empty_python: Path, index: Path) -> None:
    make_wheel(index, "torch", DEFAULT)
    with pytest.raises(SetupError, match=r"has no CPU build of torch 2\.13\.0; name one that has it"):
        setup_env.choose_torch(empty_python, PIN, "cpu")


@pytest.mark.skipif(sys.platform == "darwin", reason="there torch has one build")
def test_the_build_changes_only_when_another_is_named(
    empty_python: Path, index: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    make_wheel(index, "torch", CPU)
    make_wheel(index, "torch", DEFAULT)
    make_wheel(index, "other", "1.0")
    locked = {"run": [PIN, "other==1.0"]}

    with_gpu(monkeypatch, index, False)
    monkeypatch.setattr(setup_env, "COMPILE_ON_ALL_CORES", "pass")  # its processes take longer than all else
    for build, version in (("auto", CPU), ("gpu", DEFAULT)):
        setup_env.install(empty_python, locked["run"], locked, build)
        assert setup_env.installed_version(empty_python, "torch") == version
        assert setup_env.installed_version(empty_python, "other") == "1.0"
        assert "installing 1 packages" in capfd.readouterr().err
        for name in {"auto", build}:
            assert setup_env.choose_torch(empty_python, PIN, name) == PIN  # what is there
    assert setup_env.choose_torch(empty_python, PIN, "cpu") == f"{PIN}+cpu"
    make_wheel(index, "torch", "2.14.0+cpu")  # the lock's next version is another matter
    assert setup_env.choose_torch(empty_python, "torch==2.14.0", "auto") == "torch==2.14.0+cpu"


def test_large_downloads_are_told_by_name_and_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pip = tmp_path / "python"
    lines = [
        "Collecting torch==2.13.0",
        "  Downloading torch-2.13.0-cp313-cp313-manylinux_2_28_x86_64.whl (526.6 MB)",
        "  Downloading https://index.example/packages/nvidia_cudnn-9.2-py3-none-linux.whl (1.1 GB)",
        "  Downloading idna-3.20-py3-none-any.whl (71 kB)",
        "Downloading sympy-1.14.0-py3-none-any.whl (6.3 MB)",
        "Installing collected packages: idna, torch, sympy",
    ]
    pip.write_text("#!/bin/sh\ncat <<'END'\n" + "\n".join(lines) + "\nEND\nexit $FAILS\n", encoding="utf-8")
    pip.chmod(0o755)
    monkeypatch.setenv("FAILS", "0")
    setup_env.run_pip_install(pip, PIN)
    assert capfd.readouterr() == (
        "",
        "[setup] downloading torch-2.13.0 (526.6 MB)\n"
        "[setup] downloading nvidia_cudnn-9.2 (1.1 GB)\n"
        "[setup] installing 3 packages\n",
    )
    monkeypatch.setenv("FAILS", "1")
    with pytest.raises(SetupError, match=r"pip install .*torch==2\.13\.0' failed in"):
        setup_env.run_pip_install(pip, PIN)


def test_what_is_set_up_is_left_alone_whatever_build_it_has_unless_another_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    venv = tmp_path / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin/python").touch()
    monkeypatch.setattr(setup_env, "VENV", venv)
    monkeypatch.setattr(setup_env, "PYTHON", venv / "bin/python")
    monkeypatch.setattr(setup_env, "link_package", lambda: None)
    monkeypatch.setattr(setup_env, "install", lambda python, wanted, locked, build: done.append(build))
    for build in ("auto", "auto", "cpu", "cpu", "auto", "gpu", "auto"):
        setup_env.make_venv(("run",), build)
    assert done == ["auto", "cpu", "gpu"]


def test_an_unknown_build_is_refused_before_anything_is_installed() -> None:
    script = Path(setup_env.__file__)
    for words, variable in ((["--torch", "rocm"], ""), ([], "rocm")):
        outcome = subprocess.run(
            [sys.executable, script, *words],
            env={"PATH": "", setup_env.TORCH_VARIABLE: variable},
            capture_output=True,
            text=True,
            check=False,
        )
        assert outcome.returncode == 2
        assert outcome.stderr.endswith("--torch, or MODEL_CHAT_TORCH: 'rocm' is none of auto, cpu, gpu\n")
