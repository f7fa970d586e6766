"""Shared by all tests."""

from model_chat import compat as compat  # the mends, before any test imports mephisto or parlai
