"""Commands beside the main one: demo models, image contexts, simulated workers."""
