from abc import ABCMeta
from collections.abc import Mapping
from typing import Any, Self

from mephisto.abstractions.database import MephistoDB

class MephistoDBBackedABCMeta(ABCMeta): ...
class MephistoDBBackedMeta(type): ...

class MephistoDataModelComponentMixin:
    @classmethod
    def get(
        cls, db: MephistoDB, db_id: str, row: Mapping[str, Any] | None = None, _used_new_call: bool = False
    ) -> Self: ...
