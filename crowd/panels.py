"""Panels: where participants come from by an address that names them, and go back to by another (docs/panels.md)."""

from __future__ import annotations

import ipaddress
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from omegaconf import OmegaConf

from model_chat.records.participation import PANELS, EndingKind

FLAG = "mephisto.provider"
FIELDS = ("code", "participant", "session", "study")
"""What a completion address may hold."""
LONGEST_CODE, LONGEST_PARAM = 64, 64
RETURN_SECONDS = 10
"""How long the last screen is shown before it leads back by itself."""
PROLIFIC_API_URL = "https://api.prolific.com"
SIGNED = "prolific"
"""The panel whose addresses can be signed."""


@dataclass(frozen=True)
class PanelKind:
    """What is usual on a panel.

    Attributes:
        label: its name for people; "" for one's own people.
        about: one sentence for the reference of flags.
        participant_param, study_param, session_param: names in the address; "" where the panel gives none.
        placeholders: what the panel replaces in the study's address, by parameter; none where it appends parameters.
        completion_url: template of the way back, or None.
    """

    label: str
    about: str
    participant_param: str = ""
    study_param: str = ""
    session_param: str = ""
    placeholders: Mapping[str, str] = field(default_factory=dict)
    completion_url: str | None = None


KINDS: Mapping[str, PanelKind] = {
    "prolific": PanelKind(
        label="Prolific",
        participant_param="PROLIFIC_PID",
        study_param="STUDY_ID",
        session_param="SESSION_ID",
        placeholders={"participant": "{{%PROLIFIC_PID%}}", "study": "{{%STUDY_ID%}}", "session": "{{%SESSION_ID%}}"},
        completion_url="https://app.prolific.com/submissions/complete?cc={code}",
        about="Prolific: participants come by the study's address and return with a completion code.",
    ),
    "connect": PanelKind(
        label="Connect",
        participant_param="participantId",
        study_param="projectId",
        session_param="assignmentId",
        completion_url="https://connect.cloudresearch.com/participant/project/{study}/complete",
        about="CloudResearch Connect.",
    ),
    "sona": PanelKind(
        label="SONA",
        participant_param="id",
        placeholders={"participant": "%SURVEY_CODE%"},  # the way back names the school
        about="SONA, a university's own pool of participants.",
    ),
    "panel": PanelKind(
        label="the page that you came from",
        participant_param="participant",
        study_param="study",
        session_param="session",
        about="Any other panel that sends people to an address with their id, and takes them back by one.",
    ),
    "link": PanelKind(
        label="",
        about="Your own people: each visitor of one address gets an id that nobody can guess. Safe for strangers.",
    ),
}


@dataclass(frozen=True)
class Panel:
    """One run's panel, as its flags say.

    Attributes:
        provider: a key of :data:`KINDS`.
        participant_param, study_param, session_param: names in the address; "" for none.
        completion_url: template of the way back; "" for none.
        codes: of the endings that have one.
        verify_links: whether only signed addresses are taken.
    """

    provider: str
    participant_param: str
    study_param: str
    session_param: str
    completion_url: str = ""
    codes: Mapping[EndingKind, str] = field(default_factory=dict, repr=False)
    verify_links: bool = False

    @property
    def kind(self) -> PanelKind:
        """What is usual on this panel."""
        return KINDS[self.provider]

    @classmethod
    def from_flags(cls, provider: Any) -> Panel:
        """Read the flags below ``mephisto.provider``, which have been checked (:func:`panel_faults`)."""
        codes = {kind: code for kind in EndingKind if (code := _code(provider, kind))}
        codes.setdefault(EndingKind.MODEL_FAILED, codes[EndingKind.COMPLETE])
        return cls(
            provider=provider._provider_type,
            participant_param=provider.participant_param or "",
            study_param=provider.study_param or "",
            session_param=provider.session_param or "",
            completion_url=provider.completion_url or "",
            codes=codes,
            verify_links=bool(provider.verify_links),
        )

    def return_url(self, code: str | None, participant: str, study: str | None, session: str | None) -> str | None:
        """Return the address that leads a participant back; None where there is none for this ending.

        An address without ``{code}`` says that the work is complete, so that it belongs to the code of ``complete``
        only. One that needs an id which the participant came without leads nowhere.
        """
        if not self.completion_url or code is None:
            return None
        wanted = _fields_of(self.completion_url)
        if "code" not in wanted and code != self.codes[EndingKind.COMPLETE]:
            return None
        values = {"code": code, "participant": participant, "study": study, "session": session}
        if any(values[name] is None for name in wanted):
            return None
        return self.completion_url.format(**{name: quote(value or "", safe="") for name, value in values.items()})

    def study_url(self, base: str) -> str:
        """Return the address that the researcher gives the panel.

        Args:
            base: the page's, with the slash at its end.
        """
        names = {"participant": self.participant_param, "study": self.study_param, "session": self.session_param}
        query = {names[what]: placeholder for what, placeholder in self.kind.placeholders.items() if names[what]}
        return f"{base}?{urlencode(query, safe='{}%')}" if query else base


def is_panel(cfg: Any) -> bool:
    """Whether a run's participants come from a panel, or by a link."""
    return cfg.mephisto.provider._provider_type in PANELS


def panel_faults(cfg: Any) -> list[str]:
    """Say what is wrong with a panel's flags, one sentence for each fault; nothing for other providers."""
    if not is_panel(cfg):
        return []
    provider = cfg.mephisto.provider
    faults = [*_param_faults(provider), *_code_faults(provider), *_url_faults(provider), *_link_faults(cfg)]
    if provider.linger_seconds >= 0:
        return faults
    late = f"{FLAG}.linger_seconds: {provider.linger_seconds} is too small; give a whole number of at least 0."
    return [late, *faults]


