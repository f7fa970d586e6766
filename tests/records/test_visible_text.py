"""What counts as an empty text, for workers and for models (the page's own test has the same texts)."""

from __future__ import annotations

import pytest

from model_chat.conversation.incoming import RefusedError, check_text
from model_chat.records.visible_text import is_blank


@pytest.mark.parametrize(
    "text",
    ["", " \n\t", "\u00a0", "\u200b", "\u2060\ufeff", "\u3164", "\u115f\u1160", "\uffa0", "\u2800", "\u00ad", "\ufe0f",
     "\u034f", "\U000e0020", "\ue000", "\u2065", "\ufff0", "\ufff8", "\U000e0000", "\U000e0fff"],
)  # fmt: skip
def test_what_shows_nothing_is_empty(text: str) -> None:
    assert is_blank(text)
    with pytest.raises(RefusedError, match="empty"):
        check_text(text, 100)


@pytest.mark.parametrize(
    "text",
    [
        ".",
        "0",
        "\u200bx",
        "\u4f60",
        "\U0001f642",
        "\u2764\ufe0f",
        "\U0001fae8",
        "\u0e2a\u0e27\u0e31",
        "\uffef",
        "\U000e1000",
    ],
)
def test_what_shows_something_is_not(text: str) -> None:
    assert not is_blank(text)
    check_text(text, 100)
