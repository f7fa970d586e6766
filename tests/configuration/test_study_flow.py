"""The study flow's file: what is read, and every fault with its line, all at once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from model_chat.configuration.places import ROOT
from model_chat.configuration.study_flow import PAGES, load_study_flow, pages_around_chat, parse_study_flow
from model_chat.configuration.study_items import KINDS
from model_chat.errors import ConfigurationError

FLAG = "mephisto.blueprint.study_flow_path"
WHOLE = """\
pages:
  - id: consent
    kind: consent
    text: We study chat partners.
  - id: about_you
    kind: questions
    title: About you
    items:
      - {id: age_band, kind: choice, question: How old are you, options: [18-29, 30-49, 50+]}
      - {id: uses, kind: choice, question: What do you use, options: [phone, laptop], many: true, other: true}
      - {id: trained, kind: choice, question: Are you trained, options: [yes, no], required: no}
      - {id: years, kind: number, question: For how many years, min: 0, max: 80, show_if: {trained: yes}}
  - id: chat
    kind: chat
    every_reply:
      - {id: trust, kind: scale, question: Do you trust it, points: 7, low: not at all, high: fully, not_applicable: true}
      - {id: wrong, kind: highlight, question: What is wrong, required: false}
    last_reply:
      - {id: better, kind: text, question: What would be better, min_chars: 5, max_chars: 200}
  - id: after
    kind: questions
    shuffle: [items, options]
    items:
      - {id: warmth, kind: slider, question: How warm was it}
      - {id: order, kind: ranking, question: Order them., options: [tone, facts, speed]}
      - {id: ends, kind: best_worst, question: Best and worst, options: [tone, facts, speed]}
      - {id: agree, kind: matrix, question: Do you agree, rows: [It is kind., It is clever.], points: 5}
  - id: debrief
    kind: text
    text: Both were models.
    show_if: {age_band: [18-29, 30-49]}
"""


def test_the_example_of_the_page_is_a_flow() -> None:
    page = (ROOT / "docs/study-flow.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"<!-- example: study flow -->\n```yaml\n(.*?)```", page, flags=re.DOTALL)
    flow = parse_study_flow(FLAG, "flow.yaml", example)
    assert [page.id for page in flow.pages] == ["consent", "about_you", "chat", "after", "debriefing"]


def test_the_page_names_every_kind() -> None:
    page = (ROOT / "docs/study-flow.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)) == {*KINDS, *PAGES}


def faults(text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as refused:
        parse_study_flow(FLAG, "flow.yaml", text)
    return [fault.removeprefix(f"{FLAG}: 'flow.yaml', ") for fault in refused.value.faults]


def test_a_whole_flow_is_read(tmp_path: Path) -> None:
    path = tmp_path / "flow.yaml"
    path.write_text(WHOLE, encoding="utf-8")
    flow = load_study_flow(FLAG, str(path))
    assert [page.kind for page in flow.pages] == ["consent", "questions", "chat", "questions", "text"]
    assert (flow.chat_idx, flow.text) == (2, WHOLE)
    assert [item.kind for _, item in flow.items()] == [
        "choice",
        "choice",
        "choice",
        "number",
        "scale",
        "highlight",
        "text",
        "slider",
        "ranking",
        "best_worst",
        "matrix",
    ]
    assert pages_around_chat(str(path)) == 4


def test_texts_stay_as_they_are_written_and_switches_are_read() -> None:
    flow = parse_study_flow(FLAG, "flow.yaml", WHOLE)
    trained, years = flow.pages[1].all_items[2:]
    assert trained.options == ["yes", "no"]
    assert trained.required is False
    assert years.show_if == {"trained": ["yes"]}
    assert flow.pages[4].show_if == {"age_band": ["18-29", "30-49"]}


def test_options_that_yaml_would_take_for_numbers_stay_texts() -> None:
    flow = parse_study_flow(
        FLAG,
        "flow.yaml",
        "pages: [{id: a, kind: questions, items: [{id: x, kind: choice, question: 2, options: [007, 1:30, 1e3, 'no']}]},"
        " {id: c, kind: chat}]",
    )
    assert flow.pages[0].all_items[0].options == ["007", "1:30", "1e3", "no"]
    assert flow.pages[0].all_items[0].question == "2"


def test_shuffled_options_of_a_page_leave_items_without_options_alone() -> None:
    flow = parse_study_flow(FLAG, "flow.yaml", WHOLE)
    assert [item.shuffle for item in flow.pages[3].all_items] == [None, "options", "options", "options"]


def test_all_faults_are_said_at_once_each_with_its_line() -> None:
    text = """\