def _param_faults(provider: Any) -> list[str]:
    kind, faults = provider._provider_type, []
    used: dict[str, str] = {}
    for name in ("participant_param", "study_param", "session_param"):
        value = str(provider[name] or "")
        if kind == "link":
            if value:
                faults.append(
                    f"{FLAG}.{name}: '{value:.40}' would be read by nobody, since with the provider link the server "
                    "makes the ids; leave the flag out, or choose mephisto/provider=panel."
                )
            continue
        if not value and name == "participant_param":
            faults.append(f"{FLAG}.{name}: is empty; give the name under which the panel's address has the id.")
        elif value and (
            len(value) > LONGEST_PARAM or not all(c.isascii() and (c.isalnum() or c in "_-.") for c in value)
        ):
            faults.append(
                f"{FLAG}.{name}: '{value:.80}' is no name of a parameter; give letters, digits, '_', '-' and '.', such as "
                f"{KINDS[kind].participant_param}."
            )
        elif value in used:
            faults.append(f"{FLAG}.{name}: '{value}' is {FLAG}.{used[value]} already; give each a name of its own.")
        elif value:
            used[value] = name
    return faults


def _code(provider: Any, kind: EndingKind) -> str:
    """An ending's code, "" for none; "???" in a file counts as none."""
    return str(OmegaConf.select(provider, f"codes.{kind}", default=None, throw_on_missing=False) or "").strip()


def _code_faults(provider: Any) -> list[str]:
    # No sentence names a code: it would stand in logs.
    faults = []
    codes = {kind: _code(provider, kind) for kind in EndingKind}
    for kind, code in codes.items():
        if len(code) > LONGEST_CODE or not all(c.isascii() and c.isprintable() and c != " " for c in code):
            faults.append(
                f"{FLAG}.codes.{kind}: is no code that a panel takes; give at most {LONGEST_CODE} letters, digits and "
                "signs, without spaces."
            )
    complete = codes[EndingKind.COMPLETE]
    if not complete:
        faults.append(
            f"{FLAG}.codes.complete: is not set, and participants who complete the study need a code; give the one that the "
            "panel made, or one of your own, such as C1DONE88."
        )
    elif not provider.codes.shared:
        faults += [
            f"{FLAG}.codes.{kind}: is the code of complete, so the two endings could not be told apart; give another, or "
            f"set {FLAG}.codes.shared=true if that is intended."
            for kind, code in codes.items()
            if kind not in (EndingKind.COMPLETE, EndingKind.MODEL_FAILED) and code.casefold() == complete.casefold()
        ]
    return faults


def _fields_of(template: str) -> set[str]:
    """Names of the fields of a template.

    Raises:
        ValueError: a brace without its other half, or a field with more than a name.
    """
    found = set()
    for _, name, spec, conversion in string.Formatter().parse(template):
        if name is None:
            continue
        if spec or conversion or not name.isidentifier():
            raise ValueError(f"'{{{name}}}' is no field")
        found.add(name)
    return found


def _url_faults(provider: Any) -> list[str]:
    flag, template = f"{FLAG}.completion_url", str(provider.completion_url or "")
    if not template:
        return []
    known = ", ".join(f"{{{name}}}" for name in FIELDS)
    try:
        unknown = sorted(_fields_of(template) - set(FIELDS))
        address = urlsplit(template)
        host, _ = address.hostname, address.port
    except ValueError as error:
        return [f"{flag}: '{template:.200}' is no address ({error}); it may hold {known}."]
    faults = [f"{flag}: '{{{name}}}' is unknown; an address may hold {known}." for name in unknown]
    if not all(c.isascii() and c.isprintable() and c not in ' <>"\\' for c in template):
        faults.append(f"{flag}: '{template:.200}' has a character that no address has; write it as %XX.")
    elif not host or address.scheme not in ("https", "http") or "{" in address.netloc or "@" in address.netloc:
        faults.append(
            f"{flag}: '{template:.200}' is no address to return to; give one like https://app.example.org/done?code={{code}}."
        )
    elif address.scheme == "http" and not is_loopback(host):
        faults.append(
            f"{flag}: '{template:.200}' is not encrypted, and it holds participants' ids or codes; give one that "
            "begins with https://."
        )
    return faults


def is_loopback(host: str) -> bool:
    """Whether a host's name is this machine's."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _link_faults(cfg: Any) -> list[str]:
    provider = cfg.mephisto.provider
    if not provider.verify_links:
        return []
    if provider._provider_type != SIGNED:
        return [
            f"{FLAG}.verify_links: only Prolific signs its addresses; with the provider {provider._provider_type} leave the "
            "flag out."
        ]
    faults = []
    audience = link_audience(cfg)
    if not audience:
        faults.append(
            f"{FLAG}.link_audience: is not set, and with verify_links the server has to know for which address the "
            "participants' links are signed; give the study's address without its parameters, such as https://study.lab.edu/pets/."
        )
    faults += [
        f"{FLAG}.{name}: '{address:.200}' is no https address; give one that begins with https://."
        for name, address in (("link_audience", audience), ("link_keys_url", str(provider.link_keys_url or "")))
        if not _is_https(address) and (address or name != "link_audience")
    ]
    if not provider.link_issuer:
        faults.append(f"{FLAG}.link_issuer: is empty; give who signs the links, such as https://www.prolific.com.")
    return faults


def _is_https(address: str) -> bool:
    """Whether an address is encrypted, or leads to this machine."""
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host)))


def link_audience(cfg: Any) -> str:
    """Return the address that signed links are made for: the flag's, else that at which the page is served publicly."""
    public = OmegaConf.select(cfg, "mephisto.architect.public_url", default=None, throw_on_missing=False)
    return str(cfg.mephisto.provider.link_audience or public or "")
