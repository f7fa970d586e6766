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
    assert data.keys() == {"source", "licence", "scoring", "items"}
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
