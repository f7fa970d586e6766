from typing import Any

from mephisto.abstractions.database import MephistoDB
from mephisto.data_model._db_backed_meta import (
    MephistoDataModelComponentMixin,
    MephistoDBBackedABCMeta,
)
from omegaconf import DictConfig

class Requester(MephistoDataModelComponentMixin, metaclass=MephistoDBBackedABCMeta):
    db: MephistoDB
    db_id: str
    provider_type: str
    requester_name: str

    def __init__(self, db: MephistoDB, db_id: str) -> None: ...
    @classmethod
    def is_sandbox(cls) -> bool: ...
    def register(self, args: DictConfig | None = None) -> None: ...
    def is_registered(self) -> bool: ...
    def get_available_budget(self) -> float: ...
    def to_dict(self) -> dict[str, Any]: ...
    @staticmethod
    def new(db: MephistoDB, requester_name: str) -> Requester: ...
