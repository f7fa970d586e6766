"""Patches for mephisto 1.1.1."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import queue
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from model_chat.compat._hooks import FINDER

logger = logging.getLogger(__name__)


@FINDER.around("mephisto.operations.hydra_config")
@contextmanager
def dataclass_defaults() -> Iterator[None]:
    """Let a dataclass have an instance of another dataclass as a field's default.

    Needed by mephisto 1.1.1 with Python >= 3.11, which refuses defaults that are unhashable (``TaskRunArgs()``,
    ``DatabaseArgs()``). Each such default becomes a ``default_factory`` that copies it. In force only while
    ``mephisto.operations.hydra_config`` is executed. Can go when that module uses ``default_factory`` itself.
    """
    original = dataclasses.dataclass

    def tolerant(cls: type | None = None, /, **options: Any) -> Any:
        def decorate(target: type) -> Any:
            for name in getattr(target, "__annotations__", {}):
                default = target.__dict__.get(name)
                if dataclasses.is_dataclass(default) and not isinstance(default, type):
                    setattr(target, name, dataclasses.field(default_factory=_copier(default)))
            return original(**options)(target)

        return decorate if cls is None else decorate(cls)

    dataclasses.dataclass = tolerant
    try:
        yield
    finally:
        dataclasses.dataclass = original


def _copier(default: Any) -> Callable[[], Any]:
    return lambda: dataclasses.replace(default)


@FINDER.around("mephisto.utils.dirs")
@FINDER.around(
    "mephisto.abstractions.blueprints.parlai_chat.parlai_chat_task_builder",
    "mephisto.abstractions.blueprints.static_html_task.static_html_task_builder",
    "mephisto.abstractions.blueprints.static_react_task.static_react_task_builder",
)
@contextmanager
def distutils_copy_tree() -> Iterator[None]:
    """Give mephisto the one function of ``distutils.dir_util`` that it uses.

    Needed by mephisto 1.1.1 on Python >= 3.12, which has no ``distutils``; on 3.11 the real one is deprecated and, with a
    current setuptools, costs half a second. Can go when mephisto uses ``shutil.copytree``.
    """
    if "distutils.dir_util" in sys.modules:
        yield
        return
    left_out = object()
    before = {name: sys.modules.get(name, left_out) for name in ("distutils", "distutils.dir_util")}

    def copy_tree(src: str, dst: str) -> list[str]:
        shutil.copytree(src, dst, dirs_exist_ok=True)
        return []

    package, dir_util = ModuleType("distutils"), ModuleType("distutils.dir_util")
    package.dir_util = dir_util  # type: ignore[attr-defined]  # building a module by hand
    dir_util.copy_tree = copy_tree  # type: ignore[attr-defined]  # building a module by hand
    sys.modules.update({"distutils": package, "distutils.dir_util": dir_util})
    try:
        yield
    finally:
        for name, module in before.items():
            if isinstance(module, ModuleType):
                sys.modules[name] = module
            else:
                del sys.modules[name]


@FINDER.after("mephisto.operations.operator")
def no_metrics_server(module: ModuleType) -> None:
    """Start no Prometheus client on the fixed port 3031 when an ``Operator`` is made.

    Needed by mephisto 1.1.1: a second run on the machine logs a traceback about the taken port, and the first listens on
    every interface. Can go when Mephisto lets the port be chosen and switched off. ``mephisto metrics`` is unaffected.
    """
    module.start_metrics_server = lambda args=None: None  # type: ignore[attr-defined]  # imported by name
    module.launch_prometheus_server = lambda args=None: False  # type: ignore[attr-defined]  # imported by name


@FINDER.around("mephisto.abstractions.blueprints.parlai_chat.parlai_chat_task_runner")
@contextmanager
def parlai_left_for_later() -> Iterator[None]:
    """Let Mephisto's chat task runner take its own stand-ins for ParlAI's ``Agent`` and ``Message``.

    Needed by mephisto 1.1.1, which imports ParlAI, and with it torch, whenever it is imported itself: seconds and
    hundreds of megabytes for commands that never load a model. Nothing here uses Mephisto's ``MephistoAgentWrapper``,
    the one class that the import is for. Can go when Mephisto imports ParlAI only where it runs a chat.
    """
    names = [name for name in ("parlai.core.agents", "parlai.core.message") if name not in sys.modules]
    for name in names:
        sys.modules[name] = None  # type: ignore[assignment]  # "this module is known not to exist"
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


@FINDER.after("mephisto.abstractions.architects.channels.websocket_channel")
def malformed_packets_dropped(module: ModuleType) -> None:
    """Drop a packet that is none instead of closing the operator's connection to the router.

    Needed by mephisto 1.1.1: a packet without ``subject_id`` or ``data``, or one that is nested thousands of levels deep,
    which any worker's page can send, fails while it is read, and the channel reconnects; what other workers send meanwhile
    is lost. Can go when ``WebsocketChannel`` survives such packets.
    """
    from mephisto.data_model.packet import PACKET_TYPE_ERROR, PACKET_TYPE_MEPHISTO_BOUND_LIVE_UPDATE, Packet

    malformed = {"packet_type": PACKET_TYPE_ERROR, "subject_id": "mephisto", "data": {"text": "malformed packet"}}

    class TolerantJson:
        """The module ``json`` as the channel knows it."""

        dumps = staticmethod(json.dumps)

        @staticmethod
        def loads(text: str | bytes) -> Any:
            try:
                return json.loads(text)
            except (ValueError, RecursionError):
                return malformed

    class TolerantPacket(Packet):
        @staticmethod
        def from_dict(input_dict: Any) -> Any:
            try:
                packet: Any = Packet.from_dict(input_dict)  # of whatever types the page sent
            except (AssertionError, AttributeError, KeyError, TypeError):
                return Packet.from_dict(malformed)
            if not (
                isinstance(packet.type, str) and isinstance(packet.subject_id, str) and isinstance(packet.data, dict)
            ):
                return Packet.from_dict(malformed)
            from_a_page = packet.type == PACKET_TYPE_MEPHISTO_BOUND_LIVE_UPDATE
            if from_a_page and not isinstance(packet.data.get("update_id"), str):
                packet.data["update_id"] = None  # Mephisto keeps these in a set
            return packet

    module.Packet = TolerantPacket  # type: ignore[attr-defined]  # the channel imports it by name
    module.json = TolerantJson  # type: ignore[attr-defined]  # the channel does `import json`


@FINDER.after("mephisto.abstractions.architects.channels.websocket_channel")
def connections_that_last(module: ModuleType) -> None:
    """Give the channel's connections back the property ``closed``, and let it try a handshake that failed again.

    Needed by mephisto 1.1.1 with websockets >= 14, whose connections have a ``state`` instead of ``closed``; and since it
    tries again when nobody listens, but ends the run for good when the connection breaks during the handshake, when a load
    balancer answers for the router (503), or when no answer comes for half a minute. Can go when ``WebsocketChannel`` no
    longer reads ``self.socket.closed`` and survives these.
    """
    from websockets.asyncio.client import ClientConnection
    from websockets.protocol import State

    known = module.websockets
    failures = (known.exceptions.InvalidHandshake, EOFError, TimeoutError)

    class ClosableConnection(ClientConnection):
        @property
        def closed(self) -> bool:
            """Whether the connection can no longer be written to."""
            return self.state is not State.OPEN

    class Connecting:
        """What ``websockets.connect`` gives, as the channel uses it: entered once, and left."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._connection = known.connect(*args, create_connection=ClosableConnection, **kwargs)

        async def __aenter__(self) -> Any:
            try:
                return await self._connection.__aenter__()
            except failures as error:
                await asyncio.sleep(0.5)  # beside the fifth of a second that the channel waits
                raise ConnectionError(f"the router did not answer as it should ({error!r})") from error

        async def __aexit__(self, *exc_info: object) -> Any:
            return await self._connection.__aexit__(*exc_info)

    class WebsocketsForTheChannel:
        """The package ``websockets`` as the channel knows it."""

        connect = Connecting

        def __getattr__(self, name: str) -> Any:
            return getattr(known, name)

    module.websockets = WebsocketsForTheChannel()  # type: ignore[attr-defined]  # the channel does `import websockets`


