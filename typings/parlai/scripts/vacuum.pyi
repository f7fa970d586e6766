from typing import Any

class Vacuum:
    @classmethod
    def main(cls, *args: str, **kwargs: Any) -> Any: ...
