"""A YAML file says what is written in it: text stays text, and no key is taken for another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from model_chat.configuration.diagnosis import diagnose
from model_chat.configuration.hydra import register
from model_chat.configuration.yaml_files import read_yaml
from model_chat.errors import ConfigurationError
from model_chat.launch.command_line import compose_config

B = "mephisto.blueprint"
HEAD = """
defaults:
  - /mephisto/blueprint: model_chat_blueprint
  - /mephisto/architect: local
  - /mephisto/provider: mock
"""
WRITTEN = [
    "2024_05",
    "007",
    "no",
    "on",
    "Yes",
    "1e5",
    "1:30",
    "0x1F",
    "2026-11-27",
    ".nan",
    ".inf",
    "true",
    "3.10",
    "0o17",
    "+5",
]


MERGES = "".join(
    f"m{number}: &m{number} {{<<: [*m{number - 1}, *m{number - 1}], k{number}: 1}}\n" if number else "m0: &m0 {k0: 1}\n"
    for number in range(19)
)
"""Each mapping is merged into the next one twice: half a million keys."""
NESTED_MERGES = "m: &m19 {k: 1}\n"
for _number in range(18, -1, -1):
    NESTED_MERGES = NESTED_MERGES.replace(
        f"&m{_number + 1} {{", f"&m{_number + 1} {{<<: [&m{_number} {{k: 1}}, *m{_number}], "
    )


def composed(place: Path, *words: str, **files: str) -> DictConfig:
    """Compose ``conf=mine`` of a folder's files."""
    (place / "conf").mkdir(exist_ok=True)
    for name, text in files.items():
        (place / f"conf/{name}.yaml").write_text(text, encoding="utf-8")
    return compose_config("example", ["--config-dir", str(place), "conf=mine", *words])


def faults(place: Path, *words: str, **files: str) -> list[str]:
    with pytest.raises(ConfigurationError) as error:
        composed(place, *words, **files)
    return list(error.value.faults)


@pytest.mark.parametrize("at", range(0, len(WRITTEN), 3))
def test_text_stays_text_in_a_file(tmp_path: Path, at: int) -> None:
    name, title, qualification = WRITTEN[at : at + 3]
    lines = f"  task: {{task_name: {name}, task_title: {title}}}\n"
    lines += f"  blueprint: {{onboarding_qualification: {qualification}}}\n"
    cfg = composed(tmp_path, mine=f"{HEAD}mephisto:\n{lines}")
    assert (cfg.mephisto.task.task_name, cfg.mephisto.task.task_title) == (name, title)
    assert cfg.mephisto.blueprint.onboarding_qualification == qualification


@pytest.mark.parametrize("at", range(0, len(WRITTEN) - 1, 4))
def test_text_stays_text_on_the_command_line(at: int) -> None:
    written = [word for word in WRITTEN if word != ".inf"][at : at + 4]
    names = ("task.task_name", "task.task_title", "task.task_description", "blueprint.onboarding_qualification")
    given = dict(zip(names, written, strict=False))
    words = [f"{'++' if number % 2 else ''}mephisto.{name}={word}" for number, (name, word) in enumerate(given.items())]
    cfg = compose_config("example", words).mephisto
    assert {name: OmegaConf.select(cfg, name) for name in given} == given


def test_numbers_and_truth_values_are_read_as_such(tmp_path: Path) -> None:
    flags = "{num_turns: 010, include_persona: yes, check_acceptability: 'off', ray_replicas: '2'}"
    text = f"{HEAD}mephisto:\n  blueprint: {flags}\n"
    args = composed(tmp_path, mine=text + "  task: {task_reward: 1e-1}\n").mephisto
    assert (args.blueprint.num_turns, args.blueprint.ray_replicas) == (10, 2)
    assert (args.blueprint.include_persona, args.blueprint.check_acceptability) == (True, False)
    assert args.task.task_reward == 0.1


@pytest.mark.parametrize("written", ["1:30", "0x10", "6.5", "many", ".nan"])
def test_what_is_no_number_is_refused_as_it_is_written_with_its_line(tmp_path: Path, written: str) -> None:
    assert faults(tmp_path, mine=f"{HEAD}mephisto:\n  blueprint:\n    num_turns: {written}\n") == [
        f"{B}.num_turns: '{written}' is not a whole number; give a whole number (line 8 of {tmp_path}/conf/mine.yaml)."
    ]


