"""Parsers for tests/fuzz_with_atheris.py: files and flags of requesters, and records.

Each target reads one input; anything but the errors that it names is a crash.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Callable
from typing import Any

import httpx
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from model_chat import compat as compat
from model_chat.agents._model_files import parse_template_args
from model_chat.agents.endpoint_settings import settings_faults
from model_chat.analysis import settings as analysis_settings
from model_chat.analysis.chunks import ChunkBuilder
from model_chat.analysis.measures import measure
from model_chat.analysis.plan import planned, read_plan
from model_chat.configuration.lists import ids_of, read_ids, split_list
from model_chat.configuration.study_design import parse_study_design
from model_chat.configuration.study_flow import parse_study_flow
from model_chat.configuration.text_files import check_texts
from model_chat.configuration.yaml_files import read_yaml
from model_chat.conversation.allocation import AllocationError, replay
from model_chat.crowd.money import to_minor
from model_chat.crowd.panels import panel_faults
from model_chat.crowd.prolific_api import address_fault
from model_chat.dashboard.blinding import Names
from model_chat.dashboard.entries import entry_of
from model_chat.dashboard.listing import read_whole as read_listed
from model_chat.dashboard.store import Listed
from model_chat.exports import settings as export_settings
from model_chat.exports.messages import exported
from model_chat.exports.selection import Consent, Selected
from model_chat.launch.recovered_annotations import annotation_of, judged_of, shown_as_said
from model_chat.launch.recovered_answers import add_answers, answers_of, flow_of, may_keep
from model_chat.launch.recovered_authenticity import add_authenticity
from model_chat.launch.recovered_comparisons import comparisons_of, cost_of_unjudged, is_judged_to_the_end
from model_chat.launch.recovery import dialog_of
from model_chat.records.conversation_logs import LogError, log_of_line, read_logs
from model_chat.records.forget import _Change
from model_chat.records.forget_annotations import Copies, _blueprint
from model_chat.records.reading import Origin, Source, UnreadableError, read_conversation
from model_chat.records.schema import Utterance
from model_chat.router.addresses import faults_of_addresses
from model_chat.router.public_address import parse_public_url
from model_chat.scripts import manage_workers
from model_chat.serving.catalogue import ModelSource, opt_faults
from model_chat.tests.crowd.test_panels import CODES, config
from model_chat.tests.designs import MIXED, design_of
from model_chat.tests.fuzz_inputs import FOLDER, as_json, file_of, sentences, text_of, tried
from model_chat.tests.test_fuzz_studies import FLOW

ANALYSIS = analysis_settings.settings_from(
    analysis_settings.add_flags(argparse.ArgumentParser()).parse_args(
        ["--results-folders", str(FOLDER), "--output-folder", str(FOLDER)]
    )
)


_COMPARISON = (
    b'{"left": {"model_nickname": "a", "text": "x"}, "right": {"model_nickname": "b"}, "pick": "left", "turn_idx": 1}'
)


def studies(data: bytes) -> None:
    """Study flows with their consent and demographics pages, designs, plans, texts in another language."""
    text, path = text_of(data), str(file_of(data, "study.yaml"))
    tried(
        lambda: parse_study_flow("study_flow_path", "f.yaml", text),
        lambda: parse_study_design("design_path", "d.yaml", text),
        lambda: planned(read_plan(path)),
        lambda: read_yaml("--conf", path),
        lambda: check_texts("texts_path", "t.json", text),
    )


def panel_flags(data: bytes) -> None:
    """Addresses, hosts, parameters and codes in flags."""
    text = text_of(data)
    tried(lambda: parse_public_url(text), lambda: parse_public_url(f"https://{text}"))
    for address in (text, f"https://{text}"):
        if address_fault("api_url", address) is None:
            httpx.Request("GET", f"{address}/api")  # what is not refused can be asked
    with contextlib.suppress(OmegaConfBaseException):  # an interpolation, which Hydra refuses
        for flags in (
            {"completion_url": f"https://h/{text}"},
            {"completion_url": text, "participant_param": text},
            {
                "verify_links": True,
                "link_audience": f"https://{text}",
                "link_keys_url": f"https://{text}",
                "link_issuer": text,
            },
        ):
            sentences(panel_faults(config("prolific", {**CODES, "no_work": text}, **flags)))
    with contextlib.suppress(OmegaConfBaseException):
        places = OmegaConf.create({"bind_address": text, "allowed_hosts": text, "trusted_proxies": text})
        sentences(faults_of_addresses(places))


def endpoint_settings(data: bytes) -> None:
    """Settings of models: of an endpoint, `model.opt`, arguments of a chat template."""
    sent = as_json(data)
    given = sent if isinstance(sent, dict) else {"base_url": sent}
    for settings in (given, {"base_url": "http://127.0.0.1/v1", "endpoint_model": "m", **given}):
        sentences(settings_faults("flag", settings))
    if not settings_faults("flag", {"base_url": text_of(data), "endpoint_model": "m"}):
        httpx.Request("POST", f"{text_of(data).rstrip('/')}/chat/completions")
    file_of(data, "model.opt")
    source = ModelSource("m", FOLDER)
    sentences(opt_faults("flag", source))
    source.is_endpoint  # noqa: B018 (reads the file)
    tried(lambda: parse_template_args(text_of(data)))


def logs(data: bytes) -> None:
    """Existing conversations, of every format, that are to be judged."""
    whole = json.dumps(as_json(data)).encode()
    for line in (data, *(b'{"%b": %b}' % (key, whole) for key in (b"messages", b"conversations", b"dialog"))):
        with contextlib.suppress(LogError, UnreadableError):
            log_of_line(line, "name")
    tried(lambda: read_logs("logs_path", file_of(data, "logs.jsonl")))


def records(data: bytes) -> None:
    """A file of a conversation: its place in the analysis, in the dashboard and in the exports."""
    sent = as_json(data)
    good = {
        "dialog": [{"agent_idx": 0, "text": "Hi.", "id": "S"}, {"agent_idx": 1, "text": "Ho.", "id": "T"}],
        "workers": ["w"],
        "task_description": {"model_nickname": "a|b"},
        "status": "complete",
    }
    whole = {**good, **sent} if isinstance(sent, dict) else {**good, "answers": sent, "comparisons": sent}
    task = {
        **good,
        "task_description": {"model_nickname": "a", "annotations_config": text_of(data), "study_flow": text_of(data)},
    }
    for content in (data, json.dumps(whole).encode(), json.dumps(task).encode()):
        source = Source(str(file_of(content, "record.json")), Origin.FILE)
        with contextlib.suppress(UnreadableError):
            conversation = read_conversation(source)
            entry = entry_of(conversation, source)
            json.dumps(read_listed(Listed("a1", entry, None), Names(False), []))
            counted = measure(conversation, ANALYSIS.problem_buckets, frozenset(ANALYSIS.problem_buckets), {})
            builder = ChunkBuilder(ANALYSIS, {})
            builder.add(source, conversation, counted)
            builder.chunk()
            chosen = Selected(conversation, source, counted.digest, Consent.NOT_RECORDED)
            json.dumps(exported(chosen, None).metadata).encode()


def recovery(data: bytes) -> None:
    """Journals of a study whose run was killed, and of who gets which conditions."""
    sent = as_json(data)
    messages = [entry for entry in (sent if isinstance(sent, list) else [sent]) if isinstance(entry, dict)]
    messages += [{"update_id": "u", "text": "x", "id": "S", "task_data": sent}]
    generations = sent if isinstance(sent, dict) else {}
    dialog = dialog_of(messages, {name: one for name, one in generations.items() if isinstance(one, dict)})
    shown_as_said(dialog)
    for entry in comparisons_of(messages, generations):
        json.dumps(entry)
    cost_of_unjudged(messages, generations)
    is_judged_to_the_end(messages)
    answers_of(messages)
    head = sent if isinstance(sent, dict) else {}
    flow = flow_of(head)
    may_keep(flow, messages)
    judged_of(head)
    annotation_of({"control": "annotated", **head}, {0: Utterance(agent_idx=1, text="x", id="y")})
    saved = {"dialog": dialog, "status": "incomplete", "reason": "run died", "authenticity": []}
    json.dumps(add_authenticity(add_answers(saved, FLOW_READ, messages), messages))
    with contextlib.suppress(AllocationError):
        replay(DESIGN, messages)


FLOW_READ = parse_study_flow("study_flow_path", "f.yaml", FLOW)
DESIGN = design_of(MIXED % ("latin_square", 2))


def forgetting(data: bytes) -> None:
    """Files in which a worker is to be forgotten."""
    whole = json.dumps(as_json(data)).encode()
    for content in (data, whole):
        for delete in (False, True):
            change = _Change({"worker": "forgotten", "taken": "forgotten"}, dry_run=False, delete=delete)
            for act in (change.conversation, change.allocation, change.logs, change.stack):
                act(file_of(content, "forget.jsonl"))
            for name in ("agent_data.json", "state.json", "journal.jsonl", "agent_meta.json"):
                file_of(content, name)
            change.state(FOLDER)
        copies = Copies({"worker"}, dry_run=False)
        for name in ("state.json", "journal.jsonl", "judgments.jsonl", "judge_log.jsonl", "logs.jsonl"):
            file_of(content, name)
        copies.find([], [FOLDER / "logs.jsonl"])
        copies.empty_states([FOLDER])
        copies.remove_judgments(FOLDER)
        copies.remove_logs([FOLDER / "logs.jsonl"])
    _blueprint(text_of(data))
    _blueprint(json.dumps(text_of(data)))


def _options(module: Any, data: bytes) -> argparse.Namespace:
    """The flags of a command whose values are an input, as far as argparse takes them."""
    parser = module.add_flags(argparse.ArgumentParser(exit_on_error=False))
    parts = text_of(data).replace("\0", "").split("\n")
    taken = [action for action in parser._actions if action.option_strings and action.nargs is None]
    words = [f"{taken[number % len(taken)].option_strings[-1]}={part}" for number, part in enumerate(parts)]
    names = {action.option_strings[-1].split("=")[0] for action in taken if action.required}
    words += [f"{name}={FOLDER}" for name in sorted(names) if not any(word.startswith(f"{name}=") for word in words)]
    parser.set_defaults(output_folder=str(FOLDER))
    options: argparse.Namespace = parser.parse_args(words)
    return options


def flags(data: bytes) -> None:
    """Flags of the analysis, the exports and the other commands: lists, days, numbers, amounts of money, files of ids."""
    text = text_of(data)
    path = str(file_of(data, "ids.txt"))
    for module in (analysis_settings, export_settings):
        with contextlib.suppress(argparse.ArgumentError, SystemExit):
            tried(lambda module=module: module.settings_from(_options(module, data)))  # type: ignore[misc]  # bound here
    tried(lambda: split_list("flag", text), lambda: read_ids("flag", path), lambda: ids_of("flag", f"a,@{path}"))
    with contextlib.suppress(ValueError):
        to_minor(text)
    with contextlib.suppress(SystemExit), contextlib.redirect_stderr(None):
        manage_workers.make_parser().parse_args(["bonus", "--task-name", "t", *text.replace("\0", "").split("\n")])


TARGETS = (studies, panel_flags, endpoint_settings, logs, records, recovery, forgetting, flags)
SEEDS: dict[Callable[[bytes], None], tuple[bytes, ...]] = {
    studies: (
        FLOW.encode(),
        (MIXED % ("latin_square", 2)).encode(),
        b"workers: [20]\nmeasures: [{kind: rate, name: m, value: 0.6, difference: 0.1, sd_worker: 0.1}]\n",
        b'{"language": "de", "page": {"send": "Senden"}}',
    ),
    panel_flags: (b"h:80/x?a={code}", b"10.0.0.0/8, study.example.org"),
    endpoint_settings: (
        b'{"model": "m", "base_url": "http://h/v1", "endpoint_model": "x", "headers_env": {"a": "B"}}',
    ),
    logs: (
        b'[{"role": "user", "content": [{"type": "text", "text": "Hi"}]}, {"role": "assistant", "content": "Ho"}]',
        b'[{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]',
        b'[[{"id": "a", "text": "Hi"}, {"id": "b", "text": "Ho"}]]',
        b'{"id": "1", "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}',
    ),
    records: (
        b'{"comparisons": ['
        + _COMPARISON
        + b'], "conditions": {"model": "a"}, "answers": [{"page": "p", "item": "i", "value": 1}]}',
        b'{"authenticity": [{"utterance_idx": 0, "characters": 3, "keys": 3}], "attention_checks": [{"passed": false}]}',
        b"pages: [{id: a, kind: questions, items: [{id: b, kind: text, question: C}]}]",
        b'{"config": {"a": {"name": "A"}}}',
    ),
    recovery: (
        b'[{"task_data": {"control": "page_done", "page": "about", "answers": {"age": "young"}}, "update_id": "u"}]',
        b'[{"event": "start", "design": "d"}, {"event": "arrive", "worker_id": "w", "sequence": [0, 1]}]',
        b'{"judged_conversation": {"sha256": "x"}, "workers": ["w"], "study_flow": "pages: []"}',
    ),
    forgetting: (
        b'{"workers": ["worker"], "dialog": [], "judged_conversation": {"sha256": "x"}}',
        b'{"metadata": {"worker": "worker"}, "messages": [{"role": "user", "content": "Hi"}]}',
        b'{"outputs": {"messages": [{"WORLD_DATA": {"custom_data": {"workers": ["worker"]}}}]}}',
    ),
    flags: (b"a,b\n2026-11-25\n3", b'"a, b",c\n1e3'),
}
