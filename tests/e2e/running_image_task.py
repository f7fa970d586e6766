"""A real image chat for tests: run_image_chat.py as a process of its own, with small pictures and models that look."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from model_chat.images.contexts import ImageContextsWriter
from model_chat.images.stack import read_stack
from model_chat.tests.e2e.running_task import RunningTask

B = "mephisto.blueprint"
NO_ANNOTATION = f"{B}.annotations_config_path=''"
Start = Callable[..., RunningTask]


@contextmanager
def image_tasks(tmp_path: Path) -> Iterator[Start]:
    """Give a function that starts an image chat with two models that look, `a` and `b`; it is stopped at the end."""
    for nickname in ("a", "b"):
        (tmp_path / "models" / nickname).mkdir(parents=True)
        opt = {"model": "model_chat.tests.image_agents:LookingAgent", "image_mode": "raw", "dict_lower": False}
        (tmp_path / "models" / nickname / "model.opt").write_text(
            json.dumps({**opt, "says": f"{nickname.upper()} sees "}), encoding="utf-8"
        )
    with ExitStack() as stack:

        def start(
            *flags: str,
            images: int = 5,
            conversations: int = 100,
            evals: int = 1,
            script: str = "run_image_chat.py",
            forked: bool = True,
        ) -> RunningTask:
            path = tmp_path / "images.parquet"
            if not path.exists():
                with ImageContextsWriter(path) as writer:
                    for number in range(images):
                        writer.add(Image.new("RGB", (300, 200), (10 * number, 120, 200)), {}, {"task": "test"})
            task = RunningTask(
                tmp_path / "task",
                [
                    f"{B}.base_model_folder={tmp_path}/models",
                    f"{B}.image_models=null",
                    f"{B}.image_context_path={path}",
                    f"{B}.stack_folder={tmp_path}/stack",
                    f"{B}.num_conversations={conversations}",
                    f"{B}.evals_per_image_model_combo={evals}",
                    *flags,
                ],
                script=script,
                forked=forked,
            )
            return stack.enter_context(task)

        yield start


def places_of_stack(folder: Path) -> list[tuple[str, int, str]]:
    """Worker, image and model of every place that a stack's files hold."""
    stack = read_stack(folder)
    assert stack is not None
    return sorted(
        (worker, image_idx, model)
        for image_idx, image in enumerate(stack)
        for model, workers in image.items()
        for worker in workers
    )


def places_of_chats(saved: Iterable[dict[str, Any]]) -> list[tuple[str, int, str]]:
    """Worker, image and model of saved conversations."""
    return sorted((chat["workers"][0], chat["image_idx"], chat["task_description"]["model_nickname"]) for chat in saved)