pages:
  - id: start
    kind: consent
    txt: Hello
  - id: start
    kind: questions
    items:
      - {id: a, kind: choice, question: A, options: [x, x]}
      - {id: b, kind: number, question: B, min: 9, max: 3}
      - {id: c, kind: stars, question: C}
      - {id: d, kind: scale, question: D, points: many}
      - {id: e, kind: text, question: E, min_chars: 9, max_chars: 3}
      - {id: f, kind: highlight, question: F}
      - {id: g, kind: scale, question: G, show_if: {h: 1}}
      - {id: h, kind: scale, question: H, show_if: {nobody: 1}}
      - {id: h, kind: text, question: H, colour: red}
      - {id: i, kind: scale, question: I, show_if: {h: 9}}
  - id: chat
    kind: chat
  - id: chat2
    kind: chat
    show_if: {h: 1}
extra: 1
"""
    assert faults(text) == [
        "line 2: 'text' is missing; add it.",
        "line 4: unknown key 'txt'; remove it or correct its spelling.",
        "line 5: duplicate page 'start'; rename one.",
        "line 8: duplicate option 'x'; remove or rename one.",
        "line 9: 'min' is 9 and 'max' 3; no number could be right.",
        "line 10: there is no kind of item 'stars'; give one of scale, choice, text, number, slider, ranking, best_worst, "
        "matrix, highlight.",
        "line 11: 'points' is 'many'; give a whole number.",
        "line 12: 'min_chars' is 9 and 'max_chars' 3; no text could be right.",
        "line 13: the kind 'highlight' is about a reply of the model; put the item under every_reply or last_reply of the "
        "chat.",
        "line 14: 'show_if': 'h' comes later or is the item itself; it can only look back.",
        "line 15: 'show_if': there is no item 'nobody'; correct its id.",
        "line 16: duplicate item 'h'; ids of items differ in the whole file, so rename one.",
        "line 16: unknown key 'colour'; remove it or correct its spelling.",
        "line 17: 'show_if': h: '9' can't be its answer; give a whole number from 1 to 5.",
        "line 20: there is a second page of the kind chat; a flow has one, so remove one of them.",
        "line 22: the chat can't have 'show_if', for every worker has one; remove it.",
        "line 23: unknown key 'extra'; remove it or correct its spelling.",
    ]


def test_a_fault_in_a_page_or_an_item_hides_none_that_involves_others() -> None:
    text = """\
pages:
  - id: start
    kind: questionnaire
    items:
      - {id: a, kind: scale, question: A, points: many}
      - {id: b, kind: stars, question: B, show_if: {later: 1}}
      - {id: 7b, kind: text, question: [B], show_if: {nobody: 1, a: 1}}
      - nothing
  - {id: start, kind: text, title: Start, show_if: {after: 1}}
  - id: chat
    kind: chat
    colour: red
    every_reply:
      - {id: a, kind: highlight, question: A, required: perhaps}
  - {id: end, kind: questions, shuffle: rows, items: [{id: later, kind: matrix, question: L, rows: [x, x], points: 12}]}
  - {id: after, kind: questions, items: [{id: after, kind: number, question: A, min: .inf, show_if: {a: 2}}]}
