from mephisto.abstractions.database import MephistoDB
from mephisto.data_model._db_backed_meta import (
    MephistoDataModelComponentMixin,
    MephistoDBBackedMeta,
)

class Task(MephistoDataModelComponentMixin, metaclass=MephistoDBBackedMeta):
    db: MephistoDB
    db_id: str
    task_name: str
    task_type: str

    def __init__(self, db: MephistoDB, db_id: str) -> None: ...
    @staticmethod
    def new(db: MephistoDB, task_name: str, task_type: str) -> Task: ...
