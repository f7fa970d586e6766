"""Weights in memory, each loaded once, however many nicknames name them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from model_chat.agents._prompt_cache import PromptCache


@dataclass(eq=False)
class Weights:
    """A language model and its tokenizer, without a chat template of its own; several nicknames may share it.

    Attributes:
        tokenizer: its tokenizer; never changed.
        end_ids: tokens that end a reply, as the model's own generation settings name them.
    """

    model: Any
    tokenizer: Any
    end_ids: tuple[Any, ...]
    cache: PromptCache


class LoadedWeights:
    """The weights that are in use in this process; those that no agent holds any longer are not kept.

    ``_lock`` is held while weights are loaded, so that no two threads load the same.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: WeakValueDictionary[Hashable, Weights] = WeakValueDictionary()

    def get(self, identity: Hashable, load: Callable[[], Weights]) -> Weights:
        """Return the weights with this identity; ``load`` makes them where there are none.

        Raises:
            Exception: whatever ``load`` raises; nothing is kept then.
        """
        with self._lock:
            weights = self._known.get(identity)
            if weights is None:
                self._known[identity] = weights = load()
            return weights


LOADED = LoadedWeights()
