"""A model's opt as it is saved: JSON only, and no secrets."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parlai.core.opt import Opt

from model_chat.serving.opt_export import exportable_opt, is_secret

SECRETS = [
    "api_key",
    "apikey",
    "API-KEY",
    "openai_api_key",
    "OPENAI_API_KEY",
    "openaiApiKey",
    "x-api-key",
    "access_key",
    "aws_secret_access_key",
    "aws_access_key_id",
    "private_key",
    "secret",
    "client_secret",
    "clientSecret",
    "secret_token",
    "password",
    "db_password",
    "dbPassword",
    "userpassword",
    "passwd",
    "passphrase",
    "credentials",
    "aws_credential",
    "token",
    "auth_token",
    "access_token",
    "accessToken",
    "hf_token",
    "api_token",
    "bearer_token",
    "refresh_token",
    "authorization",
    "Authorization",
]
KEPT = [
    "max_new_tokens",
    "tokenizer",
    "tokens",
    "text_truncate",
    "dict_tokenizer",
    "bpe_add_prefix_space",
    "num_token_embeddings",
    "eos_token",
    "special_tok_lst",
    "key_dim",
    "keyboard",
    "secretary_bot",
    "history_add_global_end_token",
    "hugging_face_skip_special_tokens",
    "model",
    "model_file",
    "passes",
    "fixed_response",
    "temperature",
    "beam_size",
    "init_model",
    "datapath",
]


@pytest.mark.parametrize("key", SECRETS)
def test_a_secret_is_left_out_at_any_depth(key: str) -> None:
    assert is_secret(key)
    opt = {
        key: "sk-123",
        "deep": {key: "sk-123", "list": [{key: "sk-123", "kept": 1}, ({key: "sk-123"},)], "kept": 2},
        "override": {key: {"nested": "sk-123"}},
    }
    saved = exportable_opt(opt)
    assert "sk-123" not in json.dumps(saved)
    assert saved == {"deep": {"list": [{"kept": 1}, [{}]], "kept": 2}, "override": {}}


@pytest.mark.parametrize("key", KEPT)
def test_what_only_looks_like_a_secret_stays(key: str) -> None:
    assert exportable_opt({key: 5, "deep": {key: "x"}}) == {key: 5, "deep": {key: "x"}}


def test_the_other_types_become_json() -> None:
    saved = exportable_opt(
        Opt(
            {
                "set": {"b", "a"},
                "tuple": (1, (2.5, None)),
                "nan": math.nan,
                "infinite": [math.inf, -math.inf],
                "path": Path("/x/y"),
                "bytes": b"ab",
                "bool": True,
                3: "number",
                "type": int,
                "huge": 10**40,
            }
        )
    )
    assert saved == {
        "set": ["a", "b"],
        "tuple": [1, [2.5, None]],
        "nan": "nan",
        "infinite": ["inf", "-inf"],
        "path": "/x/y",
        "bytes": "b'ab'",
        "bool": True,
        "3": "number",
        "type": "<class 'int'>",
        "huge": 10**40,
    }


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.dictionaries(st.text() | st.integers() | st.sampled_from(SECRETS), inner, max_size=3)
        | st.frozensets(st.integers() | st.text(), max_size=3)
    ),
    max_leaves=10,
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(opt=st.dictionaries(st.text() | st.sampled_from(SECRETS), values, max_size=4))
def test_any_opt_can_be_saved(opt: dict[Any, Any]) -> None:
    saved = exportable_opt(opt)
    json.dumps(saved, allow_nan=False)
    assert exportable_opt(saved) == saved

    def no_secret_key(value: Any) -> bool:
        if isinstance(value, dict):
            return all(not is_secret(key) and no_secret_key(inner) for key, inner in value.items())
        return not isinstance(value, list) or all(map(no_secret_key, value))

    assert no_secret_key(saved)
