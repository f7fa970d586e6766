"""The compiler is meant to be subclassed: own columns, own rule, own statistics, own flags."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from model_chat.analysis.compile_results import ModelChatResultsCompiler
from model_chat.errors import ConfigurationError
from model_chat.records.reading import ReadConversation, ReadUtterance


class Polite(ModelChatResultsCompiler):
    extra_columns: Mapping[str, type] = {"letters": int, "polite": bool}

    @classmethod
    def setup_args(cls) -> argparse.ArgumentParser:
        parser = super().setup_args()
        parser.add_argument("--word", default="please")
        return parser

    def reject(self, conversation: ReadConversation) -> str | None:
        return "was about spam" if any("spam" in u.text for u in conversation.dialog) else None

    def row_columns(
        self, conversation: ReadConversation, utterance: ReadUtterance | None, turn_idx: int
    ) -> Mapping[str, Any]:
        if utterance is None:
            return {}
        return {"letters": len(utterance.text), "polite": self.opt["word"] in utterance.text}

    def model_columns(self, model_nickname: str, conversations: pd.DataFrame) -> Mapping[str, float]:
        return {"longest": float(conversations["human_words"].max())}


@pytest.mark.parametrize("processes", [1, 2])
def test_hooks_add_columns_rules_and_statistics(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any], processes: int
) -> None:
    save(make(worker="w1", said=["could you please help me"]))
    save(make(worker="w2", said=["I only came to sell spam"]))
    run = compiler(Polite, processes=processes)
    frame = run.compile_results()
    assert frame["letters"].to_list()[1:] == [24, 7] and frame["polite"].to_list()[1:] == [True, False]
    assert frame["letters"].isna().to_list() == [True, False, False]
    (excluded,) = run.summary.data.corpus.excluded
    assert (excluded.reason, excluded.detail, excluded.worker_id) == ("own_rule", "was about spam", "w2")
    assert run.summary.models["longest"].to_list() == [5]


def test_own_columns_are_saved_and_own_flags_work(
    make: Callable[..., Any],
    save: Callable[..., Path],
    compiler: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    save(make(said=["could you kindly help me"]))
    files = compiler(Polite, word="kindly").compile_and_save_results()
    read = pd.read_csv(files["results"])
    assert list(read.columns)[-2:] == ["letters", "polite"] and bool(read["polite"].iloc[1])
    assert "longest" in capsys.readouterr().out


def test_a_hook_that_fails_costs_its_conversation_only(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    class Broken(Polite):
        def row_columns(self, conversation: ReadConversation, utterance: Any, turn_idx: int) -> Mapping[str, Any]:
            return {"letters": 1 / (conversation.worker_id != "w1")}

    save(make(worker="w1"))
    save(make(worker="w2"))
    run = compiler(Broken)
    assert list(run.compile_results()["worker_id"].unique()) == ["w2"]
    (excluded,) = run.summary.data.corpus.excluded
    assert "row_columns failed with ZeroDivisionError" in excluded.detail


def test_a_rule_that_fails_costs_its_conversation_only(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    class Broken(ModelChatResultsCompiler):
        def reject(self, conversation: ReadConversation) -> str | None:
            return None if 1 / (conversation.worker_id != "w1") else "never"

    save(make(worker="w1", model="m", hit="h7"))
    save(make(worker="w2"))
    run = compiler(Broken)
    assert list(run.compile_results()["worker_id"].unique()) == ["w2"]
    (excluded,) = run.summary.data.corpus.excluded
    assert (excluded.reason, excluded.model_nickname, excluded.hit_id) == ("own_rule", "m", "h7")
    assert excluded.detail == "reject failed with ZeroDivisionError: division by zero"


def test_columns_are_asked_only_of_conversations_that_count(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    asked = []

    class Curious(Polite):
        def row_columns(self, conversation: ReadConversation, utterance: Any, turn_idx: int) -> Mapping[str, Any]:
            asked.append(conversation.worker_id)
            return {}

    save(make(worker="w1", said=["I only came to sell spam"]))
    save(make(worker="w2"))
    compiler(Curious, processes=1).compile_results()
    assert set(asked) == {"w2"}


@pytest.mark.parametrize("given", [{}, {"output_folder": None}, {"output_folder": ""}])
def test_a_compiler_that_is_made_without_an_output_folder_says_so(tmp_path: Path, given: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="--output-folder is missing; give the folder where the results go"):
        ModelChatResultsCompiler({"results_folders": str(tmp_path), **given})


def test_an_overridden_result_is_what_gets_saved(
    make: Callable[..., Any], save: Callable[..., Path], compiler: Callable[..., Any]
) -> None:
    class Short(ModelChatResultsCompiler):
        def compile_results(self) -> pd.DataFrame:
            return super().compile_results()[["worker_id", "text"]]

    save(make())
    assert list(pd.read_csv(compiler(Short).compile_and_save_results()["results"]).columns) == ["worker_id", "text"]


@pytest.mark.parametrize("columns", [{"text": str}, {"rude": bool}, {"final_rating_9": int}, {"when": list}])
def test_own_columns_that_clash_are_told_at_once(compiler: Callable[..., Any], columns: dict[str, type]) -> None:
    kind = type("Clash", (ModelChatResultsCompiler,), {"extra_columns": columns})
    with pytest.raises(ConfigurationError, match="extra_columns of Clash"):
        compiler(kind)