@pytest.mark.parametrize("null", ["null", "~", "", "Null"])
def test_null_is_nothing(tmp_path: Path, null: str) -> None:
    lines = f"  blueprint:\n    block_qualification: {null}\n    annotations_config_path: {null}\n"
    lines += f"    model_opt_path: {null}\n"
    args = composed(tmp_path, mine=f"{HEAD}mephisto:\n{lines}  task: {null}\nmturk: {null}\n").mephisto.blueprint
    assert (args.block_qualification, args.annotations_config_path, args.model_opt_path) == ("", "", None)
    if null:
        args = compose_config("example", [f"{B}.block_qualification={null.lower()}"]).mephisto.blueprint
        assert args.block_qualification in ("", "~")


def test_keys_of_ones_own_are_text_too_and_their_values_what_yaml_says(tmp_path: Path) -> None:
    own = "{2024_05: 1e5, no: [1, 2], null: yes, 1.10: 2026-11-27}"
    cfg = composed(tmp_path, mine=f"{HEAD}mephisto:\n  blueprint: {{override_opt: {own}}}\n")
    assert cfg.mephisto.blueprint.override_opt == {
        "2024_05": 100000.0,
        "no": [1, 2],
        "null": True,
        "1.10": "2026-11-27",
    }


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a: 1\na: 2\n", [2]),
        ("a: 1\n'a': 1\n", [2]),
        ('no: 1\n"no": 2\n', [2]),
        ("a:\n  - b: 1\n    c: [{d: 1, d: 2}]\n    b: 2\n", [3, 4]),
        ("x: &x {a: 1, a: 2}\ny: *x\nz: {<<: *x}\n", [1]),
        ("x: &x {a: 1}\ny: {<<: *x, <<: *x}\n", [2]),
        ("x: {<<: [{a: 1, a: 2}, {b: 1}]}\n", [1]),
    ],
)
def test_duplicate_keys_are_refused_at_any_depth(tmp_path: Path, text: str, lines: list[int]) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError) as error:
        read_yaml("flag", str(file))
    assert [fault.partition(": duplicate key '")[0] for fault in error.value.faults] == [
        f"flag: '{file}', line {line}" for line in lines
    ]


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("x: &x {a: 1, b: 2}\ny: {<<: *x, a: 3}\n", {"x": {"a": 1, "b": 2}, "y": {"a": 3, "b": 2}}),
        ("x: &x {a: 1}\ny: &y {a: 2}\nz: {<<: [*x, *y]}\n", {"x": {"a": 1}, "y": {"a": 2}, "z": {"a": 1}}),
        ("", None),
        ("# nothing\n", None),
    ],
)
def test_what_is_merged_in_is_no_duplicate(tmp_path: Path, text: str, content: Any) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(text, encoding="utf-8")
    assert read_yaml("flag", str(file)).content == content


BROKEN = [
    ("a: [1\n", "is not valid YAML: line 2, column 1"),
    ("a: 1\n---\nb: 2\n", "is not valid YAML: line 2, column 1"),
    ("a: \x01\n", "is not valid YAML: line 1 has the control character U+0001"),
    ("? [a]\n: 1\n", "line 1: a list or a mapping is no key"),
    ("a: !!int many\n", "holds a value that can't be read"),
    ("a: !!int ''\n", "holds a value that can't be read"),
    ("- 1\n", "must map flags to values"),
    ("a: ${x\n", "correct it"),
    ("mephisto: &a {blueprint: {<<: *a}}\n", "contains itself"),
    (MERGES, "the merges (<<) make more than 10,000 keys"),
    (NESTED_MERGES, "the merges (<<) make more than 10,000 keys"),
    (
        "mephisto: {provider: mock}\n",
        "'mephisto.provider' is chosen in the list 'defaults', as  - /mephisto/provider: mock",
    ),
    ("mephisto: 5\n", "'mephisto' is a group of flags"),
    ("defaults: {a: b}\n", "'defaults' must be a list"),
]
"""Files that can't be used, and what is said of each."""


@pytest.mark.parametrize(("text", "problem"), BROKEN)
def test_a_broken_file_is_said_where_it_is_used(tmp_path: Path, text: str, problem: str) -> None:
    used = faults(tmp_path, "conf=broken", broken=text)
    assert len(used) == 1
    assert problem in used[0]
    assert "conf=broken: '" in used[0]