"""
    assert faults(text) == [
        "line 3: there is no kind of page 'questionnaire'; give one of consent, questions, chat, text.",
        "line 5: 'points' is 'many'; give a whole number.",
        "line 6: 'show_if': 'later' comes later or is the item itself; it can only look back.",
        "line 6: there is no kind of item 'stars'; give one of scale, choice, text, number, slider, ranking, best_worst, "
        "matrix, highlight.",
        "line 7: 'question' has 1 entry; give a text.",
        "line 7: 'show_if': there is no item 'nobody'; correct its id.",
        "line 7: the id '7b' must be letters, digits, '_' and '-', a letter first; rename it.",
        "line 8: an item is written as keys and values, 'id' and 'kind' among them.",
        "line 9: 'show_if': 'after' comes later or is the item itself; it can only look back.",
        "line 9: 'text' is missing; add it.",
        "line 9: duplicate page 'start'; rename one.",
        "line 12: unknown key 'colour'; remove it or correct its spelling.",
        "line 14: 'required' is 'perhaps'; give true or false.",
        "line 14: duplicate item 'a'; ids of items differ in the whole file, so rename one.",
        "line 15: 'points' is '12'; give at most 11.",
        "line 15: 'shuffle' is 'rows'; give 'items' or 'options'.",
        "line 16: 'min' is '.inf'; give a number.",
    ]


CHAT = "  - {id: chat, kind: chat}\n"


@pytest.mark.parametrize(
    ("pages", "said"),
    [
        ("  - {id: a, kind: text, text: Hi}\n", "line 1: there is no page of the kind chat"),
        ("  - {id: a, kind: text, text: Hi}\n  - {id: a, kind: text, text: Ho}\n" + CHAT, "line 3: duplicate page 'a'"),
        (
            "  - {id: a, kind: questions, items: [{id: x, kind: slider, question: X}]}\n"
            "  - {id: b, kind: questions, items: [{id: x, kind: slider, question: X}]}\n" + CHAT,
            "line 3: duplicate item 'x'",
        ),
        ("  - {id: a b, kind: text, text: Hi}\n" + CHAT, "line 2: the id 'a b' must be letters, digits"),
        ("  - {id: a, kind: questions, items: []}\n" + CHAT, "line 2: 'items' has 0 entries; give at least 1."),
        ("  - {id: a, kind: consent, text: ''}\n" + CHAT, "line 2: 'text' is empty; give a text."),
        ("  - 7\n" + CHAT, "line 2: a page is written as keys and values"),
        ("  - {id: a, text: Hi}\n" + CHAT, "line 2: 'kind' is missing"),
        ("  - {id: a, kind: text, text: Hi, show_if: {}}\n" + CHAT, "line 2: 'show_if' names no item"),
        (
            "  - {id: a, kind: questions, items: [{id: x, kind: choice, question: X, options: [y]}]}\n" + CHAT,
            "line 2: 'options': a choice of one option is none",
        ),
        (
            "  - {id: a, kind: questions, items: [{id: x, kind: scale, question: X, shuffle: options}]}\n" + CHAT,
            "line 2: 'shuffle': the kind 'scale' has no options to shuffle",
        ),
        (
            "  - {id: a, kind: questions, items: [{id: x, kind: number, question: X, max: .nan}]}\n" + CHAT,
            "line 2: 'max' is '.nan'; give a number.",
        ),
        (
            "  - {id: a, kind: questions, shuffle: items, items: [{id: x, kind: slider, question: X},\n"
            "     {id: y, kind: slider, question: Y, show_if: {x: 5}}]}\n" + CHAT,
            "line 3: 'show_if': 'x' may come later, for its page is shuffled",
        ),
        (
            "  - {id: a, kind: questions, items: [{id: x, kind: text, question: X},\n"
            "     {id: y, kind: slider, question: Y, show_if: {x: hello}}]}\n" + CHAT,
            "line 3: 'show_if': 'x' is of the kind text; use a choice, scale, number or slider",
        ),
        (
            "  - {id: chat, kind: chat, every_reply: [{id: x, kind: slider, question: X}]}\n"
            "  - {id: a, kind: text, text: Hi, show_if: {x: 5}}\n",
            "line 3: 'show_if': 'x' is asked of every reply, so it has no single answer",
        ),
        (
            "  - {id: a, kind: questions, items: [{id: x, kind: choice, question: X, options: [y, z]}]}\n"
            "  - {id: b, kind: text, text: Hi, show_if: {x: w}}\n" + CHAT,
            "line 3: 'show_if': x: 'w' is none of its options (y, z)",
        ),
    ],
)
def test_a_fault_is_found_with_its_line(pages: str, said: str) -> None:
    found = faults("pages:\n" + pages)
    assert len(found) == 1
    assert found[0].startswith(said)


def test_a_question_of_every_reply_may_be_looked_back_at_by_the_same_reply() -> None:
    flow = parse_study_flow(
        FLAG,
        "flow.yaml",
        "pages:\n  - id: chat\n    kind: chat\n    every_reply: [{id: x, kind: scale, question: X}]\n"
        "    last_reply: [{id: y, kind: text, question: Y, show_if: {x: 1}}]\n",
    )
    assert flow.chat.last_reply[0].show_if == {"x": [1]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it needs 'pages'"),
        ("pages: 7", "it needs 'pages'"),
        ("pages: []", "it needs 'pages'"),
        ("pages: [}", "is not valid YAML: line 1"),
        ("pages:\n  - {id: a, id: b, kind: chat}", "line 2: duplicate key 'id'"),
        ("pages: &a [*a]", "an alias (*name) refers to what it is part of"),
        ("pages: [!!binary aGk=]", "a value of the type tag:yaml.org,2002:binary is not read here"),
        ("pages: !!bool x", "holds a value that can't be read"),
        ("pages: !!int many", "holds a value that can't be read"),
        ("[" * 3000, "nested too deeply"),
    ],
)
def test_what_is_no_flow_is_said(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse_study_flow(FLAG, "flow.yaml", text)
    assert len(refused.value.faults) == 1
    assert said in refused.value.faults[0]


def test_aliases_of_aliases_are_refused_before_they_fill_the_memory() -> None:
    text = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdef", "bcdefg", strict=True)
    )
    with pytest.raises(ConfigurationError, match="holds more than 20,000 values"):
        parse_study_flow(FLAG, "flow.yaml", text)
