"""What clients of HTTP APIs, and checks of addresses, have in common."""

from __future__ import annotations

import email.utils
import ipaddress
import time
from collections.abc import Mapping


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait (RFC 9110, section 10.2.3: seconds or a date); None if it doesn't say."""
    text = headers.get("retry-after", "")
    try:
        seconds = float(text)
    except ValueError:
        date = email.utils.parsedate_tz(text) if text else None
        if date is None:
            return None
        try:
            seconds = email.utils.mktime_tz(date) - time.time()
        except (ValueError, OverflowError):  # no date of this calendar
            return None
    return max(0.0, seconds) if seconds == seconds else None
