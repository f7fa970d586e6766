from dataclasses import dataclass

from mephisto.abstractions.blueprint import BlueprintMixin

@dataclass
class ScreenTaskRequiredArgs: ...

@dataclass
class ScreenTaskSharedState: ...

class ScreenTaskRequired(BlueprintMixin): ...
