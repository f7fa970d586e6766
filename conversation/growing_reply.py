"""A model's reply while it is made: what of it the page is shown meanwhile, and when it may be sent whole.

Parts are decoration (docs/protocol.md, section 2): they are sent about four times a second, hold the whole text so far, and
are recorded nowhere. What is recorded is the reply itself, once, by the world.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
import unicodedata
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from model_chat.conversation.pacing import ReplyDelivery, ReplyFlow
from model_chat.records.visible_text import is_blank

if TYPE_CHECKING:
    from model_chat.conversation.human_agent import HumanAgent

logger = logging.getLogger(__name__)

MAX_PART_BYTES = 8192
"""UTF-8, of the text of a part; of a longer reply no further parts are sent."""
TICK_SECONDS = 0.05
"""How often it is looked for replies that begin."""
TICKS_BETWEEN_PARTS = 5
"""Of a reply that goes on, a part is sent every 0.25 s; of a fifth of them at each tick, since all else that the run has to
do waits for parts that are sent together."""
_ZERO_WIDTH_JOINER = "\u200d"
_SKIN_TONES = range(0x1F3FB, 0x1F400)
_REGIONAL_INDICATORS = range(0x1F1E6, 0x1F200)


class GrowingReply:
    """One reply from the request for it until it is sent; a context manager: after its end no part is sent.

    The model's thread tells the text, the sender's thread makes parts, the router's connection fetches the newest one when
    it can send, and the conversation's thread ends it: ``_lock`` guards everything, and a part is only made while the reply
    is open.

    Args:
        utterance_idx: of the message that the reply will be, as the page counts.
        side: ``left`` or ``right`` where two replies are compared; None for a single one.
        presentable: makes what may be shown of a text that still grows.
        clock: seconds.
    """

    def __init__(
        self,
        human: HumanAgent,
        delivery: ReplyDelivery,
        utterance_idx: int,
        side: str | None = None,
        presentable: Callable[[str], str] = str.strip,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._human = human
        self._streams = delivery.stream
        self._address = {"utterance_idx": utterance_idx, "side": side}
        self._presentable = presentable
        self._clock = clock
        self._lock = threading.RLock()  # a page that takes a part at once does it while it is made
        self._flow = ReplyFlow(delivery, clock())
        self._is_open = True
        self._text = ""
        self._is_whole = False
        self._clean: tuple[str, str] = ("", "")
        """What was last presented, and as what."""
        self._shown = ""
        self._number = 0
        self._is_queued = False
        self.paced: bool | None = None
        """Whether the reply has kept the pace; None before its end, and where none is set."""

    def __enter__(self) -> Self:
        if self._streams:
            SENDER.add(self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        with self._lock:
            self._is_open = False
        SENDER.remove(self)

    @property
    def tell(self) -> Callable[[str], None] | None:
        """What a model that streams tells the text so far; None where nobody wants to know. It does not block."""
        return self._tell if self._streams else None

    def _tell(self, text: str) -> None:
        with self._lock:
            if self._is_open and not self._is_whole:
                self._flow.grow(len(text), self._clock(), _common_prefix(self._text, text))
                self._text = text

    def hold_back(self, text: str) -> None:
        """Wait until the whole reply may be sent, or nobody waits for it; meanwhile it flows."""
        with self._lock:
            kept = None if text.startswith(self._shown) else _common_prefix(self._shown, text)
            due = self._flow.finish(len(text), self._clock(), kept)
            self._text, self._is_whole = text, True
            self.paced = self._flow.paced
        if due > self._clock():
            self._human.wait(due)

    @property
    def has_begun(self) -> bool:
        """Whether a part has been sent."""
        return self._number > 0

    def send_part(self) -> None:
        """Send what may be shown now, unless that was sent already; a part that still waits is replaced."""
        with self._lock:
            if not (self._is_open and self._streams):
                return
            text = self._visible()
            if text in ("", self._shown) or is_blank(text) or len(text.encode()) > MAX_PART_BYTES:
                return
            self._shown = text
            self._number += 1
            if not self._is_queued:
                self._is_queued = True
                if not self._human.send_part(self._take):
                    self._is_queued = False

    def _visible(self) -> str:
        characters = self._flow.visible(self._clock())
        if characters == 0:
            return ""
        if not self._is_whole and self._clean[0] != self._text:
            self._clean = (self._text, self._presentable(self._text))
        text = self._text if self._is_whole else self._clean[1]
        # What is presented may be shorter than what was told; it is never cut in the middle of what is seen as one.
        return text if characters >= len(self._text) else whole_characters(text, characters).rstrip()

    def _take(self) -> dict[str, Any]:
        """Return the newest part, at the moment at which it is sent."""
        with self._lock:
            self._is_queued = False
            return {"control": "reply_part", **self._address, "part": self._number, "text": self._shown}


class _Sender:
    """Sends the parts of all replies that are being made, from one thread, which is there while there are any.

    ``_lock`` guards the replies and the thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._replies: dict[GrowingReply, int] = {}
        """Each with the tick of every few at which its parts are sent."""
        self._turns = itertools.cycle(range(TICKS_BETWEEN_PARTS))
        self._thread: threading.Thread | None = None

    def add(self, reply: GrowingReply) -> None:
        """Send the parts of a reply from now on."""
        with self._lock:
            self._replies[reply] = next(self._turns)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="reply-parts", daemon=True)
                self._thread.start()

    def remove(self, reply: GrowingReply) -> None:
        """Send no more of a reply; one that was never added does no harm."""
        with self._lock:
            self._replies.pop(reply, None)

    def _work(self) -> None:
        tick = 0
        while True:
            time.sleep(TICK_SECONDS)
            with self._lock:
                if not self._replies:
                    self._thread = None
                    return
                replies = list(self._replies.items())
            tick = (tick + 1) % TICKS_BETWEEN_PARTS
            for reply, turn in replies:
                if turn != tick and reply.has_begun:
                    continue
                try:
                    reply.send_part()
                except Exception:  # of one reply, or of a connection that is being closed: it must not stop the others'
                    logger.exception("No parts are sent of a reply; it comes whole")
                    self.remove(reply)


SENDER = _Sender()


def whole_characters(text: str, length: int) -> str:
    """Return the first ``length`` code points of a text, less those of a character as it is seen that would be cut in two.

    These are marks and tones behind a letter or an emoji, emoji that are joined to one, and the two halves of a flag (the
    common cases of Unicode's UAX #29).
    """
    while 0 < length < len(text) and _belongs_together(text, length):
        length -= 1
    return text[:length].rstrip(_ZERO_WIDTH_JOINER)


def _belongs_together(text: str, at: int) -> bool:
    """Whether what is at an index continues what is before it."""
    after = text[at]
    if text[at - 1] == _ZERO_WIDTH_JOINER or after == _ZERO_WIDTH_JOINER or ord(after) in _SKIN_TONES:
        return True
    if unicodedata.category(after) in ("Mn", "Mc", "Me"):  # variation selectors among them
        return True
    if ord(after) in _REGIONAL_INDICATORS:
        before = 0
        while before < at and ord(text[at - before - 1]) in _REGIONAL_INDICATORS:
            before += 1
        return before % 2 == 1
    return False


def _common_prefix(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    if other.startswith(one):
        return len(one)
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
