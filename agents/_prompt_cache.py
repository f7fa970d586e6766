"""A cache of what a language model has read of each conversation, kept from one turn to the next."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class PromptCache:
    """Keys and values of conversations that may continue, so that a turn costs only its new tokens.

    Owner of the kept caches; ``_lock`` guards them. One that is taken belongs to whoever took it.

    Args:
        max_bytes: how much may be kept; the ones longest unused go first.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def allow(self, max_bytes: int) -> None:
        """Keep up to ``max_bytes``, if that is more than before."""
        with self._lock:
            self._max_bytes = max(self._max_bytes, max_bytes)

    def take(self, conversation: str, tokens: Sequence[int]) -> Any:
        """Return a cache of the first of ``tokens``, or None if there is none.

        It is the conversation's own, cut to what still holds, or else a copy of what another one has in common with it
        (a system prompt, as a rule). At least the last token is left to be read, since it gives the first logits.
        """
        readable = tokens[:-1]
        with self._lock:
            own = self._kept.pop(conversation, None)
            if own is not None:
                shared = _common_prefix(own.tokens, readable)
                if shared == 0:
                    return None
                if len(own.tokens) > shared:
                    own.cache.crop(shared - len(own.tokens))
                return own.cache
            shared, other = max(
                ((_common_prefix(kept.tokens, readable), kept) for kept in self._kept.values()),
                key=lambda found: found[0],
                default=(0, None),
            )
            return None if other is None or shared == 0 else _copied(other.cache, shared)

    def keep(self, conversation: str, tokens: Sequence[int], cache: Any) -> None:
        """Keep a cache for the conversation's next turn.

        One that can't be cut later, or is larger than all that may be kept, is dropped.

        Args:
            tokens: what was read and written, of which the cache may lack the last ones.
            cache: what ``generate`` left, or None.
        """
        if cache is None or self._max_bytes <= 0 or not _can_be_cut(cache):
            return
        kept = _Kept(list(tokens[: cache.get_seq_length()]), cache, _bytes_of(cache))
        if kept.bytes > self._max_bytes:
            return
        with self._lock:
            self._kept.pop(conversation, None)
            self._kept[conversation] = kept
            while sum(each.bytes for each in self._kept.values()) > self._max_bytes:
                self._kept.popitem(last=False)

    def forget(self, conversation: str) -> None:
        """Drop what is kept of a conversation that is over."""
        with self._lock:
            self._kept.pop(conversation, None)


@dataclass(frozen=True)
class _Kept:
    tokens: list[int]
    cache: Any
    bytes: int


def _copied(cache: Any, length: int) -> Any:
    from transformers.cache_utils import DynamicCache

    copied = DynamicCache()
    for at, layer in enumerate(cache.layers):
        copied.update(layer.keys[..., :length, :].clone(), layer.values[..., :length, :].clone(), at)
    return copied


def _common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count


def _can_be_cut(cache: Any) -> bool:
    """Whether every layer holds each token's keys and values: no sliding window and no recurrent state."""
    from transformers.cache_utils import DynamicCache, DynamicLayer

    return type(cache) is DynamicCache and all(type(layer) is DynamicLayer for layer in cache.layers)


def _bytes_of(cache: Any) -> int:
    return sum(part.numel() * part.element_size() for layer in cache.layers for part in (layer.keys, layer.values))
