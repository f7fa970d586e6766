"""Fuzzing that follows the code's branches, of every parser that reads what a worker, a file or a requester sends.

    pip install atheris                                    not one of the locked packages: Linux and CPython up to 3.13 only
    python tests/fuzz_with_atheris.py --seconds 600        [--only NAME: one parser] [--corpus FOLDER: kept between runs]

Ends with an error and the input that caused it if a parser answers in another way than it promises. The quick form of the
same is tests/test_fuzz.py.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import logging
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

try:
    import atheris
except ImportError:
    sys.exit("atheris is not installed; do 'pip install atheris' in a virtual environment of your own.")

with atheris.instrument_imports(include=["model_chat"]):
    from model_chat import compat as compat  # the patches, before mephisto is imported
    from model_chat.configuration import redaction
    from model_chat.configuration.annotations import parse_annotations
    from model_chat.configuration.onboarding import OnboardingConfig, load_onboarding
    from model_chat.configuration.redaction import learn_secrets, redacted, redacted_flags, without_secrets
    from model_chat.conversation.incoming import Accepted, Expected, RefusedError, check_packet
    from model_chat.errors import ConfigurationError
    from model_chat.images._journal import read_journal as read_stack_journal
    from model_chat.launch.recovery import dialog_of
    from model_chat.quality.attention import AttentionConfig, load_attention_checks
    from model_chat.quality.block_lists import read_block_lists
    from model_chat.quality.onboarding import read_answers
    from model_chat.records.journal import read_journal
    from model_chat.records.reading import ReadConversation, UnreadableError, parse_conversation
    from model_chat.serving.catalogue import models_in_opt_file, parse_conversations_needed
    from model_chat.tests import fuzz_files, fuzz_sent
    from model_chat.tests.fuzz_inputs import FOLDER, as_json, file_of
    from model_chat.tests.scripted_human import BUCKETS, message

ONBOARDING = OnboardingConfig.model_validate(
    {
        "dialog": [[{"agent_idx": 0, "text": "Hi"}, {"agent_idx": 1, "text": "Ho", "answers": ["bucket_0"]}]],
        "min_correct": 1,
        "max_incorrect": 0,
        "max_failures_allowed": 1,
    }
)
ATTENTION = AttentionConfig.model_validate({"checks": [{"turn": 1, "text": "Say yes.", "expect": ["yes"]}]})


def packet(data: bytes) -> None:
    """What a page sends in its turn, with and without a proper frame."""
    sent = as_json(data)
    for whole in (sent, message(sent, None), message("Hello there.", sent), message("Hello.", None, timing=sent)):
        for ratings in (0, 2):
            with contextlib.suppress(RefusedError):
                accepted = check_packet(whole, Expected(BUCKETS, ratings, 50, turn_idx=0), frozenset({"taken"}))
                if isinstance(accepted, Accepted):
                    json.dumps([accepted.text, accepted.message_id]).encode("utf-8")


def answers(data: bytes) -> None:
    """What a page sends in onboarding, and to an attention check."""
    sent = as_json(data)
    for whole in (sent, {"task_data": {"message_id": "m", "onboarding_answers": sent}}):
        with contextlib.suppress(RefusedError):
            read_answers(whole, ONBOARDING, BUCKETS)
    ATTENTION.checks[0].result(data.decode("utf-8", "replace"), None)


def conversation(data: bytes) -> None:
    """A file of conversations."""
    with contextlib.suppress(UnreadableError):
        if not isinstance(parse_conversation(as_json(data)), ReadConversation):
            raise TypeError


def journals(data: bytes) -> None:
    """The journals of an agent and of an image stack."""
    messages = [entry.get("message") for entry in read_journal(file_of(data, "journal.jsonl"))]
    dialog_of(entry for entry in messages if isinstance(entry, dict))
    with contextlib.suppress(ConfigurationError):
        read_stack_journal(file_of(data, "stack.journal"))


def files(data: bytes) -> None:
    """A requester's files and flags."""
    text = data.decode("utf-8", "replace")
    path = str(file_of(data, "file"))
    readers: list[Callable[[], Any]] = [
        lambda: parse_annotations("flag", "file", text),
        lambda: load_onboarding("flag", path, BUCKETS),
        lambda: load_attention_checks(path, 6, BUCKETS),
        lambda: read_block_lists(path),
        lambda: models_in_opt_file("flag", path),
        lambda: parse_conversations_needed("flag", text),
    ]
    for read in readers:
        with contextlib.suppress(ConfigurationError):
            read()


def secrets(data: bytes) -> None:
    """Texts from which keys are taken."""
    text = data.decode("utf-8", "replace")
    redacted(text)
    redacted_flags(text)
    without_secrets(as_json(data))
    if len(text) > 40:
        learn_secrets({"password": text[:20]})
        redaction._known = redaction._Known()  # else it would look for ever more of them


TARGETS = (packet, answers, conversation, journals, files, secrets, *fuzz_files.TARGETS, *fuzz_sent.TARGETS)
SEEDS: dict[Callable[[bytes], None], tuple[bytes, ...]] = {
    packet: (b'{"text": "Hi", "task_data": {"message_id": "m", "turn_idx": 0, "final_rating": [1, 5]}}',),
    answers: (b'[[null, ["bucket_0"]]]',),
    conversation: (
        b'{"dialog": [{"agent_idx": 0, "id": "S", "text": "x", "problem_data": {"b": true}, "final_rating": "4|5"}], '
        b'"workers": ["w"], "task_description": {"model_nickname": "a"}, "status": "complete", "personas": [["a"], ["b"]]}',
    ),
    journals: (
        b'{"message": {"update_id": "u", "text": "x", "id": "S", "task_data": {"agent_idx": 0, "message_id": "m"}}}\n',
    ),
    files: (
        b'{"config": [{"value": "bucket_0", "name": "B", "description": "d"}]}',
        b"nick:3,other:4",
        b"a: --model fixed_response\n",
    ),
    secrets: (b"--api-key abc https://me:pw@host sk-abcdefghijklmnop0123456789",),
    **fuzz_files.SEEDS,
    **fuzz_sent.SEEDS,
}


def one(data: bytes, targets: Sequence[Callable[[bytes], None]] = TARGETS) -> None:
    """Give an input to the parser that its first byte names."""
    if data:
        targets[data[0] % len(targets)](data[1:])


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument(
        "--only", metavar="NAME", choices=[target.__name__ for target in TARGETS], help="one of the parsers"
    )
    parser.add_argument("--corpus", type=Path, help="folder of inputs; what is new goes into it")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    corpus = options.corpus or FOLDER / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    targets = [target for target in TARGETS if options.only in (None, target.__name__)]
    for number, target in enumerate(targets):
        for seed in SEEDS.get(target, (b"{}",)):
            name = hashlib.sha256(seed).hexdigest()[:16]
            (corpus / f"seed-{target.__name__}-{name}").write_bytes(bytes([number]) + seed)
    flags = [f"-max_total_time={options.seconds}", "-max_len=4096", "-timeout=20", f"-artifact_prefix={FOLDER}/"]
    atheris.Setup([sys.argv[0], *flags, str(corpus)], partial(one, targets=targets))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
