"""The whole task while things break. Short form in CI; `make chaos` runs the long one and prints a table."""
