from collections.abc import Callable
from typing import TypeVar

from mephisto.abstractions.architect import Architect
from mephisto.abstractions.crowd_provider import CrowdProvider

_Class = TypeVar("_Class", bound=type)

def register_mephisto_abstraction() -> Callable[[_Class], _Class]: ...
def get_crowd_provider_from_type(provider_type: str) -> type[CrowdProvider]: ...
def get_architect_from_type(architect_type: str) -> type[Architect]: ...
