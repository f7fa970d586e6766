"""Prolific's API for researchers (https://docs.prolific.com/api-reference), as far as this project uses it.

A request is repeated only where a repeat changes nothing. Of any other, the caller is told by the class of the error whether
it was refused (:class:`RefusedByProlificError`) or may have been carried out (:class:`NoAnswerError`).
"""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, ValidationError

from model_chat.configuration.http import is_loopback, retry_after
from model_chat.configuration.redaction import learn_secrets, redacted
from model_chat.crowd.panels import PROLIFIC_API_URL
from model_chat.crowd.platform import PlatformError
from model_chat.crowd.prolific_models import (
    Balance,
    BonusLine,
    BulkBonus,
    Study,
    Submission,
    SubmissionDetail,
    Submissions,
)

if TYPE_CHECKING:
    import httpx

MIN_REJECTION_CHARACTERS = 100
"""Of the message to a participant whose submission is rejected (Prolific's OpenAPI document, ``SubmissionTransition``)."""
MAX_BONUSES = 200
"""Lines of one bulk bonus that Prolific recommends at most."""
MAX_GROUP_IDS = 500
"""Participants that one request puts into a group or takes out; Prolific names no limit."""
PAGE_SIZE = 100
MAX_PAGES = 1000
ATTEMPTS = 5
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0
"""Seconds before the first repeat, and at most before any; each is doubled, and shortened at random by up to a half."""
LONGEST_RETRY_AFTER = 60.0
"""Seconds; a server that asks for more is not waited for."""
RETRIED_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TOKEN = re.compile(r"[!-~]+")


