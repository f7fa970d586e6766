import argparse
from collections.abc import Sequence
from typing import Any

from parlai.core.opt import Opt

class ParlaiParser(argparse.ArgumentParser):
    def __init__(
        self, add_parlai_args: bool = True, add_model_args: bool = False, description: str | None = None
    ) -> None: ...
    def add_argument_group(self, *args: Any, **kwargs: Any) -> argparse._ArgumentGroup: ...
    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None, **kwargs: Any) -> Opt: ...  # type: ignore[override]  # ParlAI's parser returns an Opt, no Namespace
