"""The record of a finished conversation, and how it is written and read."""