class ProlificError(PlatformError):
    """Prolific did not do what was asked, or did not say so.

    Args:
        message: for the requester, without a full stop.
        status: HTTP's, None without an answer.
        retry_after: seconds that Prolific asks to wait.
    """

    def __init__(
        self, message: str, status: int | None = None, retryable: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retryable = retryable
        self.retry_after = retry_after


class RefusedByProlificError(ProlificError):
    """What was asked has not been done."""


class NoAnswerError(ProlificError):
    """No usable answer came: what was asked may have been done."""


_Model = TypeVar("_Model", bound=BaseModel)


def concerns_all_requests(error: PlatformError) -> bool:
    """Whether further requests would fail, too: Prolific can't be reached, is in trouble, busy, or refuses the token."""
    return isinstance(error, NoAnswerError) or (
        isinstance(error, RefusedByProlificError) and error.status in (None, 401, 429)
    )


def read_token(flag: str, variable: str | None) -> tuple[str, list[str]]:
    """Read the API token from the environment.

    Returns:
        the token, "" where there is none; and what is wrong, a sentence each.
    """
    if not variable:
        return "", [f"{flag}: is not set; give the environment variable that holds the token of Prolific's API."]
    if not _VARIABLE.fullmatch(variable):  # may be the token itself
        return "", [f"{flag}: must be the name of an environment variable, never the token itself."]
    token = os.environ.get(variable, "").strip()
    if not token:
        return "", [
            f"{flag}: the environment variable '{variable}' is not set; put the token into it, for instance "
            f"'export {variable}=…' in the shell that starts the command."
        ]
    if not _TOKEN.fullmatch(token):
        return "", [f"{flag}: the environment variable '{variable}' holds characters that no token has."]
    return token, []


def address_fault(flag: str, address: str) -> str | None:
    """Say what is wrong with the address of the API; None if nothing is."""
    import httpx

    try:
        parts = urlsplit(address)
        host, _ = parts.hostname or "", parts.port
        _ = httpx.URL(address).host  # as the client reads it: no characters that an address can't hold
    except (ValueError, httpx.InvalidURL):
        return f"{flag}: '{redacted(address)}' is no address; give one such as {PROLIFIC_API_URL}."
    if parts.scheme not in ("https", "http") or not host or parts.query or parts.fragment or parts.username:
        return f"{flag}: must be an address such as {PROLIFIC_API_URL}, without user, '?' and '#'."
    if parts.scheme == "http" and not is_loopback(host):
        return f"{flag}: 'http' would send the token unprotected; give an https address."
    return None


class ProlificClient:
    """The API, asked with one token. Not for several threads.

    Args:
        token: sent to ``api_url`` alone, and never logged.
        token_variable: the environment variable that the token is from, for errors.
        api_url: without the path.
        sleep: waits so many seconds before a request is repeated.
    """

    def __init__(
        self,
        token: str,
        token_variable: str,
        api_url: str = PROLIFIC_API_URL,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        import httpx

        learn_secrets({"token": token})
        self._token_variable = token_variable
        self._api_url = api_url.rstrip("/")
        self._sleep = sleep
        self._http = httpx.Client(
            headers={"Authorization": f"Token {token}", "Accept": "application/json"},
            timeout=httpx.Timeout(60, connect=15),
            # A connection for each request: one that was closed meanwhile would look like a lost answer.
            limits=httpx.Limits(max_keepalive_connections=0),
            trust_env=not is_loopback(urlsplit(self._api_url).hostname or ""),
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # --- studies ---

    def check_token(self) -> None:
        """Ask whose token it is.

        Raises:
            PlatformError: it is not accepted, or Prolific can't be reached.
        """
        self._ask("GET", "/users/me/")

    def study(self, study_id: str) -> Study:
        """Return a study."""
        return self._read(Study, "GET", f"/studies/{_part(study_id)}/")

    def set_places(self, study_id: str, places: int) -> Study:
        """Set how many places a study has in all, those taken included."""
        body = {"total_available_places": places}
        return self._read(Study, "PATCH", f"/studies/{_part(study_id)}/", body)

    def start(self, study_id: str) -> None:
        """Let a study that is paused go on. Not repeated."""
        self._ask("POST", f"/studies/{_part(study_id)}/transition/", {"action": "START"}, repeat=False)

    def balance(self, workspace_id: str) -> Balance:
        """Return what a workspace can spend."""
        return self._read(Balance, "GET", f"/workspaces/{_part(workspace_id)}/balance/")

    # --- submissions ---

    def submissions(self, study_id: str) -> list[Submission]:
        """Return all submissions of a study, oldest first, each once however the pages are cut."""
        found: dict[str, Submission] = {}
        for page in range(1, MAX_PAGES + 1):
            query = f"study={quote(study_id, safe='')}&ordering=started_at&page={page}&page_size={PAGE_SIZE}"
            try:
                answer = self._read(Submissions, "GET", f"/submissions/?{query}")
            except RefusedByProlificError as error:
                if page > 1 and error.status == 404:  # beyond the last page
                    break
                raise
            new = [one for one in answer.results if one.id not in found]
            if not new:
                break
            found |= {one.id: one for one in new}
        else:
            raise PlatformError(f"Prolific lists more than {MAX_PAGES} pages of submissions of study {study_id}")
        return list(found.values())

    def submission(self, submission_id: str) -> SubmissionDetail:
        """Return one submission."""
        return self._read(SubmissionDetail, "GET", f"/submissions/{_part(submission_id)}/")

    def transition(self, submission_id: str, action: Literal["APPROVE", "REJECT", "UNREJECT"], **further: str) -> None:
        """Change the status of a submission; Prolific ignores a repeat.

        Args:
            submission_id: Prolific's session id.
            action: ``REJECT`` needs ``message`` and ``rejection_category``.
        """
        self._ask("POST", f"/submissions/{_part(submission_id)}/transition/", {"action": action, **further})

    # --- bonuses ---

    def set_up_bonuses(self, study_id: str, lines: Sequence[BonusLine]) -> BulkBonus:
        """Set up bonuses, which pays nothing. Not repeated.

        Raises:
            PlatformError: they are not set up, or nobody knows; or Prolific has read another sum than was meant.
        """
        body = {"study_id": study_id, "csv_bonuses": "\n".join(line.as_csv() for line in lines)}
        bulk = self._read(BulkBonus, "POST", "/submissions/bonus-payments/", body, repeat=False)
        meant = sum(line.cents for line in lines)
        if (bulk.amount is not None and round(bulk.amount) != meant) or bulk.total_amount < meant:
            raise PlatformError(
                f"Prolific set up another sum than was asked for ({bulk.amount or bulk.total_amount} instead of {meant} "
                "pence or cents); nothing was paid"
            )
        return bulk

    def pay_bonuses(self, bulk_id: str) -> None:
        """Pay what is set up. A second request pays a second time, so this is never repeated.

        Raises:
            RefusedByProlificError: nothing is paid.
            NoAnswerError: it may be paid, or will be.
        """
        self._ask("POST", f"/bulk-bonus-payments/{_part(bulk_id)}/pay/", repeat=False)

    # --- participants ---

    def send_message(self, participant_id: str, body: str, study_id: str) -> None:
        """Send a message to a participant of a study. Not repeated."""
        message = {"recipient_id": participant_id, "body": body, "study_id": study_id}
        self._ask("POST", "/messages/", message, repeat=False)

    def add_to_group(self, group_id: str, participant_ids: Iterable[str]) -> None:
        """Put participants into a group; those who are in it stay."""
        self._change_group("POST", group_id, participant_ids)

    def remove_from_group(self, group_id: str, participant_ids: Iterable[str]) -> None:
        """Take participants out of a group; those who are not in it are ignored."""
        self._change_group("DELETE", group_id, participant_ids)

    def _change_group(self, method: str, group_id: str, participant_ids: Iterable[str]) -> None:
        ids = list(dict.fromkeys(participant_ids))
        for start in range(0, len(ids), MAX_GROUP_IDS):
            body = {"participant_ids": ids[start : start + MAX_GROUP_IDS]}
            self._ask(method, f"/participant-groups/{_part(group_id)}/participants/", body)

    # --- requests ---

    def _read(self, kind: type[_Model], method: str, path: str, body: Any = None, repeat: bool = True) -> _Model:
        response = self._ask(method, path, body, repeat)
        try:
            return kind.model_validate_json(response.content)
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(map(str, fault["loc"])) or "the whole"
            raise NoAnswerError(
                f"Prolific answered {_shown(method, path)} with something that its documentation does not describe "
                f"({where}: {fault['msg']})"
            ) from None  # pydantic's text holds the answer

    def _ask(self, method: str, path: str, body: Any = None, repeat: bool = True) -> httpx.Response:
        """Send a request, with repeats where ``repeat`` allows.

        Raises:
            RefusedByProlificError: it was refused, or never reached Prolific.
            NoAnswerError: it may have been carried out.
        """
        attempt = 1
        while True:
            try:
                return self._send(method, path, body)
            except ProlificError as error:
                pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (attempt - 1)) * random.uniform(0.5, 1)
                if error.retry_after is not None:
                    pause = error.retry_after * random.uniform(1, 1.25)
                if not repeat or not error.retryable or attempt == ATTEMPTS or pause > LONGEST_RETRY_AFTER:
                    raise
            self._sleep(pause)
            attempt += 1

    def _send(self, method: str, path: str, body: Any) -> httpx.Response:
        """Send a request once; raises as :meth:`_ask`."""
        import httpx

        shown = _shown(method, path)
        try:
            response = self._http.request(method, f"{self._api_url}/api/v1{path}", json=body)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise RefusedByProlificError(
                f"Prolific at {self._api_url} can't be reached: {_words(error)}", retryable=True
            ) from error
        except httpx.HTTPError as error:
            raise NoAnswerError(f"Prolific gave no answer to {shown}: {_words(error)}", retryable=True) from error
        status = response.status_code
        if 200 <= status < 300:
            return response
        detail = _detail(response)
        meaning = f": {detail}" if detail else ""
        if status == 401:
            meaning = f": the token in {self._token_variable} is not accepted (expired, or revoked)"
        elif status == 429:
            meaning = ": it has too much to do; repeat the command in a minute"
        elif 300 <= status < 400:
            meaning = ": it names another address; correct api_url"
        kind = NoAnswerError if status >= 500 or status == 408 else RefusedByProlificError
        pause = retry_after(response.headers)
        raise kind(f"Prolific answered {status} to {shown}{meaning}", status, status in RETRIED_STATUSES, pause)


def _part(text: str) -> str:
    """Return an id as one part of a path, whatever it holds."""
    return "%2E" * len(text) if text in (".", "..") else quote(text, safe="")


def _shown(method: str, path: str) -> str:
    return f"{method} {path.partition('?')[0]}"


def _words(error: Exception) -> str:
    return redacted(" ".join(str(error).split()))[:200].rstrip(".") or type(error).__name__


def _detail(response: httpx.Response) -> str:
    """What Prolific says of an error (``{"error": {"detail": text, list, or lists by field}}``), in one line."""
    try:
        error = response.json()["error"]
        detail = error.get("detail") or error.get("title") or ""
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ""
    if isinstance(detail, dict):
        detail = [f"{field}: {_joined(texts)}" for field, texts in detail.items()]
    return redacted(" ".join(_joined(detail).split()))[:400].rstrip(".")


def _joined(texts: object) -> str:
    return " ".join(map(str, texts)) if isinstance(texts, list) else str(texts)
