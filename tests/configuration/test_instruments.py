"""Ready items: each file can be used as it is, and says where it comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from model_chat.configuration.study_flow import parse_study_flow

INSTRUMENTS = sorted((Path(__file__).resolve().parents[2] / "instruments").glob("*.yaml"))


def read(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return data


@pytest.mark.parametrize("path", INSTRUMENTS, ids=lambda path: path.stem)
def test_an_instrument_says_its_source_its_licence_and_how_it_is_scored(path: Path) -> None:
    data = read(path)
    assert data.keys() == {"source", "licence", "instructions", "differences", "scoring", "scales", "items"}
    assert "https://" in data["source"]
    assert data["licence"].startswith("Public domain")
    assert len(data["source"]) > 100 and data["scoring"]


@pytest.mark.parametrize("path", INSTRUMENTS, ids=lambda path: path.stem)
def test_its_items_are_a_page_of_a_study_flow(path: Path) -> None:
    items = read(path)["items"]
    pages = [{"id": "scale", "kind": "questions", "items": items}, {"id": "chat", "kind": "chat"}]
    flow = parse_study_flow("flag", path.name, yaml.safe_dump({"pages": pages}, sort_keys=False))
    assert [item.id for _, item in flow.items()] == [item["id"] for item in items]
    assert all(item.required for _, item in flow.items())


def test_the_two_that_ship_are_whole() -> None:
    sizes = {path.stem: len(read(path)["items"]) for path in INSTRUMENTS}
    assert sizes == {"mini_ipip": 20, "nasa_tlx": 6}
    factors = [item["id"].split("_")[2] for item in read(INSTRUMENTS[0])["items"]]
    assert {factor: factors.count(factor) for factor in "eacni"} == dict.fromkeys("eacni", 4)


def score(name: str, answers: list[int]) -> dict[str, float]:
    """Score answers, in the order of the items, as a file says; those that end in _r are 6 minus the answer."""
    data = read(INSTRUMENTS[0].with_name(f"{name}.yaml"))
    given = {item["id"]: answer for item, answer in zip(data["items"], answers, strict=True)}
    keyed = {item: 6 - answer if item.endswith("_r") else answer for item, answer in given.items()}
    assert sorted(item for items in data["scales"].values() for item in items) == sorted(given), "each item counts once"
    return {scale: sum(keyed[item] for item in items) / len(items) for scale, items in data["scales"].items()}


def test_the_mini_ipip_is_scored_as_by_hand() -> None:
    """Reversed are 6 to 10 and 15 to 20 (Donnellan et al. 2006, appendix; ipip.ori.org/MiniIPIPKey.htm)."""
    answers = [5, 4, 3, 2, 1, 1, 2, 3, 4, 5, 4, 4, 4, 4, 2, 2, 2, 2, 2, 5]
    items = read(INSTRUMENTS[0].with_name("mini_ipip.yaml"))["items"]
    assert [at for at, item in enumerate(items, 1) if item["id"].endswith("_r")] == [*range(6, 11), *range(15, 21)]
    assert score("mini_ipip", answers) == {
        "extraversion": (5 + (6 - 1) + 4 + (6 - 2)) / 4,  # items 1, 6, 11, 16
        "agreeableness": (4 + (6 - 2) + 4 + (6 - 2)) / 4,  # 2, 7, 12, 17
        "conscientiousness": (3 + (6 - 3) + 4 + (6 - 2)) / 4,  # 3, 8, 13, 18
        "neuroticism": (2 + (6 - 4) + 4 + (6 - 2)) / 4,  # 4, 9, 14, 19
        "intellect_or_imagination": (1 + (6 - 5) + (6 - 2) + (6 - 5)) / 4,  # 5, 10, 15, 20
    }


def test_the_raw_tlx_is_the_mean_of_the_six_and_a_failed_task_weighs_more() -> None:
    assert score("nasa_tlx", [10, 20, 30, 100, 40, 10]) == {"raw_tlx": 35.0}
    items = {item["id"]: item for item in read(INSTRUMENTS[0].with_name("nasa_tlx.yaml"))["items"]}
    assert (items["tlx_performance"]["low"], items["tlx_performance"]["high"]) == ("perfect", "failure")


def test_every_item_of_the_mini_ipip_has_both_published_ends() -> None:
    items = read(INSTRUMENTS[0].with_name("mini_ipip.yaml"))["items"]
    assert {(item["points"], item["low"], item["high"]) for item in items} == {(5, "very inaccurate", "very accurate")}
    assert not any(item["question"].startswith("I ") for item in items), "the published items have no subject"
