"""The type stubs declare nothing that the installed mephisto and parlai don't have."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest

from model_chat.configuration.hydra import ROOT

TYPINGS = ROOT / "typings"
STUBS = sorted(path for path in TYPINGS.rglob("*.pyi") if path.stat().st_size)
HELPERS = {"_AgentBase", "_AgentStateMetadata", "_Class", "_Ids"}
"""Names of the stubs' own."""


def module_of(stub: Path) -> Any:
    parts = stub.relative_to(TYPINGS).with_suffix("").parts
    return importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))


def missing_parameters(function: ast.FunctionDef | ast.AsyncFunctionDef, real: Any, path: str) -> list[str]:
    parameters = inspect.signature(getattr(real, "__func__", real)).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return []
    named = [argument.arg for argument in function.args.args if argument.arg not in ("self", "cls")]
    return [f"{path}({name}=)" for name in named if name not in parameters]


def missing(body: list[ast.stmt], owner: Any, path: str) -> list[str]:
    """What the stub's classes and functions declare, and the package lacks; attributes of instances can't be looked up."""
    faults = []
    for node in body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name in HELPERS:
            continue
        here = f"{path}.{node.name}"
        real = inspect.getattr_static(owner, node.name, None)
        if real is None:
            faults.append(here)
        elif isinstance(node, ast.ClassDef):
            faults += missing(node.body, real, here)
        elif not isinstance(real, property):
            faults += missing_parameters(node, real, here)
    return faults


@pytest.mark.parametrize("stub", STUBS, ids=lambda stub: str(stub.relative_to(TYPINGS)))
def test_what_a_stub_declares_is_there(stub: Path) -> None:
    module = module_of(stub)
    assert missing(ast.parse(stub.read_text()).body, module, module.__name__) == []


def test_a_method_and_a_parameter_that_are_not_there_are_found() -> None:
    text = (
        "class Packet:\n    def copy(self) -> None: ...\n    def gone(self) -> None: ...\n    def from_dict(row): ...\n"
    )
    packet = importlib.import_module("mephisto.data_model.packet")
    faults = missing(ast.parse(text).body, packet, "packet")
    assert faults == ["packet.Packet.gone", "packet.Packet.from_dict(row=)"]
