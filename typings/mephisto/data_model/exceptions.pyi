class AbsentAgentError(Exception):
    message: str
    agent_id: str

    def __init__(self, message: str, agent_id: str) -> None: ...

class AgentDisconnectedError(AbsentAgentError):
    def __init__(self, agent_id: str) -> None: ...

class AgentTimeoutError(AbsentAgentError):
    def __init__(self, timeout: object, agent_id: str) -> None: ...

class AgentReturnedError(AbsentAgentError):
    def __init__(self, agent_id: str) -> None: ...

class AgentShutdownError(AbsentAgentError):
    def __init__(self, agent_id: str) -> None: ...
