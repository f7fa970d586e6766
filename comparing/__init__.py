"""Two models in one conversation, which the worker compares: reply by reply, or chat by chat."""
