"""Keys and passwords stay out of what is written."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from model_chat.configuration import redaction
from model_chat.configuration.redaction import (
    REDACTED,
    keep_secrets_out,
    learn_flags,
    learn_secrets,
    redacted,
    redacted_flags,
    without_known,
    without_known_so_far,
    without_secrets,
)
from model_chat.errors import ConfigurationError
from model_chat.launch.logs import set_up_logging
from model_chat.serving.catalogue import ModelSource, choose_sources, models_in_opt_file, opt_faults
from model_chat.serving.loading import load_model
from model_chat.serving.opt_export import exportable_opt


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_known", redaction._Known())


@pytest.mark.parametrize(
    "key",
    [
        "sk-proj-abcDEF0123456789abcdef",
        "hf_" + "aB3" * 12,
        "ghp_" + "aB3" * 12,
        "AKIAABCDEFGHIJKLMNOP",
        "AIza" + "x" * 35,
        "xoxb-1234567890-abcdefghij",
    ],
)
def test_what_looks_like_a_key_is_replaced_wherever_it_stands(key: str) -> None:
    assert redacted(f"wrong key {key}, try again") == f"wrong key {REDACTED}, try again"
    assert exportable_opt({"endpoint": f"x?key={key}"}) == {"endpoint": f"x?key={REDACTED}"}


@pytest.mark.parametrize(
    "text",
    [
        "hf-internal-testing/tiny-random-gpt2",
        "facebook/blenderbot-400M-distill",
        "sk-learn-like-bag-of-words-model",
        "/data/models/hf_blender_small/model",
        "https://host.example:8080/v1/models",
        "The secret is in the password.",
        "mail me@host.example",
        "a bearer of news",
    ],
)
def test_what_is_none_stays(text: str) -> None:
    assert redacted(text) == text


def test_passwords_in_addresses_and_bearers_are_replaced() -> None:
    assert redacted("postgres://me:pw@db/x") == f"postgres://{REDACTED}@db/x"
    assert redacted("Authorization: Bearer abcdefghijklmnop.qr") == f"Authorization: Bearer {REDACTED}"


def test_a_secret_that_was_given_is_known_in_any_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STUDY_API_KEY", "from-the-environment")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path))  # a place, not a secret
    monkeypatch.setenv("PGPASSWORD", "postgres")  # a word, which a model may say
    learn_secrets(
        {"password": "longer-than-both", "deep": [{"headers": {"Authorization": "longer-than"}}], "token": "ab"}
    )
    said = f"longer-than longer-than-both from-the-environment {tmp_path} ab postgres"
    assert without_known(said) == f"{REDACTED} {REDACTED} {REDACTED} {tmp_path} ab postgres"


def test_flags_keep_their_names() -> None:
    flags = "--model hosted --api-key 'kq83 model key' --access-token=abc --temperature 0.7 --api_key -x"
    assert redacted_flags(flags) == (
        f"--model hosted --api-key {REDACTED} --access-token={REDACTED} --temperature 0.7 --api_key -x"
    )
    learn_flags(flags)
    assert without_known("the kq83 model key is wrong") == f"the {REDACTED} is wrong"


def test_a_model_that_can_not_be_loaded_tells_its_reason_without_its_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as error:
        load_model(ModelSource("a", flags="--model fixed_response --api-key kq83-model-key"), model_parallel=False)
    assert "can't be loaded from the flags" in str(error.value)
    assert "kq83" not in str(error.value)
    path = tmp_path / "opts.yaml"
    path.write_text("a:\n  api_key: kq83-model-key\n  model: hosted\n", encoding="utf-8")
    said = " ".join(opt_faults("flag", models_in_opt_file("flag", str(path))["a"]))
    assert "unknown key 'api_key'" in said
    assert "kq83" not in said
    path.write_text("a:\n- api_key: kq83-model-key\n", encoding="utf-8")
    with pytest.raises(ConfigurationError) as error:
        models_in_opt_file("flag", str(path))
    assert "settings of an endpoint, not [{'api_key': '[secret]'}]" in str(error.value)


def test_what_a_model_is_given_is_known_before_it_is_loaded_wherever_it_will_run(tmp_path: Path) -> None:
    (tmp_path / "model.opt").write_text('{"model": "hosted", "api_key": "kq83-model-key"}', encoding="utf-8")
    sources = {"a": ModelSource("a", folder=tmp_path), "b": ModelSource("b", flags="--password flag-0a1b2c3d")}
    choose_sources({"a": 1, "b": 1}, sources, "flag", "nowhere")
    assert redacted("kq83-model-key, flag-0a1b2c3d") == f"{REDACTED}, {REDACTED}"


def test_mephistos_database_gets_a_runs_configuration_without_secrets(mephisto_run: Any) -> None:
    db, run = mephisto_run.db, mephisto_run.task_run
    before = db.new_task_run
    keep_secrets_out(db)
    try:
        given = {
            "architect": {"heroku_config_args": {"API_KEY": "kq83-model-key", "MODE": "1"}},
            "task": {"reward": 0.5},
        }
        stored = json.dumps(yaml.safe_dump(given))
        run_id = db.new_task_run(run.task_id, run.requester_id, stored, "mock", run.task_type)
    finally:
        db.new_task_run = before
    kept = yaml.safe_load(json.loads(db.get_task_run(run_id)["init_params"]))
    assert kept == {"architect": {"heroku_config_args": {"API_KEY": REDACTED, "MODE": "1"}}, "task": {"reward": 0.5}}
    assert without_known("kq83-model-key") == REDACTED


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    root, models = logging.getLogger(), logging.getLogger("model_chat")
    before = root.handlers[:], root.level, models.level
    stream = io.StringIO()
    try:
        set_up_logging("info", Console(file=stream))
        yield stream
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])
        models.setLevel(before[2])
        logging.captureWarnings(False)


def test_log_lines_hold_no_secret_in_tracebacks_either(log: io.StringIO) -> None:
    learn_secrets({"api_key": "kq83-model-key"})
    try:
        raise RuntimeError("refused: kq83-model-key")
    except RuntimeError:
        logging.getLogger("model_chat.x").exception("A model with %s failed", {"key": "kq83-model-key"})
    assert "kq83" not in log.getvalue()
    assert log.getvalue().count(REDACTED) >= 2


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.just("api_key"), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_configuration_keeps_its_shape_and_is_left_alone_the_second_time(value: Any) -> None:
    once = without_secrets(value)
    assert without_secrets(once) == once
    if isinstance(value, dict):
        assert list(once) == list(value)


SECRET = "kq83-model-key"


@pytest.mark.parametrize("end", range(1, len(SECRET) + 1))
def test_of_a_text_that_grows_no_beginning_of_a_secret_is_shown(end: int) -> None:
    learn_secrets({"api_key": SECRET})
    shown = "It is " if end < len(SECRET) else f"It is {REDACTED}"
    assert without_known_so_far(f"It is {SECRET[:end]}") == shown


@pytest.mark.parametrize("text", ["", "It is kq83-modem", "kq83-model-keg, kq83.", "It is tea."])
def test_what_only_looks_like_the_beginning_of_a_secret_is_shown(text: str) -> None:
    learn_secrets({"api_key": SECRET})
    assert without_known_so_far(text) == text


@given(st.text(), st.integers(min_value=0))
def test_a_text_that_grows_never_shows_more_than_it_will(text: str, cut: int) -> None:
    learn_secrets({"api_key": SECRET})
    whole = f"{text}{SECRET}{text}"
    shown = without_known_so_far(whole[: cut % (len(whole) + 1)])
    assert without_known(whole).startswith(shown)
    assert without_known(shown) == shown


@given(st.text())
def test_any_text_can_be_redacted_and_flags_as_well(text: str) -> None:
    learn_secrets({"password": text})
    assert isinstance(redacted(text), str)
    assert isinstance(redacted_flags(text), str)
