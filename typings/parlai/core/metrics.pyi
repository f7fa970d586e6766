from collections.abc import Sequence
from typing import Self

class AverageMetric:
    @classmethod
    def many(cls, *objs: Sequence[float]) -> list[Self]: ...

def normalize_answer(s: str) -> str: ...
