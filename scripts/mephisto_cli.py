"""Mephisto's own command line, with the patches that let it run here:  python scripts/mephisto_cli.py requesters

``mephisto COMMAND …`` in Mephisto's documentation is ``python scripts/mephisto_cli.py COMMAND …``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from model_chat import compat as compat  # the patches, before mephisto is imported
from model_chat.configuration.places import MEPHISTO_DATA
from model_chat.mephisto_task import panel_providers as panel_providers  # registers them with Mephisto


def _have_a_data_folder() -> None:
    """Tell Mephisto where its data lie, as a run does; it would ask, and propose a folder among the installed packages."""
    from mephisto.operations.config_handler import CORE_SECTION, DATA_STORAGE_KEY, add_config_arg, get_config_arg

    if get_config_arg(CORE_SECTION, DATA_STORAGE_KEY) is None:
        folder = Path(MEPHISTO_DATA).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        add_config_arg(CORE_SECTION, DATA_STORAGE_KEY, str(folder))


def main() -> None:
    """Hand the command line over."""
    from mephisto.client.cli import cli

    _have_a_data_folder()
    sys.argv[0] = "mephisto"
    cli()


if __name__ == "__main__":
    main()
