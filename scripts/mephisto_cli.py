"""Mephisto's own command line, with the mends that let it run here:  python scripts/mephisto_cli.py requesters

What stands in Mephisto's documentation as ``mephisto COMMAND …`` is ``python scripts/mephisto_cli.py COMMAND …``.
"""

from __future__ import annotations

import sys

from model_chat import compat as compat  # the mends, before mephisto is imported


def main() -> None:
    """Hand the command line over."""
    from mephisto.client.cli import cli

    sys.argv[0] = "mephisto"
    cli()


if __name__ == "__main__":
    main()
