"""model-chat: crowdworkers chat with models, annotate each reply and rate the conversation."""
