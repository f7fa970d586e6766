from typing import Any

from mephisto.abstractions.database import MephistoDB
from mephisto.data_model.worker import Worker

def worker_is_qualified(worker: Worker, qualifications: list[dict[str, Any]]) -> bool: ...
def make_qualification_dict(
    qualification_name: str, comparator: str, value: Any, applicable_providers: list[str] | None = None
) -> dict[str, Any]: ...
def find_or_create_qualification(db: MephistoDB, qualification_name: str) -> str: ...
