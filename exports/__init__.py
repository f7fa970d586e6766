"""Collected conversations in the formats that other tools train on and publish."""
