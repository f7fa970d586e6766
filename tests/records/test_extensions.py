"""What was asked for on the dashboard is wanted by later runs, until the configuration asks for another number."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_chat.conversation.quota import ConversationQuota
from model_chat.errors import ConfigurationError
from model_chat.records.extensions import EXTENSIONS_NAME, Extensions


def test_a_restart_wants_what_the_last_extension_asked_for(tmp_path: Path) -> None:
    configured = {"a": 2, "b": 1}
    first = ConversationQuota(configured, extensions=Extensions(tmp_path, "study", configured))
    assert first.extend(3) == 6
    again = Extensions(tmp_path, "study", configured)
    assert again.wanted() == {"a": 5, "b": 4}
    assert again.sentence() == "Extended on the dashboard: a 5 in place of 2, b 4 in place of 1."
    second = ConversationQuota(again.wanted(), {"a": 5}, extensions=again)
    assert second.extend(1) == 2
    assert Extensions(tmp_path, "study", configured).wanted() == {"a": 6, "b": 5}
    assert Extensions(tmp_path, "other", configured).wanted() == configured, "another task saves there as well"
    assert Extensions(tmp_path, "other", configured).sentence() == ""


@pytest.mark.parametrize("number", [1, 3, 9])
def test_a_number_that_was_changed_in_the_configuration_since_counts(tmp_path: Path, number: int) -> None:
    Extensions(tmp_path, "study", {"a": 2}).save({"a": 5})
    assert Extensions(tmp_path, "study", {"a": number}).wanted() == {"a": number}
    Extensions(tmp_path, "study", {"a": number}).save({"a": number + 1})
    assert Extensions(tmp_path, "study", {"a": 2}).wanted() == {"a": 2}, "only the last one counts"


def test_a_pair_may_be_named_in_the_other_order(tmp_path: Path) -> None:
    Extensions(tmp_path, "study", {"a|b": 2, "a|c": 1}).save({"a|b": 5, "a|c": 4})
    assert Extensions(tmp_path, "study", {"c|a": 1, "b|a": 2}).wanted() == {"c|a": 4, "b|a": 5}


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_line_that_a_crash_cut_off_is_no_extension_and_the_next_one_counts(tmp_path: Path, cut: int) -> None:
    extensions = Extensions(tmp_path, "study", {"a": 2})
    extensions.save({"a": 3})
    whole = (tmp_path / EXTENSIONS_NAME).read_bytes()
    extensions.save({"a": 9})
    with (tmp_path / EXTENSIONS_NAME).open("r+b") as file:
        file.truncate(len(whole) + cut)
    assert extensions.wanted() == {"a": 3}
    extensions.save({"a": 4})
    assert extensions.wanted() == {"a": 4}


def test_what_can_not_be_kept_is_not_wanted(tmp_path: Path) -> None:
    quota = ConversationQuota({"a": 2}, extensions=Extensions(tmp_path / "none", "study", {"a": 2}))
    with pytest.raises(OSError, match="No such file"):
        quota.extend(1)
    assert quota.wanted() == 2


def test_a_file_that_can_not_be_read_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / EXTENSIONS_NAME).mkdir()
    with pytest.raises(ConfigurationError, match="says how many conversations were asked for on the dashboard"):
        Extensions(tmp_path, "study", {"a": 2}).wanted()
