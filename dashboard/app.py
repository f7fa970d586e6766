"""The dashboard's HTTP interface (docs/dashboard.md): what is shown, what can be done, and by whom."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import orjson
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from model_chat.dashboard.access import LONGEST_NAME, Access, Session
from model_chat.dashboard.acts import MOST_AT_ONCE, ActRequest
from model_chat.dashboard.audit import shown
from model_chat.dashboard.event_stream import EventStream
from model_chat.dashboard.listing import FACETS, MOST_PER_PAGE, SORTS, Query, list_conversations, read_whole
from model_chat.dashboard.live import DashboardMessage, RunAct
from model_chat.dashboard.settings import Role
from model_chat.dashboard.watch import Watched
from model_chat.errors import ConfigurationError

logger = logging.getLogger(__name__)

_Model = TypeVar("_Model", bound=DashboardMessage)

MAX_BODY_BYTES = 64 * 1024
MAX_FIELD = 200
"""Characters of a parameter of the address."""
HEARTBEAT_SECONDS = 15.0
STREAMS_OF_SESSION, STREAMS_OF_ALL = 8, 60
LONGEST_MORE = 100_000
AUDIT_PAGE = 100
SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=()",
}
ACT_ROLES: dict[str, Role] = {
    "approve": Role.REVIEW,
    "reject": Role.REVIEW,
    "block": Role.REVIEW,
    "unblock": Role.REVIEW,
    "bonus": Role.PAY,
}
NOT_BUILT = "The dashboard's page is not built; run 'make setup' once."


class LogIn(DashboardMessage, strict=True):
    """The body of a log-in."""

    password: str
    name: str


class RunRequest(DashboardMessage, strict=True):
    """The body of an act on the run."""

    act: RunAct
    more: int | None = None


def answer(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return JSON, which nobody keeps a copy of."""
    try:
        data = orjson.dumps(content, option=orjson.OPT_NON_STR_KEYS)
    except orjson.JSONEncodeError:  # a record may have hundreds of levels
        data = json.dumps(content).encode("ascii")
    return Response(
        data,
        status,
        {"cache-control": "no-store", **(headers or {})},
        "application/json",
    )


def refusal(status: int, sentence: str, **more: object) -> HTTPException:
    """Return an error with a sentence for the page."""
    error = HTTPException(status, sentence)
    error.more = more  # type: ignore[attr-defined]  # read below
    return error


async def on_error(request: Request, error: Exception) -> Response:
    """Answer an error as JSON."""
    if isinstance(error, HTTPException):
        more = getattr(error, "more", {})
        return answer({"error": str(error.detail), **more}, error.status_code, error.headers)
    logger.error("A request to the dashboard failed", exc_info=error)
    return answer({"error": "The dashboard has a technical problem; see the log."}, 500)


