"""Whether counts of how messages are written may be recorded: ``record_authenticity``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model_chat.configuration.study_flow import StudyFlow


def authenticity_faults(flag_prefix: str, args: Any, flow: StudyFlow | None, writes_messages: bool) -> Iterator[str]:
    """Find what keeps the counts from being recorded: they need messages, and every worker's consent.

    Args:
        flag_prefix: what stands before the name of a flag, without its dot.
        args: the flags below ``mephisto.blueprint``.
        flow: of the study; None where there is none, or where its file has faults of its own.
    """
    if not args.record_authenticity:
        return
    flag = f"{flag_prefix}.record_authenticity"
    if not writes_messages:
        yield (f"{flag}: annotators write no messages; leave the flag out where finished conversations are annotated.")
    elif not args.study_flow_path:
        yield (
            f"{flag}: needs every worker's consent, and {flag_prefix}.study_flow_path is not set; give a study flow with a "
            "page of consent before the chat, or leave the flag out."
        )
    elif flow is not None and not asks_everybody(flow):
        yield (
            f"{flag}: needs every worker's consent, and the study flow '{args.study_flow_path}' has no page of the kind "
            "consent before the chat that everybody is shown; add one without 'show_if', or leave the flag out."
        )


def asks_everybody(flow: StudyFlow) -> bool:
    """Whether each worker is asked for consent before the chat."""
    from model_chat.configuration.study_flow import ConsentPage

    return any(isinstance(page, ConsentPage) and page.show_if is None for page in flow.pages[: flow.chat_idx])
