from abc import ABC, abstractmethod
from collections.abc import Callable
from queue import Queue

from mephisto.data_model.packet import Packet
from mephisto.operations.datatypes import LoopWrapper

class Channel(ABC):
    channel_id: str
    on_message: Callable[[str, Packet], None]
    loop_wrap: LoopWrapper | None
    outgoing_queue: Queue[Packet]

    def __init__(
        self,
        channel_id: str,
        on_channel_open: Callable[[str], None],
        on_catastrophic_disconnect: Callable[[str], None],
        on_message: Callable[[str, Packet], None],
    ) -> None: ...
    @abstractmethod
    def is_closed(self) -> bool: ...
    @abstractmethod
    def close(self) -> None: ...
    @abstractmethod
    def is_alive(self) -> bool: ...
    @abstractmethod
    def open(self) -> None: ...
    @abstractmethod
    def enqueue_send(self, packet: Packet) -> bool: ...
