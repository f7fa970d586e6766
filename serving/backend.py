"""Chooses where models run: ``mephisto.blueprint.serving``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from model_chat.serving.catalogue import ModelSource
from model_chat.serving.loading import load_model
from model_chat.serving.model import ServedModel, StoppedError
from model_chat.serving.pool import ModelPool
from model_chat.serving.ray_options import RAY, RayOptions


def open_pool(
    args: Any,
    sources: Mapping[str, ModelSource],
    flag: str,
    status: Callable[[str], AbstractContextManager[Any]],
    stopped: Callable[[], bool] = lambda: False,
) -> ModelPool:
    """Load all models of a run, wherever they run.

    Args:
        args: the flags under ``mephisto.blueprint``, checked.
        sources: nickname -> where the model comes from.
        flag: the one that names the models, for error messages.
        status: shows what takes time.
        stopped: whether the requester wants the run to end.

    Raises:
        ConfigurationError: a model can't be loaded, or the machines for it are not available.
        StoppedError: ``stopped`` became true; nothing is left running.
    """
    models: list[ServedModel] = []
    close: Callable[[], None] | None = None
    if args.serving == RAY:
        from model_chat.serving.ray_serving import ModelsOnRay

        with status(f"Loading {', '.join(sources)} on Ray…"):
            on_ray = ModelsOnRay(sources, args.task_model_parallel, flag, RayOptions.of(args), stopped)
        models.extend(on_ray.models)
        close = on_ray.close
    else:
        for nickname, source in sources.items():
            if stopped():
                raise StoppedError
            with status(f"Loading {nickname}…"):
                models.append(load_model(source, args.task_model_parallel, flag))
    return ModelPool(
        models,
        args.max_concurrent_responses,
        args.max_model_response_time,
        max_batch_size=args.max_batch_size,
        batch_wait_ms=args.batch_wait_ms,
        close=close,
    )