class SecureHeaders:
    """Adds the headers that keep other sites out to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message.setdefault("headers", [])
                headers += [(name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
            await send(message)

        await self.app(scope, receive, send_secured)


class Dashboard:
    """The application.

    Args:
        cookie: name of the session's cookie; cookies know no ports, so each dashboard of a machine needs its own.
    """

    def __init__(self, studies: Sequence[Watched], access: Access, page: Path, cookie: str) -> None:
        self._studies = {watched.study.id: watched for watched in studies}
        self._access, self._page, self._cookie = access, page, cookie
        self._streams = 0
        routes: list[BaseRoute] = [
            Route("/", self.show_page),
            Route("/login", self.lead_to_log_in),
            Route("/api/login", self.log_in_by_link),
            Route("/healthz", self.show_health),
            Route("/api/login", self.log_in, methods=["POST"]),
            Route("/api/logout", self.log_out, methods=["POST"]),
            Route("/api/session", self.show_session),
            Route("/api/studies/{study}/overview", self.show_overview),
            Route("/api/studies/{study}/events", self.stream_events),
            Route("/api/studies/{study}/conversations", self.list_conversations),
            Route("/api/studies/{study}/conversations/{id}", self.show_conversation),
            Route("/api/studies/{study}/acts", self.act, methods=["POST"]),
            Route("/api/studies/{study}/run", self.act_on_run, methods=["POST"]),
            Route("/api/studies/{study}/audit", self.show_audit),
        ]
        assets = page / "assets"
        if assets.is_dir():
            routes.append(Mount("/assets", StaticFiles(directory=assets)))
        if (page / "icon.svg").is_file():
            routes.append(Route("/icon.svg", self.show_icon))
        starlette = Starlette(
            routes=routes,
            exception_handlers={HTTPException: on_error, Exception: on_error},
            lifespan=self._lifespan,
        )
        self.app = SecureHeaders(starlette)
        self._streaming: dict[str, int] = dict.fromkeys(self._studies, 0)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        looking = [
            asyncio.create_task(watched.keep_looking(partial(self._has_streams, name)))
            for name, watched in self._studies.items()
        ]
        try:
            yield
        finally:
            for task in looking:
                task.cancel()
            await asyncio.gather(*looking, return_exceptions=True)
            for watched in self._studies.values():
                watched.close()

    def _has_streams(self, study: str) -> bool:
        return self._streaming[study] > 0

    # --- the page and log-in ---

    async def show_page(self, request: Request) -> Response:
        """The page, which shows nothing before somebody has logged in."""
        path = self._page / "dashboard.html"
        if not path.is_file():
            return PlainTextResponse(NOT_BUILT + "\n", 503)
        return FileResponse(path, media_type="text/html", headers={"cache-control": "no-cache"})

    async def show_icon(self, request: Request) -> Response:
        """The page's icon."""
        return FileResponse(self._page / "icon.svg", media_type="image/svg+xml")

    async def show_health(self, request: Request) -> Response:
        """For a supervisor."""
        return PlainTextResponse("ok\n")

    async def lead_to_log_in(self, request: Request) -> Response:
        """Lead from the printed link to the folder that the session's cookie belongs to."""
        token = quote(request.query_params.get("token", ""), safe="")
        return RedirectResponse(f"./api/login?token={token}", 303, {"cache-control": "no-store"})

    async def log_in_by_link(self, request: Request) -> Response:
        """Take the token out of the printed link, and lead to the page without it.

        A wrong one is no failed attempt: nobody guesses 192 bits, and any site can make a browser ask as often as it likes.
        """
        found = self._access.log_in_by_token(request.query_params.get("token", ""))
        # Relative, so that it leads back to the page's own folder behind a proxy, too.
        response = RedirectResponse("../", 303, {"cache-control": "no-store"})
        if found is not None:
            self._set_cookie(request, response, found[0])
        return response

    async def log_in(self, request: Request) -> Response:
        """Log in by password, under a name for the audit log."""
        self._check_origin(request)
        address = _address(request)
        self._check_attempts(address)
        given = await _body(request, LogIn)
        name = "".join(char for char in " ".join(given.name.split()) if char.isprintable())
        if not name or len(name) > LONGEST_NAME:
            raise refusal(
                422, f"Give your name, of at most {LONGEST_NAME} characters; it is written beside what you do."
            )
        if not self._access.takes_passwords:
            raise refusal(401, "This dashboard has no password; open the link that its command has printed.")
        found = self._access.log_in_by_password(given.password, name)
        if found is None:
            self._access.limit.failed(address)
            raise refusal(401, "The password is wrong.")
        response = answer(_of_session(found[1]))
        self._set_cookie(request, response, found[0])
        return response

    def _check_attempts(self, address: str) -> None:
        wait = self._access.limit.wait(address)
        if wait > 0:
            error = refusal(429, "Too many failed attempts; wait some minutes.", retry_after=round(wait))
            error.headers = {"retry-after": str(round(wait) or 1)}
            raise error

    def _set_cookie(self, request: Request, response: Response, session_id: str) -> None:
        # Without a path: it goes to this folder, as the browser sees it, and to no other program behind the same proxy.
        response.set_cookie(
            self._cookie, session_id, path=None, secure=request.url.scheme == "https", httponly=True, samesite="strict"
        )

    async def log_out(self, request: Request) -> Response:
        """End the session."""
        self._session(request, acts=True)
        self._access.log_out(request.cookies.get(self._cookie))
        response = answer({})
        response.set_cookie(self._cookie, max_age=0, path=None)
        return response

    async def show_session(self, request: Request) -> Response:
        """Who is logged in, and which studies there are."""
        session = self._session(request)
        return answer(
            {
                **_of_session(session),
                "studies": [
                    {
                        "id": name,
                        "title": watched.study.title,
                        "live": watched.run is not None and watched.run.state is not None,
                    }
                    for name, watched in self._studies.items()
                ],
            }
        )

    def _session(self, request: Request, role: Role = Role.READ, acts: bool = False) -> Session:
        """Return the session of a request that may do what it asks for.

        Args:
            acts: whether it changes anything: then it has to come from the page itself.
        """
        session = self._access.session(request.cookies.get(self._cookie))
        if session is None:
            raise refusal(401, "Log in first.")
        if acts:
            self._check_origin(request)
            if not _same(request.headers.get("x-csrf-token", ""), session.csrf):
                raise refusal(403, "The request does not come from this page; load the page again.")
        if not session.role.includes(role):
            raise refusal(403, f"Your role is {session.role.value}; this needs the role {role.value}.")
        return session

    @staticmethod
    def _check_origin(request: Request) -> None:
        """Check that a browser sent a request from the page itself, not from another site."""
        origin = request.headers.get("origin")
        host = request.headers.get("host", "")
        parts = urlsplit(origin) if origin else None
        if parts is None or parts.scheme not in ("http", "https") or not host or parts.netloc.lower() != host.lower():
            raise refusal(403, "The request does not come from this page (its Origin is another).")

    def _watched(self, request: Request) -> Watched:
        watched = self._studies.get(request.path_params["study"])
        if watched is None:
            raise refusal(404, "There is no such study.")
        return watched

    # --- reading ---

    async def show_overview(self, request: Request) -> Response:
        """The overview."""
        self._session(request)
        watched = self._watched(request)
        await watched.look()
        return Response(watched.overview, 200, {"cache-control": "no-store"}, "application/json")

    async def stream_events(self, request: Request) -> Response:
        """The overview whenever it changes, as server-sent events."""
        session = self._session(request)
        watched = self._watched(request)
        if session.streams >= STREAMS_OF_SESSION or self._streams >= STREAMS_OF_ALL:
            raise refusal(429, "Too many pages of this dashboard are open; close some.", retry_after=30)
        session_id = request.cookies.get(self._cookie)

        async def events() -> AsyncIterator[bytes]:
            await watched.look()
            known = -1
            while self._access.session(session_id) is session:
                if await watched.wait_for_change(known, HEARTBEAT_SECONDS):
                    # One that reads slowly gets the newest when it has read the last: nothing piles up.
                    known = watched.version
                    yield b"event: overview\ndata: " + watched.overview + b"\n\n"
                else:
                    yield b": still here\n\n"

        def count(streams: int) -> None:
            session.streams += streams
            self._streams += streams
            self._streaming[watched.study.id] += streams

        count(1)  # before anything is awaited, so that requests at the same moment can't all be let in
        return EventStream(events(), ended=lambda: count(-1))

    async def list_conversations(self, request: Request) -> Response:
        """A page of the list of conversations."""
        self._session(request)
        watched = self._watched(request)
        await watched.look()
        params = request.query_params
        texts = {name: params.get(name, "")[:MAX_FIELD] for name in (*FACETS, "worker")}
        sort = params.get("sort", "") or "-started"
        if sort.lstrip("-") not in SORTS:
            raise refusal(
                422, f"sort: '{sort:.40}' is unknown; give one of {', '.join(SORTS)}, with - for the greatest first."
            )
        query = Query(
            offset=_number(params.get("offset"), "offset", 0, 10**7),
            limit=_number(params.get("limit"), "limit", 50, MOST_PER_PAGE),
            filters=texts,
            q=params.get("q", "")[:MAX_FIELD],
            sort=sort,
        )
        return answer(await watched.in_reader(lambda: list_conversations(watched.store.snapshot, watched.names, query)))

    async def show_conversation(self, request: Request) -> Response:
        """One conversation in full."""
        self._session(request)
        watched = self._watched(request)
        await watched.look()
        one = watched.store.snapshot.by_id.get(request.path_params["id"])
        if one is None:
            raise refusal(404, "There is no such conversation.")
        found = await watched.in_reader(lambda: read_whole(one, watched.names, watched.audit.about(one.id)))
        return answer(found)

    async def show_audit(self, request: Request) -> Response:
        """What was done, newest first."""
        self._session(request)
        watched = self._watched(request)
        offset = _number(request.query_params.get("offset"), "offset", 0, 10**7)
        entries = await watched.in_reader(watched.audit.entries)
        newest = entries[::-1]
        items = [shown(entry) for entry in newest[offset : offset + AUDIT_PAGE]]
        return answer({"total": len(entries), "offset": offset, "items": items})

    # --- acting ---

    async def act(self, request: Request) -> Response:
        """Approve, reject, pay, block or unblock."""
        session = self._session(request, acts=True)
        watched = self._watched(request)
        given = await _body(request, ActRequest)
        self._session(request, ACT_ROLES[given.act], acts=True)
        if not given.ids or len(given.ids) > MOST_AT_ONCE:
            raise refusal(422, f"Name 1 to {MOST_AT_ONCE} conversations.")
        results = await _done(watched, lambda: watched.acts.perform(given, session))
        await watched.look()
        return answer({"results": results})

    async def act_on_run(self, request: Request) -> Response:
        """Stop or resume taking workers in, or collect more."""
        session = self._session(request, Role.PAY, acts=True)
        watched = self._watched(request)
        given = await _body(request, RunRequest)
        run = watched.run
        if run is None or run.state is None:
            raise refusal(409, "The study does not run here, so there is nothing to stop or to extend.")
        if given.act == "extend" and (given.more is None or not 1 <= given.more <= LONGEST_MORE):
            raise refusal(422, f"more: give a whole number from 1 to {LONGEST_MORE}.")
        more = given.more if given.act == "extend" else None
        fault = await _done(watched, lambda: watched.acts.perform_on_run(run, given.act, more, session))
        if fault:
            raise refusal(409, fault)
        await watched.look()
        return answer({"ok": True})


