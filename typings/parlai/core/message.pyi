from typing import Any

class Message(dict[str, Any]):
    """An act. Assigning to a key that is there raises RuntimeError; `force_set` doesn't."""

    def force_set(self, key: str, val: Any) -> None: ...
