"""What must hold for every corpus, found by hypothesis."""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model_chat.analysis.compiler import ModelChatResultsCompiler
from model_chat.analysis.summary import Summary

from .conftest import BUCKETS_FLAG, make_conversation

LABELS = st.lists(st.sampled_from([(), ("rude",), ("odd",), ("rude", "odd")]), min_size=1, max_size=3)
CONVERSATIONS = st.lists(
    st.fixed_dictionaries(
        {
            "model": st.sampled_from(["a", "b", "c/d"]),
            "worker": st.sampled_from(["w1", "w2", "w3", "w4"]),
            "labels": LABELS,
            "rating": st.sampled_from(["1", "3", "5", None]),
            "status": st.sampled_from(["complete", "complete", "complete", "incomplete"]),
        }
    ),
    min_size=1,
    max_size=10,
)
FEW = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def compiled(folder: Path, contents: list[dict[str, Any]], order: list[int]) -> tuple[pd.DataFrame, Summary]:
    """Write the conversations in ``order`` of creation (names by number) and compile them."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        place = Path(temporary) / "results" / "2026_11_20"
        place.mkdir(parents=True)
        for number in order:
            conversation = make_conversation(hit=f"h{number}", **contents[number])
            (place / f"20261120_0000{number:02d}_x_live.json").write_text(json.dumps(conversation))
        run = ModelChatResultsCompiler(
            {
                "results_folders": str(place.parent),
                "output_folder": str(Path(temporary) / "out"),
                "problem_buckets": BUCKETS_FLAG,
                "bootstrap": 100,
                "permutations": 99,
                "max_convos_per_worker": 2,
            }
        )
        frame = run.compile_results()
        assert run.summary is not None
        return frame.drop(columns="folder"), run.summary


@FEW
@given(contents=CONVERSATIONS, seed=st.integers(0, 100))
def test_shuffling_files_changes_nothing(tmp_path: Path, contents: list[dict[str, Any]], seed: int) -> None:
    order = list(range(len(contents)))
    frame, summary = compiled(tmp_path, contents, order)
    random.Random(seed).shuffle(order)
    shuffled, other = compiled(tmp_path, contents, order)
    pd.testing.assert_frame_equal(frame, shuffled)
    for name in ("models", "workers", "estimates", "ratings", "comparisons", "turns", "agreement", "quality"):
        pd.testing.assert_frame_equal(getattr(summary, name), getattr(other, name))


@FEW
@given(contents=CONVERSATIONS)
def test_a_new_model_changes_nothing_for_the_others(tmp_path: Path, contents: list[dict[str, Any]]) -> None:
    _, before = compiled(tmp_path, contents, list(range(len(contents))))
    more = [*contents, {"model": "new", "worker": "new worker", "labels": [("rude",)], "rating": "5"}]
    _, after = compiled(tmp_path, more, list(range(len(more))))
    for name in ("models", "estimates", "turns", "ratings"):
        old, new = getattr(before, name), getattr(after, name)
        if len(old):
            kept = new[new["model_nickname"] != "new"].reset_index(drop=True)
            if (
                name == "estimates"
            ):  # ratings that nobody had given before are a new metric, without a value for the others
                unknown = ~kept["metric"].isin(old["metric"])
                assert (kept["total"][unknown] == 0).all()
                kept = kept[~unknown].reset_index(drop=True)
            pd.testing.assert_frame_equal(old, kept, check_dtype=False)
    # Of comparisons everything but Holm's correction, whose family grows.
    columns = ["metric", "model_a", "model_b", "difference", "low", "high", "p", "effect_size"]
    untouched = after.comparisons[(after.comparisons[["model_a", "model_b"]] != "new").all(axis=1)]
    if len(before.comparisons):
        pd.testing.assert_frame_equal(before.comparisons[columns], untouched[columns].reset_index(drop=True))


@FEW
@given(contents=CONVERSATIONS)
def test_counts_add_up(tmp_path: Path, contents: list[dict[str, Any]]) -> None:
    frame, summary = compiled(tmp_path, contents, list(range(len(contents))))
    corpus = summary.data.corpus
    assert corpus.sources == len(contents) == corpus.conversations.num_rows + len(corpus.excluded)
    assert sum(corpus.excluded_by_reason.values()) == len(corpus.excluded)
    assert frame["conversation_idx"].nunique() == corpus.conversations.num_rows
    if corpus.conversations.num_rows == 0:
        return
    models = summary.models
    assert models["conversations"].sum() == summary.workers["conversations"].sum() == corpus.conversations.num_rows
    assert models["annotated_utterances"].sum() == frame["rude"].notna().sum()
    assert models["rude"].sum() == (frame["rude"] == True).sum()  # noqa: E712 (a nullable column)
    assert models["human_utterances"].sum() == (frame["agent_idx"] == 0).sum()
    good = models["none_all_good"].sum()
    assert summary.workers["problems_found"].sum() == models["annotated_utterances"].sum() - good
    rated = [f"rated_{value}" for value in range(1, 6)]
    if len(summary.ratings):
        assert (summary.ratings[rated].sum(axis=1) == summary.ratings["ratings"]).all()
