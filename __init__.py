"""model-chat: crowdworkers chat with models, annotate each reply and rate the conversation."""

from model_chat import compat as compat  # patches that mephisto and parlai need; imports neither of them
