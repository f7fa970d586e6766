"""Each patch: what is broken without it, and that it works with it."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import pytest

from model_chat.compat import for_mephisto, for_parlai
from model_chat.compat._hooks import FINDER, PatchingFinder

# Run in a new Python: what a library of another version does not ship is hidden, and a patch can be switched off.
PREAMBLE = """
import importlib.machinery, sys

def hide(*names):
    sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__name__ != "DistutilsMetaFinder"]
    found = importlib.machinery.PathFinder.find_spec
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in names else found(name, path, target)
    importlib.machinery.PathFinder.find_spec = classmethod(find_spec)

import model_chat.compat
from model_chat.compat._hooks import FINDER

def without(patch):
    removed = 0
    for table in (FINDER._around, FINDER._after):
        for patches in table.values():
            kept = [function for function in patches if function.__name__ != patch]
            removed += len(patches) - len(kept)
            patches[:] = kept
    if not removed:
        raise SystemExit(f"there is no patch {patch}")
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PREAMBLE + code], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def clean_import() -> dict[str, Any]:
    """What a new Python tells of importing the blueprint, and then ParlAI, where neither of two old packages is left."""
    done = python("""
import json
hide("distutils", "pkg_resources")
import model_chat.model_chat_blueprint
heavy = {"torch", "parlai", "transformers", "detoxify", "pandas"}
stand_ins = {"pkg_resources", "distutils", "distutils.dir_util"}
import dataclasses
from mephisto.abstractions.blueprints.parlai_chat import parlai_chat_task_runner
found = {
    "heavy": sorted(heavy & set(sys.modules)),
    "stand_ins": sorted(stand_ins & set(sys.modules)),
    "blocked": [name for name, module in sys.modules.items() if module is None],
    "dataclass": f"{dataclasses.dataclass.__module__}.{dataclasses.dataclass.__qualname__}",
    "agent_of_the_chat_runner": parlai_chat_task_runner.ParlAIAgent.__module__,
}
from parlai.core.opt import Opt
from parlai.core.message import Message
found["parlai"] = [Opt.__module__, Message.__module__]
found["stand_ins_after_parlai"] = sorted(stand_ins & set(sys.modules))
print(json.dumps(found))
""")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_importing_the_blueprint_imports_neither_models_nor_their_libraries(clean_import: dict[str, Any]) -> None:
    assert clean_import["heavy"] == []


def test_no_patch_leaves_a_stand_in_behind(clean_import: dict[str, Any]) -> None:
    assert clean_import["stand_ins"] == []
    assert clean_import["stand_ins_after_parlai"] == []
    assert clean_import["blocked"] == []
    assert clean_import["dataclass"] == "dataclasses.dataclass"


def test_parlai_can_be_imported_after_mephisto_took_its_stand_ins(clean_import: dict[str, Any]) -> None:
    assert clean_import["agent_of_the_chat_runner"].split(".")[0] == "mephisto"
    assert clean_import["parlai"] == ["parlai.core.opt", "parlai.core.message"]


def test_importing_compat_imports_neither_mephisto_nor_parlai() -> None:
    done = python("print([name for name in sys.modules if name.split('.')[0] in ('mephisto', 'parlai', 'torch')])")
    assert done.stdout == "[]\n", done.stderr


def test_without_the_patch_mephistos_configuration_is_refused_by_dataclasses() -> None:
    done = python("""
without("dataclass_defaults")
import mephisto.operations.hydra_config
""")
    assert "ValueError: mutable default" in done.stderr


def test_with_the_patch_each_configuration_has_defaults_of_its_own() -> None:
    from mephisto.operations.hydra_config import MephistoConfig

    first, second = MephistoConfig(), MephistoConfig()
    assert first.task is not second.task
    first.task.task_title = "changed"
    assert second.task.task_title != "changed"


def test_the_patch_leaves_the_original_dataclass_decorator() -> None:
    from mephisto.operations import hydra_config  # noqa: F401  # executed under the patch

    assert dataclasses.dataclass.__module__ == "dataclasses"
    inner = dataclasses.make_dataclass("Inner", [("x", int, 0)])
    with pytest.raises(ValueError, match="mutable default"):
        dataclasses.make_dataclass("Outer", [("inner", Any, inner())])


def test_the_original_decorator_returns_even_when_the_module_fails() -> None:
    original = dataclasses.dataclass
    with pytest.raises(RuntimeError, match="broken module"), for_mephisto.dataclass_defaults():
        assert dataclasses.dataclass is not original
        raise RuntimeError("broken module")
    assert dataclasses.dataclass is original


