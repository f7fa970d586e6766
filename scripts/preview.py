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
import logging
import signal
import tempfile
import threading
import webbrowser
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from model_chat.compat.terminal import print_plain
from model_chat.configuration.exit_codes import exit_with, reports_faults
from model_chat.configuration.task_names import LOCAL
from model_chat.launch.logs import set_up_logging
from model_chat.preview.operator import Operator
from model_chat.preview.served_page import ServedPage
from model_chat.preview.session import Preview
from model_chat.router.public_address import public_address_of

LOOK_SECONDS = 0.3
"""Between two looks at whether a file has changed."""
REPLY = "This is the preview's model, which always says the same. The real ones will say something else here."


def serve(preview: Preview, page: ServedPage, browser: bool, console: Console) -> None:
    """Serve the preview until the process is interrupted or terminated.

    Raises:
        ConfigurationError: the router does not come up.
    """
    ended = threading.Event()
    # Handlers of its own: a process that a shell starts in the background ignores SIGINT.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    page.show(preview.study.shared.page_config, preview.state, preview.study.shared.texts)
    page.keep_running()
    operator = Operator(page.operator_url, preview)
    preview.send = operator.send
    try:
        stage = "onboarding" if preview.study.has_onboarding else "chat"
        url = f"{page.address}?worker_id=preview&assignment_id={stage}"
        print_plain(console, f"Preview: {url}")
        architect = preview.study.cfg.mephisto.architect
        public = public_address_of(architect) if architect._architect_type == LOCAL else None
        if public is not None:
            print_plain(console, f"Workers of the run: {public.url}")
        console.print("Change a file, and the page starts over. Ctrl-C ends it.", highlight=False)
        if browser:
            webbrowser.open(url)
        while not ended.wait(LOOK_SECONDS):
            if preview.look_for_changes():
                page.show(preview.study.shared.page_config, preview.state, preview.study.shared.texts)
            page.keep_running()
    finally:
        operator.close()


@reports_faults
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
    try:
        with ExitStack() as closing:
            folder = closing.enter_context(tempfile.TemporaryDirectory(prefix="model_chat_preview_"))
            page = ServedPage(Path(folder) / "router", args.port)
            preview = Preview([f"conf={args.config}", *flags], args.reply, args.onboarding, console, args.model)
            closing.callback(preview.close)
            closing.callback(page.stop)
            serve(preview, page, not args.no_browser, console)
    except KeyboardInterrupt:  # while the study is read
        return 0
    return 0


if __name__ == "__main__":
    exit_with(main)
