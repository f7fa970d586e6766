"""World files of the requester's own are imported, and checked before anything is launched."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_chat.configuration.hydra import ROOT
from model_chat.configuration.world_file import load_world
from model_chat.errors import ConfigurationError
from model_chat.tests.launch.small_study import B

OWN_WORLD = "from model_chat.worlds import *\nfrom model_chat.worlds import make_world, get_world_params\nOWN = True\n"


def world_fault(path: str) -> str:
    with pytest.raises(ConfigurationError) as error:
        load_world(f"{B}.world_file", path)
    return "\n".join(error.value.faults)


def test_a_world_of_the_requesters_own_is_imported(tmp_path: Path) -> None:
    (tmp_path / "my_world.py").write_text(OWN_WORLD, encoding="utf-8")
    module = load_world("flag", f"{tmp_path}/my_world.py")
    assert module.OWN is True
    assert module.get_world_params() == {"agent_count": 1}


def test_a_world_without_an_onboarding_of_its_own_has_the_shipped_one(tmp_path: Path) -> None:
    from model_chat import worlds

    least = "from model_chat.worlds import get_world_params, make_world"
    (tmp_path / "plain_world.py").write_text(least, encoding="utf-8")
    module = load_world("flag", f"{tmp_path}/plain_world.py")
    assert module.make_onboarding_world is worlds.make_onboarding_world
    assert module.validate_onboarding is worlds.validate_onboarding
    (tmp_path / "full_world.py").write_text(f"{least}\nmake_onboarding_world = print\n", encoding="utf-8")
    assert load_world("flag", f"{tmp_path}/full_world.py").make_onboarding_world is print


def test_the_shipped_world_is_there_once() -> None:
    from model_chat import worlds

    assert load_world("flag", f"{ROOT}/worlds.py") is worlds


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("import nowhere_at_all\n", "can't be imported: ModuleNotFoundError: No module named 'nowhere_at_all'."),
        ("def (:\n", "can't be imported: SyntaxError: "),
        ("raise RuntimeError('boom')\n", "can't be imported: RuntimeError: boom."),
        ("raise SystemExit(3)\n", "can't be imported: SystemExit: 3."),
    ],
)
def test_a_world_that_cannot_be_imported_is_said(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "broken_world.py"
    path.write_text(text, encoding="utf-8")
    assert world_fault(str(path)).startswith(f"{B}.world_file: '{path}' {problem}")


def test_each_function_that_a_world_lacks_is_said(tmp_path: Path) -> None:
    path = tmp_path / "empty_world.py"
    path.write_text("make_world = 5\n", encoding="utf-8")
    assert world_fault(str(path)).split("\n") == [
        f"{B}.world_file: '{path}' has no function '{function}'; see docs/worlds.md."
        for function in ("make_world", "get_world_params")
    ]


def test_a_world_that_is_no_python_file_is_said(tmp_path: Path) -> None:
    path = tmp_path / "world.txt"
    path.write_text(OWN_WORLD, encoding="utf-8")
    assert world_fault(str(path)) == f"{B}.world_file: '{path}' is no Python file."


@pytest.mark.parametrize(
    ("returns", "said"),
    [
        ("1 / 0", "fails: ZeroDivisionError"),
        ("exit('x')", "fails: SystemExit"),
        ("{}", "fails: KeyError"),
        ("None", "fails: TypeError"),
        ("{'agent_count': 0}", "gives agent_count 0"),
        ("{'agent_count': True}", "gives agent_count True"),
        ("{'agent_count': '1'}", "gives agent_count '1'"),
    ],
)
def test_what_a_world_file_says_of_itself_is_checked_before_the_launch(tmp_path: Path, returns: str, said: str) -> None:
    file = tmp_path / "odd_params.py"
    file.write_text(f"from model_chat.worlds import make_world\ndef get_world_params():\n    return {returns}\n")
    with pytest.raises(ConfigurationError) as error:
        load_world("mephisto.blueprint.world_file", str(file))
    (fault,) = error.value.faults
    assert fault.startswith(f"mephisto.blueprint.world_file: get_world_params of '{file}' {said}")
    assert fault.endswith('let it return {"agent_count": 1}.')