@FINDER.after("mephisto.abstractions.architects.channels.websocket_channel")
def packets_sent_together(module: ModuleType) -> None:
    """Send the packets that wait for the router one after the other in one task of the event loop.

    Needed by mephisto 1.1.1, which makes a task for each packet. Can go when ``WebsocketChannel._async_send_all`` sends
    all, as its name says. Of two threads that queue packets at once, one starts
    the task; the flag is taken back in the event loop before the queue is looked at for the last time.
    """
    websocket_channel = module.WebsocketChannel

    def enqueue_send(self: Any, packet: Any) -> bool:
        if self.socket is None or self.socket.closed or self.loop_wrap is None:
            return False
        self.outgoing_queue.put(packet)
        if not getattr(self, "is_sending", False):
            self.is_sending = True
            self.loop_wrap.execute_coro(self._async_send_all())
        return True

    async def send_all(self: Any) -> None:
        self.is_sending = False
        while True:
            try:
                packet = self.outgoing_queue.get_nowait()
            except queue.Empty:
                return
            try:
                await self.socket.send(json.dumps(packet.to_sendable_dict()))
            except module.websockets.exceptions.ConnectionClosed as error:
                logger.info(
                    "A packet was lost with the connection to the router (%s); the page asks for it again.", error
                )

    websocket_channel.enqueue_send = enqueue_send
    websocket_channel._async_send_all = send_all


@FINDER.after("mephisto.abstractions.providers.mock.mock_unit")
@FINDER.after("mephisto.data_model.task_run")
def units_handled_quietly(module: ModuleType) -> None:
    """Let a mock unit be launched, and one that another worker has just taken be skipped, without a printed line.

    Needed by mephisto 1.1.1, which prints the worker's link once a unit (the run script prints ours once), and a path
    whenever two workers arrive at once. Can go when ``MockUnit.launch`` and ``TaskRun.reserve_unit`` print nothing.
    """
    module.print = lambda *args, **kwargs: None  # type: ignore[attr-defined]  # shadows the builtin in that module
