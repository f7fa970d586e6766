"""Turn the output of a language model into the text of a reply."""

from __future__ import annotations

import re
from collections.abc import Iterable

_NAMES = "think|thinking|thought|reasoning"
_THOUGHTS = re.compile(rf"<({_NAMES})>.*?</\1>", re.DOTALL | re.IGNORECASE)
_THOUGHTS_END = re.compile(rf"^.*</(?:{_NAMES})>", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(rf"</?(?:{_NAMES})>", re.IGNORECASE)
_COULD_BE_TAG = re.compile(r"</?[a-z:]{0,10}|<\|[a-z_]{0,14}\|?|\[/?[A-Z]{0,5}|◁/?[a-z]{0,5}", re.IGNORECASE)
_OPEN_AT_END = re.compile(rf"<(?:{_NAMES})>\s*$", re.IGNORECASE)
_THOUGHTS_START = re.compile(rf"<(?:{_NAMES})>.*$", re.DOTALL | re.IGNORECASE)
_OTHER_TAGS = re.compile(
    r"(?:\[(?P<mistral>/?)THINK\]|◁(?P<kimi>/?)think▷|<(?P<seed>/?)seed:think>|<\|(?:START|(?P<cohere>END))_THINKING\|>)"
)
_CHANNEL = re.compile(r"<\|channel\|>(?!final)[^<]*<\|message\|>(.*?)(<\|end\|>|$)", re.DOTALL)
"""Of the format "harmony" (gpt-oss), but for what is said."""
_CHANNEL_MARK = re.compile(r"<\|start\|>[^<]*|<\|channel\|>[^<]*|<\|(?:message|end|return)\|>")

# A full stop, question mark and so on with the quotes and brackets that close behind it, before a space or the end. The
# full-width marks of Chinese and Japanese need no space.
_SENTENCE_END = re.compile(r"(?:[.!?…]+[\"'”’»)\]*_]*(?=\s|$)|[。！？]+[”’」』）]*)")
# What a full stop ends that is no sentence: "Mr.", an initial, the number of a list item.
_NO_SENTENCE = re.compile(r"(?:\b(?:[A-Za-z]|Mr|Mrs|Ms|Dr|Prof|St|vs|e\.g|i\.e|etc)|^\s*\d+|\n\s*\d+)\.$")

_CHANNEL_TOKENS = ("<|channel|>", "<|start|>", "<|message|>", "<|end|>", "<|return|>")


def _with_common_tags(text: str) -> str:
    """Write the marks that some models put around their thoughts as ``<think> … </think>``.

    A server that is set up for its model removes them; others leave them in the text.
    """
    text = _OTHER_TAGS.sub(lambda found: "</think>" if any(found.groups()) else "<think>", text)
    if "<|channel|>" not in text:
        return text
    text = _CHANNEL.sub(lambda found: f"<think>{found[1]}{'</think>' if found[2] else ''}", text)
    return _CHANNEL_MARK.sub("", text)


def thought_marks(tokens: Iterable[str]) -> frozenset[str]:
    """Return those of a tokenizer's special tokens that mark thoughts: a text without them can't be divided."""
    known = frozenset(tokens)
    marks = {token for token in known if _TAG.fullmatch(token) or _OTHER_TAGS.fullmatch(token)}
    return known & (marks | set(_CHANNEL_TOKENS) if _CHANNEL_TOKENS[0] in known else marks)


def without_thoughts(text: str, begun_inside: bool) -> str:
    """Remove what a reasoning model writes for itself (``<think> … </think>``).

    Args:
        begun_inside: whether the prompt had already opened the thoughts, as some chat templates do.

    Returns:
        the rest; empty when the thoughts were not finished, since then there is no answer yet.
    """
    text = _THOUGHTS.sub("", _with_common_tags(text))
    if begun_inside or _THOUGHTS_END.match(text):
        text, found = _THOUGHTS_END.subn("", text, count=1)
        if not found:
            return ""
    return _THOUGHTS_START.sub("", text)


def split_thoughts(text: str) -> tuple[str, str]:
    """Return what a text says, and what of it a reasoning model wrote for itself, without the tags."""
    said = without_thoughts(text, begun_inside=False)
    if said == text:
        return text, ""
    text = _with_common_tags(text)
    # What is said stands in the text in the same order, thoughts between its parts.
    thoughts = [found[0] for found in _THOUGHTS.finditer(text)]
    rest = _THOUGHTS.sub("", text)
    thoughts += [
        found[0] for pattern in (_THOUGHTS_END, _THOUGHTS_START) if (found := pattern.search(rest)) is not None
    ]
    return said, _TAG.sub("", "\n".join(thoughts)).strip()


def without_open_thoughts(text: str, begun_inside: bool = False) -> str:
    """Return what may be shown of a text that still grows: neither thoughts, nor an end that could become their tag.

    Args:
        begun_inside: see :func:`without_thoughts`.
    """
    said = without_thoughts(text, begun_inside)
    at = max(said.rfind(mark) for mark in "<[◁")
    return said[:at] if at >= 0 and _COULD_BE_TAG.fullmatch(said[at:]) else said


def begins_inside_thoughts(text: str) -> bool:
    """Whether a text closes thoughts that it has not opened: the chat template had opened them."""
    return _THOUGHTS_END.match(_THOUGHTS.sub("", _with_common_tags(text))) is not None


def opens_thoughts(prompt: str) -> bool:
    """Whether a prompt ends by opening thoughts that the model is to continue."""
    return _OPEN_AT_END.search(_with_common_tags(prompt)) is not None


def up_to_last_sentence(text: str) -> str:
    """Cut a text that was broken off at its last complete sentence or line.

    Returns:
        the text up to there; all of it when it holds no complete sentence.
    """
    ends = [found.end() for found in _SENTENCE_END.finditer(text) if not _NO_SENTENCE.search(text[: found.end()])]
    # A finished line is complete as well (verse, list items), unless it announces what follows it.
    ends += [at for at, sign in enumerate(text) if sign == "\n" and text[:at].rstrip()[-1:] not in ("", ":", ",")]
    return text[: max(ends)].rstrip() if ends else text
