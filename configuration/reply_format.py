"""How the page shows what models say: ``reply_format`` and ``reply_links``."""

from __future__ import annotations

from typing import Any

TEXT, MARKDOWN = "text", "markdown"


def reply_format_faults(flag_prefix: str, args: Any) -> list[str]:
    """Return a sentence for each fault of the two flags."""
    if args.reply_format not in (TEXT, MARKDOWN):
        return [f"{flag_prefix}.reply_format: '{args.reply_format}' is not available; give {TEXT} or {MARKDOWN}."]
    if args.reply_links and args.reply_format != MARKDOWN:
        return [
            f"{flag_prefix}.reply_links: only Markdown replies have links, and reply_format is '{args.reply_format}'; "
            f"give reply_format={MARKDOWN}, or leave reply_links out."
        ]
    return []
