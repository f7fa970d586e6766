"""The preview's server: the built page with a toolbar, and the answers of Mephisto's router (docs/protocol.md)."""

from __future__ import annotations

import ipaddress
import json
import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import tornado.httpserver
import tornado.web
import tornado.websocket

from model_chat.model_chat_blueprint import FRONTEND_DIST

if TYPE_CHECKING:
    from model_chat.preview.seat import PreviewHuman
    from model_chat.preview.session import Preview

logger = logging.getLogger(__name__)

LINKS = {"chat": "Chat", "onboarding": "Onboarding", "": "As seen before accepting"}


MOST_BODY_BYTES = 65_536
MOST_PACKET_BYTES = 262_144


def is_own_request(request: tornado.httputil.HTTPServerRequest) -> bool:
    """Whether a request comes from the preview's own page, a link to it, or a program, and not from another site's page.

    A site whose name resolves to this machine (DNS rebinding) would be taken for the preview's own: only ``localhost`` and
    IP addresses, which can't be rebound, are answered.
    """
    host = urlsplit(f"//{request.host}").hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if host != "localhost":
            return False
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != request.host:
        return False
    followed_a_link = request.method == "GET" and request.headers.get("Sec-Fetch-Dest") == "document"
    return followed_a_link or request.headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin")


class OwnRequests(tornado.web.RequestHandler):
    """Refuses requests of other sites."""

    def prepare(self) -> None:
        """Look where the request comes from.

        Raises:
            tornado.web.HTTPError: from another site.
        """
        if not is_own_request(self.request):
            raise tornado.web.HTTPError(403, reason="Only the preview's own page is answered")


class Handler(OwnRequests):
    """What all addresses share.

    Attributes:
        preview: see :class:`Preview`.
    """

    preview: Preview

    def initialize(self, preview: Preview) -> None:
        """Take what the application passes."""
        self.preview = preview

    def set_default_headers(self) -> None:
        """Nothing is kept by the browser: it is there to show what changes."""
        self.set_header("Cache-Control", "no-store")

    def check_etag_header(self) -> bool:
        """Answer in full every time."""
        return False

    def sent(self) -> dict[str, Any]:
        """Return what the page sent as JSON."""
        try:
            body = json.loads(self.request.body)
        except (ValueError, RecursionError):
            raise tornado.web.HTTPError(400) from None
        return body if isinstance(body, dict) else {}


class Script(Handler):
    """The two scripts that are not of the build: who the worker is, and the bar."""

    def get(self, name: str) -> None:
        """Answer with a script."""
        self.set_header("Content-Type", "text/javascript; charset=utf-8")
        links = {key: text for key, text in LINKS.items() if key != "onboarding" or self.preview.study.has_onboarding}
        bar = BAR.replace("LINKS", json.dumps(links)).replace("VERSION", str(self.preview.version))
        self.finish(WRAPPER if name == "wrap_crowd_source" else bar)


class Api(Handler):
    """What Mephisto's router answers (docs/protocol.md), and what the bar asks."""

    def get(self, name: str) -> None:
        """Answer a question."""
        if name == "task_config.json":
            self.finish({**self.preview.study.shared.page_config, "is_preview": True})
        elif name == "preview_state":
            self.finish({"version": self.preview.version, "faults": list(self.preview.faults)})
        else:
            raise tornado.web.HTTPError(405)

    def post(self, name: str) -> None:
        """Do what the page asks for."""
        if name == "request_agent":
            self.finish(self.preview.request_agent(self.sent().get("provider_data")))
        elif name == "submit_onboarding":
            data = self.sent().get("provider_data")
            self.finish(self.preview.submit_onboarding(data.get("USED_AGENT_ID") if isinstance(data, dict) else None))
        elif name == "submit_task":
            self.finish({"status": "Submitted!"})
        elif name == "log_error":
            logger.error("The page reports an error: %s", f"{self.sent().get('error_data')!r:.2000}")
            self.finish({})
        elif name == "start_over":
            self.preview.start_over()
            self.finish({})
        elif name == "repeat_onboarding":
            self.preview.repeat_onboarding()
            self.finish({})
        else:
            raise tornado.web.HTTPError(405)


class Socket(OwnRequests, tornado.websocket.WebSocketHandler):
    """A page's connection; tornado refuses those of other origins."""

    def initialize(self, preview: Preview) -> None:
        """Take what the application passes."""
        self._preview = preview
        self._human: PreviewHuman | None = None

    def on_message(self, message: str | bytes) -> None:
        """Take a packet."""
        try:
            packet = json.loads(message)
        except (ValueError, RecursionError):
            return
        human = self._preview.agent(packet.get("subject_id")) if isinstance(packet, dict) else None
        if human is None:
            return
        if packet.get("packet_type") == "alive":
            self._human = human
            human.link(self)
        elif packet.get("packet_type") == "mephisto_bound_live_update":
            human.deliver(packet.get("data"))

    def on_close(self) -> None:
        """Forget the connection."""
        if self._human is not None:
            self._human.sockets.discard(self)

    def send(self, packet: str) -> None:
        """Send a packet, unless the page has gone meanwhile."""
        if self.ws_connection is not None and not self.ws_connection.is_closing():
            self.write_message(packet)


