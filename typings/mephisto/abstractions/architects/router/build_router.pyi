from mephisto.data_model.task_run import TaskRun

NODE_SERVER_SOURCE_ROOT: str

def build_router(
    build_dir: str, task_run: TaskRun, version: str | None = None, server_source_path: str | None = None
) -> str: ...
