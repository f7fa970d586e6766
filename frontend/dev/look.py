"""Open every screen of the page in Chromium, take pictures of it, and run axe-core on it.

Run in frontend/, with the page built (`npm run build`):

    ../.venv/bin/python dev/look.py --out /tmp/screens [--only midway,rating] [--no-pictures] [--language ar]

The exit status is 1 when axe finds anything.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page, Route, sync_playwright

from model_chat.configuration.text_files import load_texts
from model_chat.configuration.worker_texts import Texts
from model_chat.scripts.setup_env import find_chromium

FRONTEND = Path(__file__).parent.parent
FEATURES_OFF = (
    # Each window of Chromium otherwise loads two pages of its own for the address bar, and a spare renderer: half of what
    # opening a page costs.
    "WebUIOmniboxPopup", "WebUIOmniboxAimPopup", "WebUIOmniboxFullPopup", "SpareRendererForSitePerProcess",
    # Playwright's, whose list is replaced by this one.
    "AimEnabled", "AvoidCorsURLLoaderRestartOnRedirect", "AvoidUnnecessaryBeforeUnloadCheckSync",
    "DestroyProfileOnBrowserClose", "HttpsFirstBalancedModeAutoEnable", "HttpsUpgrades", "LensOverlay", "MediaRouter",
    "NetworkTimeServiceQuerying", "OptimizationHints", "PaintHolding", "PreconnectToSearch",
    "TcpPortRandomizationWin", "ThirdPartyStoragePartitioning",
)  # fmt: skip
ARGS = [
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    f"--disable-features={','.join(FEATURES_OFF)}",
    *(["--no-sandbox"] if os.geteuid() == 0 else []),
]
SIZES = ((360, 640), (768, 1024), (1440, 900))
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148 Safari/604.1"
WORDS = "I would say the anglerfish: it carries its own lamp, and the light is made by bacteria that live in it."

logger = logging.getLogger("look")
Steps = Callable[[Page], None]


def _nothing(page: Page) -> None:
    page.wait_for_timeout(300)


def _open_pane(page: Page) -> None:
    if page.get_by_test_id("pane-toggle").count():
        page.get_by_test_id("pane-toggle").click()


def _open_description(page: Page) -> None:
    _open_pane(page)
    page.get_by_test_id("description-button").click()


def _explain(page: Page) -> None:
    page.get_by_role("button", name="What does “Off topic” mean?").click()
    page.get_by_test_id("bucket-off_topic").check()
    page.get_by_test_id("bucket-rude").check()
    page.get_by_test_id("composer").fill(WORDS)


def _send(page: Page) -> None:
    page.get_by_test_id("bucket-none_all_good").check()
    page.get_by_test_id("composer").fill(WORDS)
    page.get_by_test_id("send").click()


def _send_blocked(page: Page) -> None:
    page.get_by_test_id("composer").fill(WORDS)
    page.get_by_test_id("send").click(force=True)  # it says that it is disabled; a worker may press it all the same


def _too_long(page: Page) -> None:
    page.get_by_test_id("bucket-none_all_good").check()
    page.get_by_test_id("composer").fill("This is too long. " * 120)


def _refused(page: Page) -> None:
    _send(page)
    page.get_by_test_id("refusal").wait_for()


def _lose(page: Page) -> None:
    _explain(page)
    page.evaluate("window.dispatchEvent(new Event('offline'))")
    page.route("**/*", lambda route: route.abort())
    page.evaluate("void (window.WebSocket = class { constructor() { throw new Error('offline') } })")
    page.evaluate("window.dispatchEvent(new Event('offline'))")


def _unreachable(page: Page) -> None:
    page.route("**/task_config.json*", lambda route: route.abort())
    page.reload()
    page.locator("[data-screen=lost]").wait_for(timeout=8000)


def _rate(page: Page) -> None:
    page.get_by_test_id("bucket-none_all_good").check()
    page.get_by_test_id("rating-0-4").check(force=True)


def _hand_in(page: Page) -> None:
    page.get_by_test_id("submit").click()
    page.get_by_test_id("submitted").wait_for()


def _zoom(page: Page) -> None:
    page.get_by_test_id("chat-image").get_by_role("button").click()


def _fold_image(page: Page) -> None:
    if page.get_by_test_id("image-fold").count():
        page.get_by_test_id("image-fold").click()


def _fill_onboarding(page: Page) -> None:
    for place in ("0-1", "0-3", "1-1", "2-1"):
        page.get_by_test_id(f"onboarding-{place}").get_by_test_id("bucket-none_all_good").check()
    page.get_by_test_id("onboarding-submit").click()


def _retry(page: Page) -> None:
    _fill_onboarding(page)
    page.get_by_test_id("onboarding-retry").wait_for()


def _incomplete_onboarding(page: Page) -> None:
    page.get_by_test_id("onboarding-submit").click(force=True)


def _fail(page: Page) -> None:
    _fill_onboarding(page)
    page.locator("[data-screen=failed]").wait_for()


LOOKS: dict[str, tuple[str, Steps]] = {
    **{
        name: (name, _nothing)
        for name in (
            "preview",
            "loading",
            "midway",
            "midway-lines",
            "no-annotation",
            "seeds",
            "thinking",
            "odd",
            "rating",
            "image",
            "onboarding",
            "finished",
            "incomplete",
            "nothing-left",
            "model-failed",
            "timeout",
            "disconnected",
            "returned",
            "expired",
            "no-work",
            "blocked",
            "gone",
            "mobile-blocked",
            "markdown",
            "markdown-links",
            "markdown-half-code",
            "markdown-half-table",
        )
    },
    "pane-open": ("midway", _open_pane),
    "description": ("midway", _open_description),
    "explained": ("midway", _explain),
    "sending": ("midway", _send),
    "send-blocked": ("midway", _send_blocked),
    "too-long": ("midway", _too_long),
    "refused": ("refused", _refused),
    "connection-lost": ("midway", _lose),
    "lost": ("midway", _unreachable),
    "rating-half": ("rating", _rate),
    "handed-in": ("finished", _hand_in),
    "long-blocked": ("odd", _send_blocked),
    "image-zoom": ("image", _zoom),
    "image-folded": ("image", _fold_image),
    "onboarding-incomplete": ("onboarding", _incomplete_onboarding),
    "onboarding-retry": ("onboarding", _retry),
    "onboarding-failed": ("onboarding-failed", _fail),
}


@contextmanager
def scripted_run() -> Iterator[str]:
    """Start the scripted run on a free port; yield its address."""
    command = ["node", str(FRONTEND / "dev" / "scripted-run.mjs"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout is not None else ""
            if not line:
                sys.exit("The scripted server did not start; see its message above. Install its packages with: npm ci")
            yield line.strip().removesuffix("scenarios")
        finally:
            process.terminate()


def look(
    browser: Browser,
    address: str,
    name: str,
    size: tuple[int, int],
    scheme: str,
    out: Path | None,
    texts: Texts,
) -> int:
    """Open one screen; return the number of axe's findings."""
    scenario, steps = LOOKS[name]
    phone = {"user_agent": IPHONE} if name == "mobile-blocked" else {}
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if scheme == "dark" else "light",
        reduced_motion="reduce",
        bypass_csp=True,  # for axe, which is brought in as a script
        **phone,
    )
    if texts != Texts():
        speak(context, texts)
    page = context.new_page()
    page.on("pageerror", lambda error: logger.error("%s: %s", name, error))
    worker = "" if scenario == "preview" else f"&worker_id={uuid.uuid4()}&assignment_id=1"
    page.goto(f"{address}?scenario={scenario}{worker}")
    page.locator(".app").wait_for()
    page.wait_for_timeout(400)
    steps(page)
    page.wait_for_timeout(400)
    if out is not None:
        page.screenshot(path=str(out / f"{name}-{size[0]}-{scheme}.png"))
    width = page.evaluate("document.documentElement.scrollWidth")
    page.add_script_tag(path=str(FRONTEND / "node_modules" / "axe-core" / "axe.min.js"))
    findings = page.evaluate("axe.run().then((result) => result.violations)")
    screen = page.locator(".app").get_attribute("data-screen")
    context.close()
    for finding in findings:
        nodes = [{"html": node["html"][:160], "why": node["failureSummary"]} for node in finding["nodes"][:3]]
        logger.error("%s %s %s: %s %s", name, size[0], scheme, finding["id"], json.dumps(nodes, indent=1))
    too_wide = int(width > size[0])
    if too_wide:
        logger.error("%s %s: the page is %s wide", name, size[0], width)
    logger.info("%-24s %5d %-5s screen=%-14s findings=%d", name, size[0], scheme, screen, len(findings) + too_wide)
    return len(findings) + too_wide


def speak(context: BrowserContext, texts: Texts) -> None:
    """Serve the page in a language, as a run in that language does."""

    def translated(route: Route) -> None:
        if route.request.resource_type != "document":
            route.continue_()
            return
        response = route.fetch()
        route.fulfill(response=response, body=texts.put_into(response.text()))

    context.route("**/*", translated)


def main() -> int:
    """Look at everything that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("/tmp/screens"))
    parser.add_argument("--only", default=",".join(LOOKS), help="names, comma-separated")
    parser.add_argument("--no-pictures", action="store_true")
    parser.add_argument("--language", default="en", help="a language that ships; steps that name English texts fail")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    args.out.mkdir(parents=True, exist_ok=True)
    out = None if args.no_pictures else args.out
    with scripted_run() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=ARGS)
        texts = load_texts(args.language, "")
        findings = sum(
            look(browser, address, name, size, scheme, out, texts)
            for name in args.only.split(",")
            for scheme in ("light", "dark")
            for size in SIZES
        )
        browser.close()
    logger.info("%d findings", findings)
    return int(findings > 0)


if __name__ == "__main__":
    sys.exit(main())