async def _done(watched: Watched, work: Callable[[], Any]) -> Any:
    """Do an act to its end, whether or not the page waits for it."""
    try:
        return await asyncio.shield(watched.in_actor(work))
    except ConfigurationError as error:
        raise refusal(409, " ".join(error.faults)) from None
    except OSError as error:
        logger.error("An act could not be written down: %s", error)
        raise refusal(
            507, "Nothing more is done, since the audit log can't be written; make room on the disk."
        ) from None


async def _body(request: Request, model: type[_Model]) -> _Model:
    """Read a small JSON body."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise refusal(415, "The body must be JSON (Content-Type: application/json).")
    data = bytearray()
    try:
        async for chunk in request.stream():
            data += chunk
            if len(data) > MAX_BODY_BYTES:
                raise refusal(413, f"The body is too large; at most {MAX_BODY_BYTES // 1024} KiB are taken.")
    except ClientDisconnect:
        raise refusal(400, "The body did not arrive.") from None
    try:
        return model.model_validate(orjson.loads(data))
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, fault["loc"])) or "the body"
        raise refusal(422, f"{place}: {fault['msg']}.") from None
    except (orjson.JSONDecodeError, RecursionError):
        raise refusal(400, "The body is no JSON.") from None


def _number(text: str | None, name: str, default: int, most: int) -> int:
    if not text:
        return default
    if not text.isdecimal() or len(text) > 9:
        raise refusal(422, f"{name}: '{text:.20}' is no whole number.")
    return min(int(text), most)


def _address(request: Request) -> str:
    return request.client.host if request.client is not None else ""


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())


def _of_session(session: Session) -> dict[str, str]:
    return {"name": session.name, "role": session.role.value, "csrf": session.csrf}
