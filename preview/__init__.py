"""The worker's page without a database, for writing a study's texts (scripts/preview.py)."""
