"""On which line of a JSON text each value stands."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from model_chat.configuration.json_lines import JsonLines

TEXT = """{
  "a": [1, "x, {not} [an] \\"object\\": 1",
    {"b":
      null}],
  "c": {},
  "d": -1.5e3
}
"""


def test_keys_and_items_are_found_where_they_begin() -> None:
    assert JsonLines.of(TEXT).lines == {
        (): 1,
        ("a",): 2,
        ("a", 0): 2,
        ("a", 1): 2,
        ("a", 2): 3,
        ("a", 2, "b"): 3,
        ("c",): 5,
        ("d",): 6,
    }


def test_a_key_that_stands_twice_is_found_in_each_object_by_itself() -> None:
    text = '{"a": {"x": 1,\n"x": 2},\n"b": {"x": 3},\n"a": {"x": 4}}'
    assert JsonLines.of(text).repeated == [("x", 2), ("a", 4)]


def test_a_location_is_followed_as_far_as_it_goes() -> None:
    lines = JsonLines.of(TEXT)
    assert lines.resolve(("a", 2, "b")) == (("a", 2, "b"), 3)
    assert lines.resolve(("a", 2, "missing")) == (("a", 2, "missing"), 3)
    assert lines.resolve(("nowhere", 5)) == (("nowhere", 5), 1)
    assert lines.resolve((1,)) == (("c",), 5), "an index into an object is its key at that place"
    assert lines.resolve((9,)) == ((9,), 1)
    assert JsonLines.of("[\n1,\n2]").resolve(("config", 1)) == ((1,), 3)
    assert JsonLines.of("5").resolve(()) == ((), 1)


def paths_of(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    if isinstance(value, dict):
        return [path, *(found for key, inner in value.items() for found in paths_of(inner, (*path, key)))]
    if isinstance(value, list):
        return [path, *(found for index, inner in enumerate(value) for found in paths_of(inner, (*path, index)))]
    return [path]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(value=values, indent=st.sampled_from([None, 1, "\t"]), ascii_only=st.booleans())
def test_every_value_of_any_json_has_a_line(value: Any, indent: Any, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    found = JsonLines.of(text)
    assert list(found.lines) == paths_of(value)
    assert found.repeated == []
    written = text.split("\n")
    for path, line in found.lines.items():
        if path and isinstance(path[-1], str):
            assert json.dumps(path[-1], ensure_ascii=ascii_only) in written[line - 1]
