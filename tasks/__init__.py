"""ParlAI tasks that ship with model-chat."""
