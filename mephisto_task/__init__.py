"""Subclasses and overrides of Mephisto's run time."""
