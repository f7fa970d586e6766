"""A study to judge, and an endpoint that answers as it is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from model_chat.agents import _endpoint_client
from model_chat.configuration.annotations import AnnotationsConfig
from model_chat.records.llm_judgments import REPLY
from model_chat.scripts import judge
from model_chat.scripts._judge_prompt import Questions
from model_chat.tests.analysis.conftest import make_conversation, saver
from model_chat.tests.endpoint_server import Behaviour, EndpointServer, reply, serving

CONFIG = {
    "config": {
        "rude": {"name": "Rude", "description": "It insults somebody."},
        "odd": {"name": "Odd", "description": "It makes no sense here."},
        "none_all_good": {"name": "All good", "description": "Nothing is wrong."},
    }
}
BOXES = Questions(REPLY, AnnotationsConfig.model_validate(CONFIG))
GOOD = {"rude": False, "odd": False, "none_all_good": True}
RUDE = {"rude": True, "odd": False, "none_all_good": False}
KEY = "sk-very-secret-0123456789abcdef"


def says(answer: object, **more: Any) -> Behaviour:
    return reply(answer if isinstance(answer, str) else json.dumps(answer), **more)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[EndpointServer]:
    monkeypatch.setattr(_endpoint_client, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(_endpoint_client, "LONGEST_PAUSE", 0.02)
    with serving() as running:
        running.default = says(GOOD)
        yield running


def prompts(server: EndpointServer) -> list[str]:
    return [exchange.body["messages"][1]["content"] for exchange in server.requests]


class Study:
    """Records in a folder, settings of a judge, and the command over them."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.write = saver(folder)
        self.settings: dict[str, Any] = {"base_url": url, "endpoint_model": "big", "requests_at_once": 4}
        self.output = folder / "judged"

    def add(
        self, number: int, replies: int = 2, config: object = CONFIG, save: bool = True, **more: Any
    ) -> dict[str, Any]:
        described = {"annotations_config": json.dumps(config) if config else None, "model_nickname": "secret/nick"}
        conversation = make_conversation(
            worker=f"WORKER{number}",
            hit=f"h{number}",
            labels=[()] * replies,
            said=[f"words of person {number}, {turn}" for turn in range(replies)],
            replies=[f"answer {turn} to person {number}" for turn in range(replies)],
            **{"task_description": described, **more},
        )
        if save:
            self.write(conversation)
        return conversation

    def arguments(self, *more: str) -> list[str]:
        models = self.folder / "judges.yaml"
        models.write_text(yaml.safe_dump({"judge": self.settings}), encoding="utf-8")
        flags = {"--results-folders": self.folder / "results", "--model-opt-path": models, "--output": self.output}
        return [*(str(word) for pair in flags.items() for word in pair), "--model", "judge", *more]

    def run(self, *more: str) -> int:
        return judge.main(self.arguments(*more))

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.output / "judgments.jsonl").read_bytes().splitlines()]

    @property
    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.output / "judge_log.jsonl").read_bytes().splitlines()]


@pytest.fixture
def study(tmp_path: Path, server: EndpointServer) -> Study:
    return Study(tmp_path, server.url)
