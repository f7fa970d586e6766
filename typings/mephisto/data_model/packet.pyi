from typing import Any

PACKET_TYPE_CLIENT_BOUND_LIVE_UPDATE: str
PACKET_TYPE_MEPHISTO_BOUND_LIVE_UPDATE: str
PACKET_TYPE_REGISTER_AGENT: str
PACKET_TYPE_RETURN_STATUSES: str
PACKET_TYPE_SUBMIT_ONBOARDING: str
PACKET_TYPE_SUBMIT_UNIT: str
PACKET_TYPE_ERROR: str

class Packet:
    type: str
    subject_id: str
    data: dict[str, Any]

    def __init__(
        self,
        packet_type: str,
        subject_id: str,
        data: dict[str, Any] | None = None,
        client_timestamp: float | None = None,
        router_incoming_timestamp: float | None = None,
        router_outgoing_timestamp: float | None = None,
        server_timestamp: float | None = None,
    ) -> None: ...
    @staticmethod
    def from_dict(input_dict: dict[str, Any]) -> Packet: ...
    def to_sendable_dict(self) -> dict[str, Any]: ...
    def copy(self) -> Packet: ...
