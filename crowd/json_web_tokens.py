"""JSON Web Tokens (RFC 7519) that are signed with RS256, and the keys for them (RFC 7517); nothing else of these standards.

A token's own word on how it is signed counts only if it is RS256: `none`, shared secrets and every other algorithm
are refused.
"""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from cryptography.hazmat.primitives.hashes import SHA256

from model_chat.errors import ModelChatError

ALGORITHM = "RS256"
SHORTEST_KEY = 2048
"""Bits (RFC 7518, section 3.3)."""
LEEWAY_SECONDS = 30
"""How far the two clocks may differ."""


LATEST_TIME = 1e11
"""Epoch seconds; what is beyond the year 5000 is no time."""


class TokenError(ModelChatError, ValueError):
    """A token, or a key, that is not taken."""


class ExpiredTokenError(TokenError):
    """A token with a right signature whose time is over."""


def verify_token(
    token: str,
    find_key: Callable[[str], RSAPublicKey | None],
    issuer: str,
    clock: Callable[[], float] = time.time,
) -> dict[str, Any]:
    """Return the claims of a token.

    Args:
        token: untrusted.
        find_key: returns the key of an id, None for an unknown one.
        issuer: who must have signed it (claim ``iss``).
        clock: epoch seconds.

    Raises:
        ExpiredTokenError: its signature is right, and its time (``exp``) is over.
        TokenError: it is no token, not signed by this issuer's key, or has no ``exp`` and ``iat`` that can be true.
    """
    parts = token.split(".")
    if len(parts) != 3:
        raise TokenError("it has not three parts")
    header, claims = (_object(_decoded(part)) for part in parts[:2])
    if header.get("alg") != ALGORITHM or "crit" in header or not isinstance(header.get("kid"), str):
        raise TokenError("it is not signed as the panel signs")
    key = find_key(header["kid"])
    if key is None:
        raise TokenError("its key is not the panel's")
    try:
        key.verify(_decoded(parts[2]), f"{parts[0]}.{parts[1]}".encode("ascii"), PKCS1v15(), SHA256())
    except InvalidSignature:
        raise TokenError("its signature is wrong") from None
    if claims.get("iss") != issuer:
        raise TokenError("it is another issuer's")
    now, expires = clock(), _time(claims.get("exp"))
    if max(_time(claims.get("iat")), _time(claims.get("nbf", 0))) > now + LEEWAY_SECONDS:
        raise TokenError("it is not valid yet")
    if expires < now - LEEWAY_SECONDS:
        raise ExpiredTokenError("its time is over")
    return claims


def read_key(key: Any) -> tuple[str, RSAPublicKey] | None:
    """Read one entry of a key set.

    Returns:
        its id and the key; None for one that is not for signatures with RS256.

    Raises:
        TokenError: it is malformed.
    """
    if not isinstance(key, Mapping):
        raise TokenError("an entry is no key")
    if key.get("kty") != "RSA" or key.get("use", "sig") != "sig" or key.get("alg", ALGORITHM) != ALGORITHM:
        return None
    key_id = key.get("kid")
    if not isinstance(key_id, str):
        raise TokenError("a key has no id")
    modulus, exponent = (int.from_bytes(_decoded(key.get(name)), "big") for name in ("n", "e"))
    if modulus.bit_length() < SHORTEST_KEY:
        raise TokenError(f"a key has fewer than {SHORTEST_KEY} bits")
    try:
        return key_id, RSAPublicNumbers(exponent, modulus).public_key()
    except ValueError as error:
        raise TokenError(f"a key is none ({error})") from error


def _decoded(text: Any) -> bytes:
    """Base64url without padding (RFC 7515, section 2), and without anything else."""
    if not isinstance(text, str) or not text.isascii() or "=" in text or "+" in text or "/" in text:
        raise TokenError("it is not base64url")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise TokenError("it is not base64url") from None


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise TokenError("it is no JSON") from None
    if not isinstance(value, dict):
        raise TokenError("it is no JSON object")
    return value


def _time(value: Any) -> float:
    """Epoch seconds, as a claim gives them."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LATEST_TIME:
        raise TokenError("it does not say when it is valid")
    return value
