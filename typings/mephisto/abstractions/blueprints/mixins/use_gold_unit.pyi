from dataclasses import dataclass

from mephisto.abstractions.blueprint import BlueprintMixin

@dataclass
class UseGoldUnitArgs: ...

@dataclass
class GoldUnitSharedState: ...

class UseGoldUnit(BlueprintMixin): ...
