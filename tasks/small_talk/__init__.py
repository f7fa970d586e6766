"""A small ParlAI task whose contexts are written by hand: personas and opening lines, with nothing to download."""
