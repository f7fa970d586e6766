"""Open the worker's page as a study's files make it, for writing its texts:  python scripts/preview.py --config my_study

    python scripts/preview.py [--config NAME] [--reply TEXT | --model NICKNAME] [--onboarding] [--port N] [--no-browser]
        [flag=value …]

The page, the conversation and the onboarding are the task's own; the model always says the same, or with --model it is one
of the study's that is behind an endpoint (each reply costs what it costs there). There is no database, and nothing is saved.
When a file changes, the page starts over with what it says now; what is wrong with it is said on the page. The server is for
this machine only.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import webbrowser

import tornado.netutil
from rich.console import Console

from model_chat.configuration.exit_codes import ExitCode, exit_with
from model_chat.configuration.task_names import LOCAL
from model_chat.errors import ConfigurationError
from model_chat.launch.logs import set_up_logging
from model_chat.preview.server import http_server
from model_chat.preview.session import Preview
from model_chat.router.public_address import public_address_of

HOST = "127.0.0.1"
LOOK_SECONDS = 0.3
"""Between two looks at whether a file has changed."""
REPLY = "This is the preview's model, which always says the same. The real ones will say something else here."


async def serve(preview: Preview, port: int, browser: bool, console: Console) -> None:
    """Serve the preview until the process is interrupted or terminated.

    Raises:
        ConfigurationError: the port can't be used.
    """
    try:
        sockets = tornado.netutil.bind_sockets(port, HOST)
    except OSError as error:
        raise ConfigurationError(f"--port: {port} can't be used ({error.strerror}); try {port + 1}, or 0.") from None
    server = http_server(preview)
    server.add_sockets(sockets)
    address = f"http://{HOST}:{sockets[0].getsockname()[1]}/"
    stage = "onboarding" if preview.study.has_onboarding else "chat"
    url = f"{address}?worker_id=preview&assignment_id={stage}"
    console.print(f"Preview: {url}", highlight=False, soft_wrap=True)
    architect = preview.study.cfg.mephisto.architect
    public = public_address_of(architect) if architect._architect_type == LOCAL else None
    if public is not None:
        console.print(f"Workers of the run: {public.url}", highlight=False, soft_wrap=True)
    console.print("Change a file, and the page starts over. Ctrl-C ends it.", highlight=False)
    if browser:
        webbrowser.open(url)
    ended = asyncio.Event()
    with contextlib.suppress(NotImplementedError):  # Windows; Ctrl-C works there all the same
        # Of its own: what a shell starts in the background is born deaf to SIGINT.
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
    try:
        while not ended.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), LOOK_SECONDS)
            preview.look_for_changes()
    finally:
        server.stop()


def main() -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0].partition(":")[0] + ".",
        epilog="Flags are those of run.py: see python run.py --help.",
    )
    parser.add_argument("--config", default="example", metavar="NAME", help="conf/NAME.yaml (default: example)")
    parser.add_argument("--reply", default=REPLY, metavar="TEXT", help="what the model says")
    parser.add_argument(
        "--model", metavar="NICKNAME", help="talk to this model of the study instead; it must be behind an endpoint"
    )
    parser.add_argument(
        "--onboarding", action="store_true", help="show onboarding though the study has it switched off"
    )
    parser.add_argument("--port", type=int, default=3100, help="0: any free one (default: 3100)")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    args, flags = parser.parse_known_args()
    console = Console(stderr=True, emoji=False)
    set_up_logging("warning", console)
    logging.getLogger("model_chat").setLevel(logging.WARNING)  # that the model has no file is no news here
    preview = None
    try:
        preview = Preview([f"conf={args.config}", *flags], args.reply, args.onboarding, console, args.model)
        asyncio.run(serve(preview, args.port, not args.no_browser, console))
    except ConfigurationError as error:
        for text in error.faults:
            console.print(f"✗ {text}", highlight=False, soft_wrap=True, markup=False)
        return ExitCode.CONFIGURATION
    except KeyboardInterrupt:
        return 0
    finally:
        if preview is not None:
            preview.close()
    return 0


if __name__ == "__main__":
    exit_with(main)
