"""Models: found in the base model folder or an option file, loaded once, and asked for replies."""