class Root(Socket):
    """``/`` is the page to who asks for it, and the socket to who wants to switch over."""

    async def get(self, *arguments: Any, **named: Any) -> None:
        """Answer with the built page, the bar in it, or open the socket."""
        if self.request.headers.get("Upgrade", "").lower() == "websocket":
            await super().get(*arguments, **named)
        else:
            html = (FRONTEND_DIST / "index.html").read_text(encoding="utf-8")
            self.set_header("Cache-Control", "no-store")
            await self.finish(html.replace("</body>", '<script src="preview.js"></script></body>'))


class PageFiles(OwnRequests, tornado.web.StaticFileHandler):
    """The built page's files; tornado refuses symbolic links out of the folder."""


WRAPPER = """
function previewParam(name) { return new URLSearchParams(window.location.search).get(name); }
function getWorkerName() { return previewParam("worker_id"); }
function getAssignmentId() { return previewParam("assignment_id"); }
function getAgentRegistration() {
  return { worker_name: getWorkerName(), agent_registration_id: getWorkerName() + "-" + getAssignmentId(),
    assignment_id: getAssignmentId(), provider_type: "mock" };
}
function handleSubmitToProvider() {}
"""
"""In place of Mephisto's file of this name."""

BAR = """
(() => {
  const links = LINKS, version = VERSION;
  const host = document.createElement("aside");
  host.setAttribute("aria-label", "Preview");
  // Below the page and not upon it: what it covered could not be pressed.
  Object.assign(document.body.style, { display: "flex", flexDirection: "column" });
  Object.assign(document.getElementById("root").style, { flex: "1", height: "auto", minHeight: "0" });
  const bar = host.attachShadow({ mode: "open" });
  bar.innerHTML = `<style>
    section { font: 13px/1.5 system-ui, sans-serif; background: #1f2937; color: #fff; padding: .4rem .8rem;
          display: flex; flex-wrap: wrap; gap: .2rem .9rem; align-items: baseline; justify-content: flex-end }
    a, button { color: #bfdbfe; background: none; border: 0; padding: 0; font: inherit; text-decoration: underline;
          cursor: pointer }
    div { width: 100% }
    ul { margin: 0; padding-left: 1.1rem; color: #fecaca; overflow-wrap: anywhere }
  </style><section><strong>Preview, nothing is saved</strong><div role="alert"></div></section>`;
  const box = bar.querySelector("section"), faults = bar.querySelector("div");
  for (const [name, text] of Object.entries(links)) {
    const link = document.createElement("a");
    link.textContent = text;
    link.href = name === "" ? "./" : `./?worker_id=preview&assignment_id=${name}`;
    if (name === "onboarding") {
      // It leads to the onboarding, also when that has been passed.
      link.onclick = (event) => {
        event.preventDefault();
        fetch("repeat_onboarding", { method: "POST" }).then(() => window.location.assign(link.href));
      };
    }
    box.insertBefore(link, faults);
  }
  const again = document.createElement("button");
  again.textContent = "Start over";
  again.onclick = () => fetch("start_over", { method: "POST" }).then(look);
  box.insertBefore(again, faults);
  document.body.append(host);
  async function look() {
    try {
      const state = await (await fetch("preview_state")).json();
      if (state.version !== version) { window.location.reload(); return; }
      if (faults.textContent !== state.faults.join("")) {
        const list = document.createElement("ul");
        list.append(...state.faults.map((text) => {
          const item = document.createElement("li");
          item.textContent = text;
          return item;
        }));
        faults.replaceChildren(...(state.faults.length > 0 ? [list] : []));
      }
    } catch { /* the preview has been stopped, or starts again */ }
  }
  setInterval(look, 500);
  look();
})();
"""
"""Shows where else to look, what is wrong with the files, and reloads the page when the study has changed."""


def application(preview: Preview) -> tornado.web.Application:
    """Return the server's addresses."""
    shared = {"preview": preview}
    questions = "task_config.json|preview_state"
    posts = "request_agent|submit_onboarding|submit_task|log_error|start_over|repeat_onboarding"
    return tornado.web.Application(
        [
            ("/", Root, shared),
            ("/(wrap_crowd_source|preview)[.]js", Script, shared),
            (f"/({questions.replace('.', '[.]')}|{posts})", Api, shared),
            ("/(.*)", PageFiles, {"path": str(FRONTEND_DIST)}),
        ],
        log_function=lambda handler: None,
        websocket_max_message_size=MOST_PACKET_BYTES,
    )


def http_server(preview: Preview) -> tornado.httpserver.HTTPServer:
    """Return a server of the application; large bodies and slow requests are ended."""
    return tornado.httpserver.HTTPServer(
        application(preview), max_body_size=MOST_BODY_BYTES, idle_connection_timeout=60, body_timeout=20
    )
