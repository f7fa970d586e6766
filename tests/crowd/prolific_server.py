"""Prolific on loopback: what its OpenAPI document says of studies, submissions, bonuses, groups and messages.

A test can look into the account, and order faults for requests to come.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "tok3n-0123456789abcdefXYZ"
VARIABLE = "TEST_PROLIFIC_TOKEN"
STUDY = "6500000000000000000000aa"
GROUP = "6500000000000000000000bb"
WORKSPACE = "6500000000000000000000cc"
FEE_PERCENT, VAT_PERCENT = Decimal("33.3"), Decimal(20)
"""Of this account; VAT is on the fee."""


@dataclass
class Fault:
    """How one request goes wrong.

    Attributes:
        acts: whether the request is carried out first.
        status: of the answer; None: the connection breaks without one.
        body: of the answer; None: what belongs there.
        headers: of the answer.
        twice: whether the answer is sent two times.
        wait: is called after the request was carried out, and before it is answered.
    """

    acts: bool = False
    status: int | None = None
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    twice: bool = False
    wait: Callable[[], None] | None = None


def dropped(acts: bool = True) -> Fault:
    """The connection breaks, after the request was carried out or before."""
    return Fault(acts=acts)


def refused(status: int, detail: object = "no", acts: bool = False, **headers: str) -> Fault:
    """An error; with ``acts`` one that is a lie."""
    body = json.dumps({"error": {"status": status, "error_code": 1, "title": "Error", "detail": detail}}).encode()
    return Fault(acts, status, body, {name.replace("_", "-"): value for name, value in headers.items()})


def garbled(content: object, status: int = 200) -> Fault:
    """An answer of another shape than is documented."""
    return Fault(True, status, content if isinstance(content, bytes) else json.dumps(content).encode())


def twice() -> Fault:
    """The right answer, two times."""
    return Fault(acts=True, status=0, twice=True)


class RefusedError(Exception):
    def __init__(self, status: int, detail: object) -> None:
        super().__init__(status)
        self.status, self.detail = status, detail


class Account:
    """What Prolific knows. ``lock`` guards all of it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.studies: dict[str, dict[str, Any]] = {}
        self.submissions: dict[str, dict[str, Any]] = {}
        self.bulks: dict[str, dict[str, Any]] = {}
        self.pending: list[tuple[str, int]] = []
        self.groups: dict[str, list[str]] = {GROUP: []}
        self.messages: list[dict[str, Any]] = []
        self.requests: list[tuple[str, str, Any]] = []
        self.tokens = {TOKEN}
        self.page_cap = 1000
        """Submissions of a page at most, whatever is asked for."""
        self.past_the_end: int = 200
        """Status of a page behind the last."""
        self.pays_at_once = True
        self.fixed_bulk_id: str | None = None
        self.faults: list[tuple[str, re.Pattern[str], Fault]] = []

    def add_study(self, study_id: str = STUDY, **more: Any) -> None:
        self.studies[study_id] = {
            "id": study_id,
            "status": "ACTIVE",
            "reward": 150,
            "total_available_places": 20,
            "places_taken": 0,
            "estimated_completion_time": 12,
            "currency_code": "GBP",
            **more,
        }

    def add_submission(self, submission_id: str, participant: str, study_id: str = STUDY, **more: Any) -> None:
        self.submissions[submission_id] = {
            "id": submission_id,
            "participant": participant,
            "study_id": study_id,
            "status": "AWAITING REVIEW",
            "started_at": "2026-11-27T10:00:00Z",
            "completed_at": "2026-11-27T10:12:00Z",
            "entered_code": "C1DONE88",
            "bonus_payments": [],
            **more,
        }

    def order(self, method: str, pattern: str, *faults: Fault) -> None:
        """Let the next requests of this kind go wrong, one after the other."""
        self.faults += [(method, re.compile(pattern), fault) for fault in faults]

    def sent(self, method: str, pattern: str) -> list[Any]:
        """Return the bodies of the requests of this kind, refused ones included."""
        return [body for verb, path, body in self.requests if verb == method and re.search(pattern, path)]

    def paid(self) -> dict[str, list[int]]:
        """Return the bonuses of each submission that has one."""
        return {one["id"]: one["bonus_payments"] for one in self.submissions.values() if one["bonus_payments"]}

    def process(self, at_most: int | None = None) -> None:
        """Carry out payments that were accepted; what is left after ``at_most`` is lost for good."""
        for submission_id, cents in self.pending[:at_most]:
            self.submissions[submission_id]["bonus_payments"].append(cents)
        self.pending = []

    # --- the API ---

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        parts = urlsplit(path)
        for verb, pattern, act in ROUTES:
            found = re.fullmatch(pattern, parts.path)
            if verb == method and found:
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                answer: tuple[int, Any] = act(self, *map(unquote, found.groups()), query if method == "GET" else body)
                return answer
        raise RefusedError(404, "Not found.")

    def me(self, _: Any) -> tuple[int, Any]:
        return 200, {"id": "me", "email": "a@lab.edu"}

    def get_study(self, study_id: str, _: Any) -> tuple[int, Any]:
        return 200, self._study(study_id)

    def patch_study(self, study_id: str, body: Any) -> tuple[int, Any]:
        study = self._study(study_id)
        if body["total_available_places"] < study["total_available_places"]:
            raise RefusedError(400, {"total_available_places": ["Can't be lowered."]})
        study.update(body)
        return 200, study

    def move_study(self, study_id: str, body: Any) -> tuple[int, Any]:
        study = self._study(study_id)
        if body["action"] != "START" or study["status"] != "PAUSED":
            raise RefusedError(400, "Invalid transition.")
        study["status"] = "ACTIVE"
        return 200, study

    def list_submissions(self, query: Any) -> tuple[int, Any]:
        if "study" not in query:
            raise RefusedError(400, "study is required.")
        self._study(query["study"])
        found = [one for one in self.submissions.values() if one["study_id"] == query["study"]]
        size = min(int(query.get("page_size", 20)), self.page_cap)
        page = int(query.get("page", 1))
        part = found[(page - 1) * size : page * size]
        if not part and page > 1 and self.past_the_end != 200:
            raise RefusedError(self.past_the_end, "Invalid page.")
        short = [
            {
                "id": one["id"],
                "participant_id": one["participant"],
                "status": one["status"],
                "started_at": one["started_at"],
                "completed_at": one["completed_at"],
                "has_siblings": False,
                "study_code": one["entered_code"],
            }
            for one in part
        ]
        return 200, {"results": short}

    def get_submission(self, submission_id: str, _: Any) -> tuple[int, Any]:
        return 200, self._submission(submission_id)

    def move_submission(self, submission_id: str, body: Any) -> tuple[int, Any]:
        one, action = self._submission(submission_id), body["action"]
        if action == "REJECT" and (len(body.get("message", "")) < 100 or "rejection_category" not in body):
            raise RefusedError(400, {"message": ["Ensure this field has at least 100 characters."]})
        target, sources = {
            "APPROVE": ("APPROVED", {"AWAITING REVIEW", "TIMED-OUT", "RETURNED"}),
            "REJECT": ("REJECTED", {"AWAITING REVIEW"}),
            "UNREJECT": ("AWAITING REVIEW", {"REJECTED"}),
        }[action]
        if one["status"] != target:  # the endpoint is idempotent
            if one["status"] not in sources:
                raise RefusedError(400, f"Can't {action} a submission that is {one['status']}.")
            one["status"] = target
        return 200, one

    def set_up(self, body: Any) -> tuple[int, Any]:
        self._study(body["study_id"])
        lines, unknown = [], []
        for line in body["csv_bonuses"].splitlines():
            recipient, amount = line.split(",")
            one = self.submissions.get(recipient)
            if one is None or one["study_id"] != body["study_id"]:
                unknown.append(recipient)
            else:
                lines.append((recipient, int(Decimal(amount) * 100)))
        if unknown:
            raise RefusedError(400, [f"These ids are unknown: {', '.join(unknown)}."])
        if len(lines) > 200:
            raise RefusedError(400, "Too many lines.")
        amount = sum(cents for _, cents in lines)
        fees = Decimal(amount) * FEE_PERCENT / 100
        vat = fees * VAT_PERCENT / 100
        bulk_id = self.fixed_bulk_id or f"bulk{len(self.bulks) + 1}"
        self.bulks[bulk_id] = {"lines": lines, "paid": 0}
        money = {"amount": amount, "fees": float(fees), "vat": float(vat), "total_amount": float(amount + fees + vat)}
        return 201, {"id": bulk_id, "study": body["study_id"], **money}

    def pay(self, bulk_id: str, _: Any) -> tuple[int, Any]:
        if bulk_id not in self.bulks:
            raise RefusedError(404, "Not found.")
        self.bulks[bulk_id]["paid"] += 1
        self.pending += self.bulks[bulk_id]["lines"]  # again and again: it is not idempotent
        if self.pays_at_once:
            self.process()
        return 202, "Bonuses are being paid."

    def members(self, group_id: str, _: Any) -> tuple[int, Any]:
        return 200, {"results": [{"participant_id": one} for one in self._group(group_id)]}

    def join(self, group_id: str, body: Any) -> tuple[int, Any]:
        group = self._group(group_id)
        group += [one for one in body["participant_ids"] if one not in group]
        return self.members(group_id, None)

    def leave(self, group_id: str, body: Any) -> tuple[int, Any]:
        self.groups[group_id] = [one for one in self._group(group_id) if one not in body["participant_ids"]]
        return self.members(group_id, None)

    def message(self, body: Any) -> tuple[int, Any]:
        known = {one["participant"] for one in self.submissions.values() if one["study_id"] == body["study_id"]}
        if body["recipient_id"] not in known:
            raise RefusedError(400, "The recipient has not taken part in the study.")
        self.messages.append(body)
        return 204, None

    def balance(self, workspace_id: str, _: Any) -> tuple[int, Any]:
        if workspace_id != WORKSPACE:
            raise RefusedError(404, "Not found.")
        return 200, {"currency_code": "GBP", "total_balance": 120_00, "available_balance": 100_00}

    def _study(self, study_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self._known(self.studies, study_id)
        return found

    def _submission(self, submission_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self._known(self.submissions, submission_id)
        return found

    def _group(self, group_id: str) -> list[str]:
        group: list[str] = self._known(self.groups, group_id)
        return group

    @staticmethod
    def _known(things: dict[str, Any], thing_id: str) -> Any:
        if thing_id not in things:
            raise RefusedError(404, "Not found.")
        return things[thing_id]


_ID = r"([^/]+)"
ROUTES: list[tuple[str, str, Any]] = [
    ("GET", "/api/v1/users/me/", Account.me),
    ("GET", f"/api/v1/studies/{_ID}/", Account.get_study),
    ("PATCH", f"/api/v1/studies/{_ID}/", Account.patch_study),
    ("POST", f"/api/v1/studies/{_ID}/transition/", Account.move_study),
    ("GET", "/api/v1/submissions/", Account.list_submissions),
    ("GET", f"/api/v1/submissions/{_ID}/", Account.get_submission),
    ("POST", f"/api/v1/submissions/{_ID}/transition/", Account.move_submission),
    ("POST", "/api/v1/submissions/bonus-payments/", Account.set_up),
    ("POST", f"/api/v1/bulk-bonus-payments/{_ID}/pay/", Account.pay),
    ("GET", f"/api/v1/participant-groups/{_ID}/participants/", Account.members),
    ("POST", f"/api/v1/participant-groups/{_ID}/participants/", Account.join),
    ("DELETE", f"/api/v1/participant-groups/{_ID}/participants/", Account.leave),
    ("POST", "/api/v1/messages/", Account.message),
    ("GET", f"/api/v1/workspaces/{_ID}/balance/", Account.balance),
]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    account: Account

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _handle(self) -> None:
        account = self.account
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        with account.lock:
            account.requests.append((self.command, self.path, body))
            fault = self._take_fault()
            status, content = 200, b""
            if fault is None or fault.acts:
                status, content = self._act(body)
        if fault is None:
            self._send(status, content, {})
            return
        if fault.wait is not None:
            fault.wait()
        if fault.status is None:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(2)
            return
        if fault.status:
            status, content = fault.status, content if fault.body is None else fault.body
        for _ in range(1 + fault.twice):
            self._send(status, content, fault.headers)

    do_GET = do_POST = do_PATCH = do_DELETE = _handle  # noqa: N815  # the library's names

    def _take_fault(self) -> Fault | None:
        for index, (method, pattern, fault) in enumerate(self.account.faults):
            if method == self.command and pattern.search(self.path):
                del self.account.faults[index]
                return fault
        return None

    def _act(self, body: Any) -> tuple[int, bytes]:
        try:
            scheme, _, token = self.headers.get("Authorization", "").partition(" ")
            if scheme != "Token" or token not in self.account.tokens:
                raise RefusedError(401, "Invalid token.")
            status, content = self.account.answer(self.command, self.path, body)
        except RefusedError as error:
            status = error.status
            content = {"error": {"status": status, "error_code": 1, "title": "Error", "detail": error.detail}}
        return status, b"" if content is None else json.dumps(content).encode()

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class ProlificServer(Account):
    """The account, and where it is served."""

    url = ""


@contextmanager
def serving() -> Iterator[ProlificServer]:
    """Run the server in threads; nothing is left when it ends."""
    account = ProlificServer()
    account.add_study()
    handler = type("Handler", (_Handler,), {"account": account})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    account.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield account
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
