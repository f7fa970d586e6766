"""A design is read with all its faults at once, each with its line."""

from __future__ import annotations

import pytest

from model_chat.configuration.study_design import Order, parse_study_design
from model_chat.errors import ConfigurationError
from model_chat.tests.designs import BETWEEN, MIXED, design_of


def faults(text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as error:
        parse_study_design("design_path", "d.yaml", text)
    return [fault.removeprefix("design_path: 'd.yaml', ") for fault in error.value.faults]


def test_a_design_has_a_cell_for_each_combination() -> None:
    design = design_of(BETWEEN % 10)

    assert [cell.label for cell in design.cells] == [
        "model=a, prompt=warm",
        "model=a, prompt=neutral",
        "model=b, prompt=warm",
        "model=b, prompt=neutral",
    ]
    assert design.between == ("model", "prompt")
    assert design.value(design.cells[2], "prompt") == "Be warm."
    assert design.total == 40
    assert [len(group) for group in design.groups()] == [1, 1, 1, 1]


def test_within_factors_make_the_conditions_of_one_worker() -> None:
    design = design_of(MIXED % ("random", 2) + "excluded: [{model: b, num_turns: 6}]\n")

    assert design.order is Order.RANDOM
    assert [[cell.conditions["num_turns"] for cell in group] for group in design.groups()] == [
        ["2", "4", "6"],
        ["2", "4"],
    ]
    assert design.flag_values(design.cells[1]) == {"num_turns": 4}


def test_levels_keep_how_they_are_written() -> None:
    design = design_of("factors: {model: [no, 3.10], include_persona: [yes, no]}\nconversations_per_cell: 1\n")

    assert [factor.levels for factor in design.factors] == [
        {"no": "no", "3.10": "3.10"},
        {"yes": True, "no": False},
    ]


def test_all_faults_are_said_at_once_with_their_lines() -> None:
    text = """
factors:
  model: [a, a]
  prompt: [warm, cold]
  num_turns: [many, 2]
  serving: [local, ray]
between: [modle]
within: [prompt, model, model]
order: latin
excluded: [{model: z}, {}]
strata: {age: {young: 0}, home: {town: 3}}
conversations_per_cell: 0
cells: 3
"""
    assert faults(text) == [
        "line 3: 'model' has a duplicate level 'a'; remove one.",
        "line 4: 'prompt' needs a text for each level, such as {warm: Be warm., neutral: Be brief.}.",
        "line 5: 'num_turns' is in neither 'between' nor 'within'; add it to one.",
        "line 5: 'num_turns': the value of 'many' must be a number, or true or false.",
        "line 6: 'serving' can't differ between conversations; a factor is one of model, prompt, num_turns, max_resp_time, "
        "time_extensions, include_persona, reply_first_seconds, reply_chars_per_second, "
        "comparison_points, comparison_ties, comparison_continue, comparison_reason, comparison_boxes.",
        "line 7: 'between': there is no factor 'modle'; correct its spelling.",
        "line 8: 'within' has a duplicate factor 'model'; remove one.",
        "line 9: 'order' is 'latin'; give 'latin_square', 'random' or 'fixed'.",
        "line 10: 'excluded': 'model' has no level 'z'; its levels are a.",
        "line 10: 'excluded': an entry without factors would exclude every cell; remove it.",
        "line 11: 'strata' needs one item with its counts, such as {age_band: {young: 20, old: 20}}.",
        "line 11: 'young' is '0'; give at least 1.",
        "line 12: 'conversations_per_cell' is '0'; give at least 1.",
        "line 13: unknown key 'cells'; remove it or correct its spelling.",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[]", "line 1: it needs keys and values; the keys are factors"),
        ("factors: {model: [a, b]}\n", "line 1: 'conversations_per_cell' is missing"),
        ("conversations_per_cell: 1\n", "line 1: 'factors' is missing"),
        ("factors: {model: [a]}\nconversations_per_cell: 1\n", "line 1: 'model' has fewer than two levels"),
        ("factors: {model: a}\nconversations_per_cell: 1\n", "line 1: 'model' needs a list of at least two levels"),
        ("factors: {num_turns: {a: 2, b: 2}}\nconversations_per_cell: 1\n", "the levels 'a' and 'b' are the same"),
        ("factors: {model: [a, b]}\norder: random\nconversations_per_cell: 1\n", "line 2: 'order' is that of within"),
        (
            "factors: {model: [a, b]}\nbetween: model\nwithin: model\nconversations_per_cell: 1\n",
            "line 3: 'model' is in 'between' and in 'within'",
        ),
        (
            "factors: {model: [a, b, c]}\nexcluded: [{model: c}]\nconversations_per_cell: 1\n",
            "line 1: 'model': every cell with 'c' is excluded",
        ),
        ("factors: {model: [a, b]}\nexcluded: [{model: b}]\nconversations_per_cell: 1\n", "line 2: cells left: 1"),
        (
            f"factors: {{num_turns: {list(range(1, 26))}}}\nwithin: num_turns\nconversations_per_cell: 1\n",
            "line 2: the within factors make 25 conditions for each worker",
        ),
        (
            f"factors: {{num_turns: {list(range(1, 40))}, max_resp_time: {list(range(1, 40))}}}\n"
            "conversations_per_cell: 1\n",
            "line 1: there are more than 1000 cells",
        ),
        (
            "factors: {model: [a, b]}\nstrata: {age: {young: 3, old: 4}}\nconversations_per_cell: 4\n",
            "line 2: the strata take 7 conversations, and 2 cells of 4 need 8",
        ),
        ("factors: {model: [a, b]}\nfactors: {}\nconversations_per_cell: 1\n", "line 2"),
    ],
)
def test_a_fault_is_said_with_its_remedy(text: str, fault: str) -> None:
    assert any(fault in found for found in faults(text)), faults(text)


@pytest.mark.parametrize(
    ("old", "new", "is_same"),
    [
        ("conversations_per_cell: 3", "conversations_per_cell: 4", True),
        ("Be warm.", "Be cold.", False),
        ("seed: 7", "seed: 8", False),
        ("model: [a, b]", "model: [a, c]", False),
    ],
)
def test_a_study_goes_on_with_more_conversations_but_not_with_another_design(old: str, new: str, is_same: bool) -> None:
    text = BETWEEN % 3

    assert (design_of(text).fingerprint() == design_of(text.replace(old, new)).fingerprint()) is is_same


@pytest.mark.parametrize("seed", [10**15 + 1, -(10**15) - 1, "0x" + "f" * 5000])
def test_a_seed_of_thousands_of_digits_is_refused(seed: int | str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"line 3: 'seed' is '[-0-9xf]{16,60}…?'; give at (most|least) -?1,000,"
    ):
        parse_study_design("f", "p", f"factors: {{num_turns: [1, 2]}}\nconversations_per_cell: 1\nseed: {seed}\n")


def test_characters_in_two_halves_are_joined_and_single_halves_are_a_fault() -> None:
    text = 'factors: {prompt: {warm: "Hi \\ud83d\\ude00", cold: No.}}\nconversations_per_cell: 1\n'
    design = parse_study_design("f", "p", text)
    assert design.value(design.cells[0], "prompt") == "Hi \N{GRINNING FACE}"
    for half in ('"\\ud800": 1', 'factors: {prompt: {warm: "\\ud83d"}}'):
        (fault,) = faults(f"seed: 1\n{half}\n")
        assert fault.startswith("line 2: a text has half a character")
