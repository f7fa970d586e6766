"""Show studies on the requester's dashboard, read from their records:  python scripts/dashboard.py --config my_study

    python scripts/dashboard.py --config NAME [--config NAME …] [--port N] [--host ADDRESS] [--password-env VARIABLE]
        [flag=value …]

Each study is a file conf/NAME.yaml; what further flags say (flag=value, as for run.py) is for all of them. A run shows its
own dashboard with mephisto.blueprint.dashboard_port; this command is for studies that are over, several side by side. See
docs/dashboard.md.
"""

from __future__ import annotations

import argparse
import logging
import os
import secrets
from collections.abc import Sequence

from rich.console import Console

from model_chat import compat as compat  # the patches, before mephisto is imported
from model_chat.compat.terminal import print_plain
from model_chat.configuration.exit_codes import exit_with, reports_faults
from model_chat.dashboard.access import Access, user_name
from model_chat.dashboard.server import limit_resources, serve
from model_chat.dashboard.settings import host_faults, read_passwords
from model_chat.dashboard.sockets import address_of, bind
from model_chat.dashboard.study import StudyInfo, with_own_ids
from model_chat.dashboard.watch import Watched
from model_chat.errors import ConfigurationError, collecting
from model_chat.launch.command_line import compose_config
from model_chat.router.addresses import LOOPBACK

PORT = 9200
LAST_PORT = 65535


def read_studies(names: Sequence[str], flags: Sequence[str] = ()) -> list[StudyInfo]:
    """Read the studies' files.

    Raises:
        ConfigurationError: one sentence for each fault of any of them.
    """
    faults: list[str] = []
    found = []
    for name in dict.fromkeys(names):
        try:
            found.append(StudyInfo.of(compose_config("example", [f"conf={name}", *flags])))
        except ConfigurationError as error:
            faults += [fault if name in fault else f"--config {name}: {fault}" for fault in error.faults]
    ConfigurationError.raise_if(faults)
    return with_own_ids(found)


@reports_faults
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    from mephisto.utils.logger_core import set_mephisto_log_level

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0].partition(":  ")[0] + ".")
    parser.add_argument(
        "--config", action="append", required=True, metavar="NAME", help="conf/NAME.yaml; again for a further study"
    )
    parser.add_argument("--port", type=int, default=PORT, help="0: any free one (default: %(default)s)")
    parser.add_argument("--host", default=LOOPBACK, help="IP address of this machine (default: %(default)s)")
    parser.add_argument(
        "--password-env",
        metavar="VARIABLE",
        help="environment variable with the password, or read:VARIABLE,review:VARIABLE,pay:VARIABLE for one a role",
    )
    args, flags = parser.parse_known_args(arguments)
    console = Console(stderr=True, emoji=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    set_mephisto_log_level(level="warning")
    try:
        faults = host_faults("--host", args.host, "--password-env", args.password_env)
        if not 0 <= args.port <= LAST_PORT:
            faults.append(f"--port: '{args.port}' is not a port; give a number from 0 to {LAST_PORT}.")
        studies: list[StudyInfo] = []
        with collecting(faults):
            studies = read_studies(args.config, flags)
        ConfigurationError.raise_if(faults)
        listening = bind("--port", args.host, args.port)
        token = secrets.token_urlsafe(24)
        access = Access(read_passwords("--password-env", args.password_env), token, user_name())
        print_plain(console, f"Dashboard: {address_of(listening)}login?token={token}")
        console.print("Ctrl-C ends it.", highlight=False)
        limit_resources()
        serve([Watched(study) for study in studies], access, listening, lambda server: None)
    except KeyboardInterrupt:  # it is how the command ends
        return 0
    return 0


if __name__ == "__main__":
    os.umask(0o077)
    exit_with(main)