def test_without_the_patch_mephistos_folders_need_distutils() -> None:
    done = python("""
hide("distutils")
without("distutils_copy_tree")
import mephisto.utils.dirs
""")
    assert "ModuleNotFoundError: No module named 'distutils'" in done.stderr


def test_the_stand_in_for_distutils_copies_into_a_folder_that_exists(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "file.txt").write_text("new", encoding="utf-8")
    target.mkdir()
    (target / "kept.txt").write_text("old", encoding="utf-8")
    before = sys.modules.pop("distutils.dir_util", None), sys.modules.pop("distutils", None)
    try:
        with for_mephisto.distutils_copy_tree():
            sys.modules["distutils.dir_util"].copy_tree(str(source), str(target))
        assert not {"distutils", "distutils.dir_util"} & set(sys.modules)
    finally:
        for name, module in zip(("distutils.dir_util", "distutils"), before, strict=True):
            if module is not None:
                sys.modules[name] = module
    assert (target / "deep" / "file.txt").read_text(encoding="utf-8") == "new"
    assert (target / "kept.txt").read_text(encoding="utf-8") == "old"


def test_without_the_patch_parlais_options_need_pkg_resources() -> None:
    done = python("""
hide("pkg_resources")
without("pkg_resources_for_opt")
import parlai.core.opt
""")
    assert "ModuleNotFoundError: No module named 'pkg_resources'" in done.stderr


def test_the_stand_in_for_pkg_resources_finds_resources() -> None:
    done = python("""
hide("pkg_resources")
with model_chat.compat.for_parlai.pkg_resources_for_opt():
    import pkg_resources
    print(pkg_resources.resource_exists("parlai", "agents"), pkg_resources.resource_exists("parlai", "nowhere"))
    print(pkg_resources.resource_filename("parlai", "agents").endswith("parlai/agents"))
print("pkg_resources" in sys.modules)
""")
    assert done.stdout == "True False\nTrue\nFalse\n", done.stderr


def test_a_real_pkg_resources_is_left_alone() -> None:
    module = type(sys)("pkg_resources")
    before = sys.modules.get("pkg_resources")
    sys.modules["pkg_resources"] = module
    try:
        with for_parlai.pkg_resources_for_opt():
            assert sys.modules["pkg_resources"] is module
        assert sys.modules["pkg_resources"] is module
    finally:
        if before is None:
            del sys.modules["pkg_resources"]
        else:
            sys.modules["pkg_resources"] = before


def test_without_the_patch_importing_mephisto_imports_torch() -> None:
    done = python("""
without("parlai_left_for_later")
class Asked(Exception):
    pass
class Watch:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "parlai.core.agents":
            raise Asked("mephisto asks for parlai")
sys.meta_path.insert(0, Watch)
import mephisto.abstractions.blueprints.parlai_chat.parlai_chat_task_runner
""")
    assert "mephisto asks for parlai" in done.stderr


# --- the patches made after a module is executed: switched off by giving the module back what it imported ---


@pytest.fixture
def dictionary(tmp_path: Path) -> Any:
    from parlai.core.dict import DictionaryAgent
    from parlai.core.params import ParlaiParser

    opt = ParlaiParser(add_parlai_args=True, add_model_args=False).parse_args([])
    agent = DictionaryAgent({**opt, "dict_file": str(tmp_path / "dict"), "dict_tokenizer": "space"})
    agent.add_to_dict(["tea", "milk"])
    return agent


