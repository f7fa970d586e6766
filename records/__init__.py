"""What a finished conversation is, and how it is written and read."""
