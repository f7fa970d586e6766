"""Whatever holds a comma or a quotation mark can be named in a list, and a printed command can be copied."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_chat.configuration.lists import ids_of, join_list, read_ids, shell_command, split_list, unmatched
from model_chat.errors import ConfigurationError

NAMES = st.lists(st.text(min_size=1), max_size=5)


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        (None, []),
        ("", []),
        (" , ,", []),
        ("a,b", ["a", "b"]),
        (" a , b ,", ["a", "b"]),
        ('"rude, unkind",none_all_good', ["rude, unkind", "none_all_good"]),
        ('none_all_good, "rude, unkind" ', ["none_all_good", "rude, unkind"]),
        ("it's off,b", ["it's off", "b"]),
        ('"says ""no""",b', ['says "no"', "b"]),
        ('a 5" screen,b', ['a 5" screen', "b"]),
        ('" kept "', [" kept "]),
        ('"two\nlines",b', ["two\nlines", "b"]),
    ],
)
def test_a_list_is_split_as_a_line_of_csv(text: str | None, entries: list[str]) -> None:
    assert split_list("--list", text) == entries


@pytest.mark.parametrize("text", ['"rude, unkind', 'a,"b', '"a"b,c', '"""'])
def test_quotation_marks_that_do_not_match_are_one_sentence(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"--list: the quotation marks of .* don't match; write an entry"):
        split_list("--list", text)


@given(NAMES)
def test_what_is_joined_is_split_into_the_same(names: list[str]) -> None:
    assert split_list("--list", join_list(names)) == names


@given(NAMES)
def test_a_printed_command_is_read_back_by_a_shell(names: list[str]) -> None:
    names = [name for name in names if "\0" not in name]
    assert shlex.split(shell_command("python run.py", *names)) == ["python", "run.py", *names]


def test_a_file_of_ids_may_have_comments_blank_lines_a_byte_order_mark_and_quotes(tmp_path: Path) -> None:
    file = tmp_path / "ids.txt"
    file.write_bytes(
        '\ufeff# last year\r\nW0   # copied\r\n\r\n"Ann, Lee" # a guest\n"#7"\n\ufeffW1#no space\nW0\n'.encode()
    )
    assert read_ids("--file", str(file)) == ["W0", "Ann, Lee", "#7", "W1"]


@pytest.mark.parametrize("line", ["W1, W2", "W1 W2", '"W1", "W2"', '"W1'])
def test_a_line_with_more_than_one_id_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "ids.txt"
    file.write_text(f"W0\n{line}\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"--file: line 2 of .* write one id a line"):
        read_ids("--file", str(file))


def test_ids_of_a_list_and_of_files_are_put_together_and_all_faults_are_said(tmp_path: Path) -> None:
    (tmp_path / "a, b.txt").write_text("W1\nW2\n", encoding="utf-8")
    assert ids_of("--list", f'W2,"@{tmp_path}/a, b.txt",W3') == ["W2", "W1", "W3"]
    (tmp_path / "utf16.txt").write_text("W1\n", encoding="utf-16")
    with pytest.raises(ConfigurationError) as caught:
        ids_of("--list", f"@{tmp_path}/none.txt,@{tmp_path}/utf16.txt")
    missing, unreadable = caught.value.faults
    assert "does not exist" in missing and "not UTF-8" in unreadable


def test_only_ids_that_are_near_are_suggested() -> None:
    known = ["A1B2C3D4E5F6G7", "worker"]
    assert unmatched(["worker"], known) == unmatched([], known) == ""
    assert unmatched(["A1B2C3D4E5F6G8"], known) == "'A1B2C3D4E5F6G8' (did you mean 'A1B2C3D4E5F6G7'?)"
    assert unmatched(["nobody"], known) == "'nobody'"
    assert unmatched(["id1x"], (f"id{i}" for i in range(20_001))) == "'id1x'"  # so many are not compared
    assert unmatched([f"n{i}" for i in range(7)], []) == "'n0', 'n1', 'n2', 'n3', 'n4' and 2 more"