def test_a_dictionary_makes_numpy_vectors(dictionary: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from parlai.core import dict as parlai_dict

    vector = dictionary.txt2vec("tea milk", vec_type=numpy.ndarray)
    assert vector.dtype == numpy.dtype(int)
    assert dictionary.vec2txt(vector) == "tea milk"
    assert not hasattr(numpy, "int"), "the alias is restored in ParlAI's module alone"
    monkeypatch.setattr(parlai_dict, "np", numpy)
    with pytest.raises(AttributeError, match="has no attribute 'int'"):
        dictionary.txt2vec("tea milk", vec_type=numpy.ndarray)


def test_parlai_makes_its_plateau_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from parlai.core.params import ParlaiParser
    from parlai.nn import lr_scheduler

    opt = ParlaiParser(add_parlai_args=True, add_model_args=True).parse_args(["--model", "repeat_label"])
    opt.update(
        {
            "lr_scheduler": "reduceonplateau",
            "lr_scheduler_patience": 3,
            "lr_scheduler_decay": 0.5,
            "warmup_updates": -1,
            "warmup_rate": 1e-4,
            "max_lr_steps": -1,
            "invsqrt_lr_decay_gamma": -1,
        }
    )

    def make() -> Any:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        return lr_scheduler.ParlAILRScheduler.lr_scheduler_factory(opt, optimizer, {}, False)

    assert make().scheduler.factor == 0.5
    assert lr_scheduler.optim.lr_scheduler.LambdaLR is torch.optim.lr_scheduler.LambdaLR
    monkeypatch.setattr(lr_scheduler, "optim", torch.optim)
    with pytest.raises(TypeError, match="verbose"):
        make()


def test_without_the_patch_a_malformed_packet_is_an_error_of_the_channel() -> None:
    from mephisto.data_model.packet import Packet

    with pytest.raises(AssertionError, match="missing required field"):
        Packet.from_dict({"packet_type": "alive", "subject_id": "agent"})


def test_an_operator_starts_no_metrics_server(monkeypatch: pytest.MonkeyPatch) -> None:
    from mephisto.operations import operator
    from mephisto.utils import metrics

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a Prometheus client was started")

    monkeypatch.setattr(metrics, "start_http_server", refuse)
    operator.start_metrics_server()
    assert operator.launch_prometheus_server() is False


def test_without_the_patch_an_operator_starts_a_metrics_server(monkeypatch: pytest.MonkeyPatch) -> None:
    from mephisto.operations import operator
    from mephisto.utils import metrics

    asked: list[int] = []
    monkeypatch.setattr(metrics, "start_http_server", asked.append)
    monkeypatch.setattr(operator, "start_metrics_server", metrics.start_metrics_server)
    operator.start_metrics_server()
    assert asked == [3031]


def test_mephisto_prints_no_line_for_each_unit(capsys: pytest.CaptureFixture[str]) -> None:
    from mephisto.abstractions.providers.mock import mock_unit
    from mephisto.data_model import task_run

    for module in (mock_unit, task_run):
        module.print("a line a unit")
    assert capsys.readouterr().out == ""
    print("others still print")
    assert capsys.readouterr().out == "others still print\n"


# --- the machinery ---


@pytest.mark.parametrize(
    ("given", "expected"), [({}, "HOME/ParlAI/data"), ({"PARLAI_DATAPATH": "/elsewhere"}, "/elsewhere")]
)
def test_parlai_downloads_into_the_users_folder(tmp_path: Path, given: dict[str, str], expected: str) -> None:
    code = (
        "import model_chat; from parlai.core.params import ParlaiParser\n"
        "print(ParlaiParser(True, True).parse_args([])['datapath'])"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PARLAI_DATAPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, **given, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == expected.replace("HOME", str(tmp_path))


def test_every_patch_waits_for_a_module_that_exists() -> None:
    import importlib.util

    for name in FINDER.patched_modules():
        assert importlib.util.find_spec(name) is not None, f"{name} is gone, and so can be its patch"


def test_the_finder_is_installed_once() -> None:
    FINDER.install()
    assert sys.meta_path.count(FINDER) == 1


def test_a_module_imported_before_is_patched_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "early_module.py").write_text("value = 1\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    import early_module  # type: ignore[import-not-found]  # written above

    finder = PatchingFinder()
    finder.after("early_module")(lambda module: setattr(module, "value", 2))
    try:
        finder.install()
        assert early_module.value == 2
    finally:
        sys.meta_path.remove(finder)
        del sys.modules["early_module"]


def test_patches_run_in_order_around_and_after_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import contextmanager

    (tmp_path / "late_module.py").write_text("import builtins\nvalue = [*builtins.steps]\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    steps: list[str] = []
    monkeypatch.setattr("builtins.steps", steps, raising=False)
    finder = PatchingFinder()

    @finder.around("late_module")
    @contextmanager
    def around() -> Any:
        steps.append("before")
        yield
        steps.append("over")

    finder.after("late_module")(lambda module: steps.append("after"))
    sys.meta_path.insert(0, finder)
    try:
        import late_module  # type: ignore[import-not-found]  # written above

        assert late_module.value == ["before"]
        assert steps == ["before", "over", "after"]
        import late_module as again  # noqa: F401  # a second import executes nothing

        assert steps == ["before", "over", "after"]
    finally:
        sys.meta_path.remove(finder)
        sys.modules.pop("late_module", None)
