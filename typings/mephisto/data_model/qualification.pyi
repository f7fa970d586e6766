from collections.abc import Mapping
from typing import Any

from mephisto.abstractions.database import MephistoDB
from mephisto.data_model._db_backed_meta import (
    MephistoDataModelComponentMixin,
    MephistoDBBackedMeta,
)

QUAL_EXISTS: str

class Qualification(MephistoDataModelComponentMixin, metaclass=MephistoDBBackedMeta):
    db: MephistoDB
    db_id: str
    qualification_name: str

    def __init__(self, db: MephistoDB, db_id: str) -> None: ...

class GrantedQualification:
    db: MephistoDB
    worker_id: str
    qualification_id: str
    value: int  # Mephisto declares str; its database has integers

    def __init__(
        self, db: MephistoDB, qualification_id: str, worker_id: str, row: Mapping[str, Any] | None = None
    ) -> None: ...
