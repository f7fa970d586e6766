from mephisto.abstractions.databases.local_database import LocalMephistoDB

class MephistoSingletonDB(LocalMephistoDB):
    def __init__(self, database_path: str | None = None) -> None: ...
    def shutdown(self) -> None: ...
    def new_unit(
        self,
        task_id: str,
        task_run_id: str,
        requester_id: str,
        assignment_id: str,
        unit_index: int,
        pay_amount: float,
        provider_type: str,
        task_type: str,
        sandbox: bool = True,
    ) -> str: ...
