from typing import IO, Any

class PathManager:
    @staticmethod
    def open(path: str, mode: str = "r", **kwargs: Any) -> IO[Any]: ...
