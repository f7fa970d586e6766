class AssignmentState:
    CREATED: str
    LAUNCHED: str
    ASSIGNED: str
    COMPLETED: str
    EXPIRED: str

    @staticmethod
    def valid() -> list[str]: ...
    @staticmethod
    def incomplete() -> list[str]: ...
    @staticmethod
    def completed() -> list[str]: ...
