from typing import Any

CORE_SECTION: str
DATA_STORAGE_KEY: str
DEFAULT_CONFIG_FILE: str

def add_config_arg(section: str, key: str, value: Any) -> None: ...
def get_config_arg(section: str, key: str) -> Any: ...
