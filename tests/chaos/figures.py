"""What the chaos suite counts, and how long it runs."""

from __future__ import annotations

import os

LONG = os.environ.get("MODEL_CHAT_CHAOS") == "long"
"""`make chaos` sets it; without it the suite takes about a minute."""
KILLS = int(os.environ.get("MODEL_CHAT_CHAOS_KILLS", "50" if LONG else "2"))
"""How often the server is killed."""
FIGURES: list[tuple[str, dict[str, int]]] = []
"""A row for each trouble."""
