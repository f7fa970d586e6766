"""Files of ParlAI models are pickles: weights are loaded without running code, and whoever uses more is warned."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from parlai.core import torch_agent
from parlai.core.opt import Opt

WEIGHTS = {"model": {"embeddings.weight": torch.ones(2, 3)}, "number_training_updates": 7}


class RunsCode:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return (Path.touch, (self.trace,))


class Loader:
    """Has what ``TorchAgent.load`` asks of an agent."""

    def __init__(self) -> None:
        self.weights: Any = None

    def load_state_dict(self, states: Any) -> None:
        self.weights = states


def load(path: Path) -> Loader:
    loader = Loader()
    torch_agent.TorchAgent.load(loader, str(path))
    return loader


def test_weights_are_loaded_without_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for legacy in (False, True):
        torch.save(WEIGHTS, tmp_path / "model", _use_new_zipfile_serialization=not legacy)
        assert load(tmp_path / "model").weights["embeddings.weight"].sum() == 6
    assert not caplog.records


def test_a_file_with_more_than_weights_is_loaded_with_a_warning_that_names_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save({**WEIGHTS, "opt": Opt({"a": 1})}, tmp_path / "model")
    with caplog.at_level(logging.WARNING, "model_chat"):
        assert load(tmp_path / "model").weights["embeddings.weight"].sum() == 6
    assert str(tmp_path / "model") in caplog.text
    assert "parlai.core.opt.Opt" in caplog.text
    assert "trust" in caplog.text


def test_the_warning_comes_before_any_code_runs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trace = tmp_path / "trace"
    torch.save({**WEIGHTS, "more": RunsCode(trace)}, tmp_path / "model")
    seen: list[bool] = []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(trace.exists())  # type: ignore[method-assign]  # a handler of one line
    logger = logging.getLogger("model_chat.compat.for_parlai_files")
    logger.addHandler(handler)
    try:
        load(tmp_path / "model")
    finally:
        logger.removeHandler(handler)
    assert seen == [False]
    assert trace.exists(), "as ParlAI itself would"


def test_a_damaged_file_is_not_tried_as_a_pickle(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "model")
    content = (tmp_path / "model").read_bytes()
    (tmp_path / "model").write_bytes(content[: len(content) // 2])
    with pytest.raises(RuntimeError, match="zip"):
        load(tmp_path / "model")


def test_retrieval_models_have_the_same_patch() -> None:
    from parlai.agents.rag import rag  # seconds, of each process that imports this file

    assert type(rag.torch).__name__ == type(torch_agent.torch).__name__ == "_TorchThatLoadsWeights"
    assert torch_agent.torch.Tensor is torch.Tensor


def test_a_pickled_opt_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    (tmp_path / "model.opt").write_bytes(pickle.dumps({"model": RunsCode(trace)}, protocol=4))
    with pytest.raises(ValueError, match=r"model.opt' is a pickled opt .*; save it as JSON"):
        Opt.load(str(tmp_path / "model.opt"))
    assert not trace.exists()
