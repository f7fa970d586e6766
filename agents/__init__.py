"""Chat agents that come with the task, for models for which ParlAI has no agent."""
