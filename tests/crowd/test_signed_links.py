"""Signed addresses: tokens signed here, with a key set that a server on loopback publishes as Prolific does."""

from __future__ import annotations

import base64
import hmac
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256, SHA512
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from model_chat.crowd.arrivals import ArrivalChecker, ArrivalRefusedError, NewVisitorError
from model_chat.crowd.panel_store import PanelStore
from model_chat.crowd.signed_links import (
    KEYS_SECONDS,
    MOST_KEYS_BYTES,
    RETRY_SECONDS,
    KeysUnavailableError,
    LinkSettings,
    PanelKeys,
    SignedLinks,
    check_keys,
    fetch_keys,
    is_same_address,
)
from model_chat.errors import ConfigurationError
from model_chat.quality.refusals import Refusal
from model_chat.tests.crowd.test_panels import panel

ISSUER, AUDIENCE, PID = "https://www.prolific.com", "https://study.lab.edu/pets/", "60ffe5c8371090c7041d43f8"
KEY, OTHER_KEY = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))


class KeyServer:
    """Publishes a key set."""

    def __init__(self) -> None:
        self.status, self.asked = 200, 0
        self.keys: Any = {"keys": [public("k1", KEY)]}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                body = outer.keys if isinstance(outer.keys, bytes) else json.dumps(outer.keys).encode()
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        serving = {"poll_interval": 0.02}  # so long its end takes
        threading.Thread(target=self.server.serve_forever, kwargs=serving, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/jwks.json"


def encoded(data: bytes | dict[str, Any]) -> str:
    """Base64url without padding, of JSON for a dictionary."""
    data = json.dumps(data).encode() if isinstance(data, dict) else data
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def public(key_id: str, key: Any) -> dict[str, Any]:
    """A public key as a key set has it."""
    numbers = key.public_key().public_numbers()
    parts = {name: encoded(getattr(numbers, name).to_bytes(256).lstrip(b"\0")) for name in ("n", "e")}
    return {"kty": "RSA", "kid": key_id, "use": "sig", "alg": "RS256", **parts}


WEAK_KEY = public("weak", rsa.generate_private_key(public_exponent=65537, key_size=1024))


def signed_token(header: dict[str, Any], claims: dict[str, Any], key: Any) -> str:
    """A token, signed as its header says."""
    content = f"{encoded(header)}.{encoded(claims)}".encode()
    if header["alg"] == "none":
        signature = b""
    elif header["alg"] == "HS256":
        pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        signature = hmac.digest(pem, content, "sha256")
    else:
        signature = key.sign(content, PKCS1v15(), SHA512() if header["alg"] == "RS512" else SHA256())
    return f"{content.decode()}.{encoded(signature)}"


@pytest.fixture
def keys() -> Iterator[KeyServer]:
    server = KeyServer()
    yield server
    server.server.shutdown()
    server.server.server_close()


def query(
    key: Any = KEY,
    algorithm: str = "RS256",
    key_id: str | None = "k1",
    shown: dict[str, str] | None = None,
    **claims: Any,
) -> str:
    """A participant's signed address; ``shown`` and ``claims`` change what is not signed and what is."""
    ids = {"PROLIFIC_PID": PID, "STUDY_ID": "s1", "SESSION_ID": "e1"}
    now = int(time.time())
    signed = {
        "iss": ISSUER,
        "iat": now,
        "exp": now + 120,
        "aud": f"{AUDIENCE}?PROLIFIC_PID=x",
        "sub": "e1",
        "prolific": {**ids, "workspace_id": "w"},
        **claims,
    }
    signed = {name: value for name, value in signed.items() if value is not None}
    header = {"alg": algorithm, "typ": "JWT", **({} if key_id is None else {"kid": key_id})}
    token = signed_token(header, signed, key)
    return "?" + urlencode({**ids, **(shown or {}), "prolific_token": token})


def with_token(token: str) -> str:
    """A participant's address with another token."""
    return f"{query().split('&prolific_token')[0]}&{urlencode({'prolific_token': token})}"


@pytest.fixture
def checker(tmp_path: Path, keys: KeyServer) -> ArrivalChecker:
    return make_checker(tmp_path, keys)


def make_checker(folder: Path, keys: KeyServer, study: str = "") -> ArrivalChecker:
    """What a run makes; another one of the same data folder for the same folder."""
    store = PanelStore(folder / "prolific.db")
    settings = LinkSettings(keys.url, ISSUER, AUDIENCE, "prolific_token", study)
    return ArrivalChecker(panel(), store, SignedLinks(settings, panel(), store))


def browser(checker: ArrivalChecker) -> str:
    """A browser that the server has given an id."""
    with pytest.raises(NewVisitorError) as new:
        checker.identify(query(), None)
    return new.value.visitor


def refusal(checker: ArrivalChecker, address: str, visitor: str | None = None) -> Refusal:
    """Why an address is not taken."""
    with pytest.raises(ArrivalRefusedError) as refused:
        checker.identify(address, visitor or browser(checker))
    return refused.value.refusal


def test_a_genuine_address_names_its_participant_and_the_keys_are_fetched_once(
    checker: ArrivalChecker, keys: KeyServer
) -> None:
    for age in range(3):
        arrival = checker.identify(query(iat=int(time.time()) - age), browser(checker))
        assert (arrival.participant, arrival.study, arrival.session) == (PID, "s1", "e1")
    assert keys.asked == 1


@pytest.mark.parametrize(
    "address",
    [
        pytest.param(lambda: query(key=OTHER_KEY), id="signed by somebody else"),
        pytest.param(lambda: query(key_id="k2"), id="a key that there is not"),
        pytest.param(lambda: query(key_id=None), id="no key named"),
        pytest.param(lambda: query(algorithm="none"), id="not signed at all"),
        pytest.param(lambda: query(algorithm="HS256"), id="the public key, which everybody knows, as a secret"),
        pytest.param(lambda: query(algorithm="RS512"), id="another algorithm"),
        pytest.param(lambda: query(shown={"PROLIFIC_PID": "somebody"}), id="another participant's id typed"),
        pytest.param(lambda: query(shown={"SESSION_ID": "e2"}), id="another session typed"),
        pytest.param(lambda: query(shown={"STUDY_ID": "s2"}), id="another study typed"),
        pytest.param(lambda: query().replace("&SESSION_ID=e1", ""), id="the session left out"),
        pytest.param(lambda: query().replace("&STUDY_ID=s1", ""), id="the study left out"),
        pytest.param(
            lambda: query(prolific={"PROLIFIC_PID": PID, "STUDY_ID": "s1"}), id="a session that is not signed"
        ),
        pytest.param(lambda: query(sub="e2"), id="another subject"),
        pytest.param(lambda: query(aud="https://study.lab.edu/cats/?x"), id="another study's address"),
        pytest.param(lambda: query(aud="https://evil.example/pets/"), id="another site"),
        pytest.param(lambda: query(aud="http://study.lab.edu/pets/"), id="the site without encryption"),
        pytest.param(lambda: query(aud=7), id="no audience"),
        pytest.param(lambda: query(aud=None), id="audience missing"),
        pytest.param(lambda: query(exp=None), id="valid for ever"),
        pytest.param(lambda: query(iss="https://evil.example"), id="another issuer"),
        pytest.param(lambda: query(iss=None), id="issuer missing"),
        pytest.param(lambda: query(prolific=None), id="no parameters signed"),
        pytest.param(lambda: query(prolific="x"), id="parameters of another type"),
        pytest.param(lambda: query(prolific={}), id="no ids signed"),
        pytest.param(lambda: query(iat=int(time.time()) + 3600), id="of the future"),
        pytest.param(lambda: query().split("&prolific_token")[0], id="no token"),
        pytest.param(lambda: query() + "x", id="a longer signature"),
        pytest.param(lambda: query()[:-6] + "AAAAAA", id="a changed signature"),
        pytest.param(lambda: query(exp="soon"), id="valid until a word"),
        pytest.param(lambda: query(exp=float("nan")), id="valid until no number"),
        pytest.param(lambda: query(exp=10**400), id="valid until a number that no clock reaches"),
        pytest.param(lambda: query(iat=-(10**400)), id="signed before all time"),
        pytest.param(lambda: query(iat=None), id="no time of signing"),
        pytest.param(lambda: query(nbf=int(time.time()) + 3600), id="not valid before later"),
        pytest.param(lambda: query() + "&prolific_token=x", id="two tokens"),
        pytest.param(lambda: query().split("&prolific_token")[0] + "&prolific_token=a.b.c", id="no token's form"),
        pytest.param(lambda: query().split("&prolific_token")[0] + f"&prolific_token={'x' * 4001}", id="overlong"),
        pytest.param(lambda: with_token("e30.e30"), id="two parts"),
        pytest.param(lambda: with_token("e30=.e30.AA"), id="padded"),
        pytest.param(lambda: with_token(f"{encoded(b'no JSON')}.e30.AA"), id="a header that is no JSON"),
        pytest.param(lambda: with_token(f"{encoded(b'[' * 2900)}.e30.AA"), id="a header of arrays without an end"),
        pytest.param(lambda: with_token(f"{encoded(b'[1]')}.e30.AA"), id="a header that is no object"),
    ],
)
def test_an_address_that_prolific_has_not_made_for_this_study_is_refused(checker: ArrivalChecker, address: Any) -> None:
    assert refusal(checker, address()) is Refusal.LINK_INVALID


def test_a_study_that_is_named_is_the_only_one(tmp_path: Path, keys: KeyServer) -> None:
    assert make_checker(tmp_path, keys, "s1").identify(query(), browser(make_checker(tmp_path, keys))).study == "s1"
    assert refusal(make_checker(tmp_path, keys, "s2"), query()) is Refusal.LINK_INVALID


def test_a_copied_address_opens_nothing_in_another_browser_and_a_new_one_does(checker: ArrivalChecker) -> None:
    own, other, address = browser(checker), browser(checker), query()
    assert checker.identify(address, own).participant == PID
    assert refusal(checker, address, other) is Refusal.LINK_USED
    assert checker.identify(address, own).participant == PID  # the answer may have been lost
    assert checker.identify(query(iat=int(time.time()) - 1), other).participant == PID


def test_a_page_can_be_loaded_again_when_its_token_has_expired_in_its_own_browser_only(
    tmp_path: Path, keys: KeyServer
) -> None:
    checker = make_checker(tmp_path, keys)
    own, old = browser(checker), query(exp=int(time.time()) - 60, iat=int(time.time()) - 180)
    assert refusal(checker, old, own) is Refusal.LINK_EXPIRED
    checker.identify(query(), own)
    assert checker.identify(old, own).participant == PID
    assert refusal(checker, old, browser(checker)) is Refusal.LINK_EXPIRED
    assert make_checker(tmp_path, keys).identify(old, own).participant == PID  # after a restart
    shown = {"PROLIFIC_PID": "somebody"}
    forged = query(exp=int(time.time()) - 60, iat=int(time.time()) - 180, shown=shown)
    assert refusal(checker, forged, own) is Refusal.LINK_EXPIRED


def test_keys_that_can_not_be_fetched_keep_strangers_waiting_and_known_browsers_going(
    tmp_path: Path, keys: KeyServer
) -> None:
    checker = make_checker(tmp_path, keys)
    own, address = browser(checker), query()
    checker.identify(address, own)
    keys.status = 503
    later = make_checker(tmp_path, keys)
    assert later.identify(address, own).participant == PID
    assert refusal(later, query(), browser(later)) is Refusal.TECHNICAL


def test_keys_are_fetched_anew_each_day_or_for_an_unknown_one_but_not_for_every_forged_link(keys: KeyServer) -> None:
    now = [0.0]
    known = PanelKeys(keys.url, clock=lambda: now[0])
    assert known.find("k1") is not None
    for _ in range(100):
        assert known.find("forged") is None
    assert keys.asked == 1
    keys.keys = {"keys": [public("k1", KEY), public("k2", OTHER_KEY)]}
    now[0] = RETRY_SECONDS + 1
    assert known.find("k2") is not None
    assert keys.asked == 2
    keys.status = 500
    now[0] += KEYS_SECONDS + 1
    assert known.find("k1") is not None  # the earlier ones are better than none
    assert keys.asked == 3


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (404, {}),
        (200, b"<html>"),
        (200, {"keys": []}),
        (200, {"keys": [{"kty": "oct", "k": "x"}]}),
        (200, []),
        (302, {}),
    ],
)
def test_what_is_no_key_set_is_said_before_a_launch(keys: KeyServer, status: int, content: Any) -> None:
    keys.status, keys.keys = status, content
    with pytest.raises(KeysUnavailableError):
        PanelKeys(keys.url).find("k1")
    with pytest.raises(ConfigurationError, match=r"mephisto\.provider\.link_keys_url: no keys can be read"):
        check_keys(LinkSettings(keys.url, ISSUER, AUDIENCE, "prolific_token"))


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(WEAK_KEY, id="too weak"),
        pytest.param({"kty": "RSA", "n": "AQ", "e": "AQAB"}, id="no id"),
        pytest.param({"kty": "RSA", "kid": "k1", "n": "?"}, id="no numbers"),
        pytest.param(7, id="no object"),
        pytest.param({**public("k2", KEY), "e": "AQ"}, id="an exponent of one"),
    ],
)
def test_one_bad_key_of_a_set_takes_none_of_the_good_ones_away(keys: KeyServer, other: Any) -> None:
    keys.keys = {"keys": [other, public("k1", KEY), other]}
    assert list(fetch_keys(keys.url)) == ["k1"]
    keys.keys = {"keys": [other]}
    with pytest.raises(KeysUnavailableError, match="no RSA key for signatures"):
        fetch_keys(keys.url)


def test_no_more_of_a_key_set_is_read_than_one_can_be_long(keys: KeyServer) -> None:
    keys.keys = json.dumps({"keys": [public("k1", KEY)]}).encode() + b" " * MOST_KEYS_BYTES
    with pytest.raises(KeysUnavailableError, match="it is too long"):
        fetch_keys(keys.url)


def test_an_address_that_no_client_takes_is_said_before_a_launch() -> None:
    with pytest.raises(ConfigurationError, match=r"link_keys_url: no keys can be read"):
        check_keys(LinkSettings("https://keys.example/\x7f", ISSUER, AUDIENCE, "prolific_token"))


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ("https://study.lab.edu/pets?x=1#y", True),
        ("https://study.lab.edu:443/pets/", True),
        ("https://STUDY.lab.edu/pets/", True),
        ("https://study.lab.edu:8443/pets/", False),
        ("https://study.lab.edu/", False),
        ("https://study.lab.edu.evil.example/pets/", False),
        ("https://[", False),
        ("", False),
    ],
)
def test_addresses_are_compared_by_place_and_not_by_parameters(other: str, same: bool) -> None:
    assert is_same_address(AUDIENCE, other) is same
