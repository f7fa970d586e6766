from typing import Any

class TrainModel:
    @classmethod
    def main(cls, *args: str, **kwargs: Any) -> Any: ...
