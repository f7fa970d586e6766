"""Write docs/configuration.md from the dataclasses that declare the flags:  python scripts/write_reference.py [--check]

A test fails when the page is out of date, or a flag has no meaning.
"""

from __future__ import annotations

import argparse
import sys

from model_chat.configuration.places import ROOT

PAGE = ROOT / "docs" / "configuration.md"


def main() -> int:
    """Run the command; return its exit code."""
    from model_chat.launch.reference import reference

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":  ")[0] + ".")
    parser.add_argument("--check", action="store_true", help="write nothing; the exit code is 1 if it is out of date")
    args = parser.parse_args()
    wanted = reference()
    if args.check:
        current = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == wanted
        if not current:
            print(f"{PAGE} is out of date; run python scripts/write_reference.py.", file=sys.stderr)
        return 0 if current else 1
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