def test_broken_files_are_said_where_others_are_made_of_them_and_nowhere_else(tmp_path: Path) -> None:
    broken = {f"broken{number}": text for number, (text, _) in enumerate(BROKEN)}
    whole = HEAD + "mephisto: {blueprint: {num_turns: 2}}\n"
    assert composed(tmp_path, mine=whole, **broken).mephisto.blueprint.num_turns == 2
    (tmp_path / "one").mkdir()
    said = faults(tmp_path / "one", mine="defaults: [broken]\n", broken=BROKEN[0][0])[-1]
    assert said == faults(tmp_path / "one", "conf=broken")[0]


def test_what_early_files_do_not_choose_is_said_with_how(tmp_path: Path) -> None:
    early = "#@package _global_\nmephisto:\n  blueprint: {num_turns: x, idiom: fi}\n  task: {task_name: early}\n"
    assert sorted(faults(tmp_path, "mephisto/provider=mock", mine=early)) == [
        f"conf=mine: {tmp_path}/conf/mine.yaml makes no choice of blueprint, architect and provider; put at its top:  "
        "defaults: [/mephisto/blueprint: model_chat_blueprint, /mephisto/architect: local, /mephisto/provider: mock]",
        f"{B}.idiom: there is no such flag (line 3 of {tmp_path}/conf/mine.yaml); see --help for what there is.",
        f"{B}.num_turns: 'x' is not a whole number; give a whole number (line 3 of {tmp_path}/conf/mine.yaml).",
    ]
    # What the sentence says is taken.
    line = faults(tmp_path, mine=early)[0].partition("its top:  ")[2]
    good = early.replace("#@package", f"{line}\n#@package").replace("num_turns: x, idiom: fi", "num_turns: 3")
    assert composed(tmp_path, mine=good).mephisto.blueprint.num_turns == 3
    image = "mephisto: {blueprint: {stack_folder: stack}}\n"
    assert "/mephisto/blueprint: model_image_chat_blueprint" in faults(tmp_path, mine=image)[0]


def test_all_unknown_flags_are_named_with_those_on_the_command_line(tmp_path: Path) -> None:
    unknown = "    completed_runs: 1\n    num_trns: 2\n  tasks:\n    task_reward: 1\n    zz: {a: 1}\ntop: 1\n"
    text = HEAD + "mephisto:\n  blueprint:\n" + unknown
    found = faults(tmp_path, "mephisto.blueprint.start_language=fi", "mephisto.provider=mock", mine=text)
    place = f"of {tmp_path}/conf/mine.yaml)"
    assert sorted(found) == sorted(
        [
            "mephisto.provider=mock: is chosen with a slash; write mephisto/provider=mock",
            f"{B}.start_language: there is no such flag; see --help for what there is.",
            f"{B}.completed_runs: there is no such flag (line 8 {place}; see --help for what there is.",
            f"{B}.num_trns: there is no such flag (line 9 {place}; did you mean {B}.num_turns?",
            f"mephisto.tasks.task_reward: there is no such flag (line 11 {place}; did you mean mephisto.task.task_reward?",
            f"mephisto.tasks.zz.a: there is no such flag (line 12 {place}; see --help for what there is.",
            f"top: there is no such flag (line 13 {place}; see --help for what there is.",
        ]
    )


def test_a_flag_of_another_choice_is_said_to_be_one() -> None:
    with pytest.raises(ConfigurationError) as error:
        compose_config("example", [f"{B}.num_conversations=3", "mephisto.architect.profile_name=x"])
    assert error.value.faults == (
        f"{B}.num_conversations: is a flag of mephisto/blueprint=model_image_chat_blueprint, and this run has "
        "mephisto/blueprint=model_chat_blueprint; remove it, or choose the other.",
        "mephisto.architect.profile_name: is a flag of mephisto/architect=ec2, and this run has mephisto/architect=local; "
        "remove it, or choose the other.",
    )


def test_a_diagnosis_changes_nothing_for_the_next(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/mine.yaml").write_text("mephisto: {blueprint: {nonsense: 1}}\n", encoding="utf-8")
    name = register("mine", tmp_path)
    first = diagnose(name, [])
    assert len(first.faults) == 2
    assert diagnose(name, []).faults == first.faults
