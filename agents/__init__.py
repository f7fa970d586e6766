"""Chat agents that come with the task, for models that ParlAI has no agent for."""
