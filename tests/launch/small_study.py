"""What the tests of the checks before a launch share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from omegaconf import DictConfig

from model_chat.errors import ConfigurationError

B = "mephisto.blueprint"
BARE = """
defaults:
  - /mephisto/blueprint: model_chat_blueprint
  - /mephisto/architect: local
  - /mephisto/provider: mock
"""

Compose = Callable[..., DictConfig]


def faults(call: Callable[..., Any], **changes: str) -> list[str]:
    with pytest.raises(ConfigurationError) as error:
        call(**changes)
    return list(error.value.faults)
