"""Mephisto's crowd providers for panels: `prolific`, `connect`, `sona`, `panel`, `link`.

They are one implementation. Nothing is offered on a panel by the run: the requester gives the panel the study's address
(docs/panels.md). Who a participant is, :mod:`model_chat.crowd.arrivals` decides, and what they are told at the end,
:mod:`model_chat.crowd.endings`. They are here, and not in ``crowd/``, since they subclass Mephisto's run time.
"""

from __future__ import annotations

from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mephisto.abstractions._subcomponents.agent_state import AgentState
from mephisto.abstractions.crowd_provider import CrowdProvider, ProviderArgs
from mephisto.abstractions.database import EntryAlreadyExistsException
from mephisto.data_model.agent import Agent
from mephisto.data_model.constants.assignment_state import AssignmentState
from mephisto.data_model.requester import Requester
from mephisto.data_model.unit import Unit
from mephisto.data_model.worker import Worker
from mephisto.operations.registry import register_mephisto_abstraction

from model_chat.configuration.flags import flag
from model_chat.crowd.panel_pay import PanelPayArgs, ProlificApiArgs
from model_chat.crowd.panel_store import PanelStore, store_path
from model_chat.crowd.panels import KINDS
from model_chat.crowd.platform import PlatformError
from model_chat.errors import ConfigurationError
from model_chat.quality.blocks import name_beside_others

if TYPE_CHECKING:
    from mephisto.abstractions.database import MephistoDB

WRAPPER = Path(__file__).with_name("wrap_panel.js")


@dataclass
class PanelCodes:
    """The codes of the endings, below ``mephisto.provider.codes``."""

    complete: str | None = flag(None, "Code for who has finished; must be given.")
    incomplete: str | None = flag(
        None,
        "Code for a chat that ended before its end, since the study was stopped, say; unset: return the submission.",
    )
    screened_out: str | None = flag(None, "Code for who fails onboarding; unset: return the submission.")
    declined: str | None = flag(None, "Code for who does not consent; unset: return the submission.")
    no_work: str | None = flag(None, "Code for whom no chat is left; unset: return the submission.")
    model_failed: str | None = flag(
        None, "Code for a chat that broke down; unset: that of complete, for nobody loses pay through a model."
    )
    timed_out: str | None = flag(None, "Code for who ran out of time; unset: return the submission.")
    blocked: str | None = flag(None, "Code for who is kept out of the study; unset: return the submission.")
    shared: bool = flag(False, "Whether another ending may have the code of complete.")


@dataclass
class PanelArgs(PanelPayArgs, ProviderArgs):
    """Flags of the providers of panels."""

    requester_name: str = flag("", "Mephisto's name for who pays, made if it isn't there; unset: the provider's name.")
    participant_param: str = flag("", "Name of the participant's id in the address.")
    study_param: str = flag("", "Name of the study's id in the address; empty: it has none.")
    session_param: str = flag("", "Name of the id of this participation in the address; empty: it has none.")
    completion_url: str | None = flag(
        None, "Address that leads participants back; may hold {code}, {participant}, {session} and {study}."
    )
    codes: PanelCodes = field(default_factory=PanelCodes)
    linger_seconds: int = flag(
        30, "How long the page stays when everything is collected, for participants who load their last screen again."
    )
    verify_links: bool = flag(False, "Whether only signed addresses are taken (Prolific).")
    link_audience: str | None = flag(
        None,
        "The study's address without its parameters, for which links are signed; given with verify_links.",
    )
    link_issuer: str = flag("https://www.prolific.com", "Who signs the links.")
    link_keys_url: str = flag(
        "https://api.prolific.com/.well-known/study/jwks.json", "Where the keys of those signatures are published."
    )
    link_token_param: str = flag("prolific_token", "Name of the signature in the address.")
    link_study: str | None = flag(None, "The panel's id of the study that signed links must name; unset: any.")


class PanelRequester(Requester):
    """Who pays, on the panel's own site."""

    PROVIDER_TYPE: ClassVar[str]
    ArgsClass: ClassVar[Any] = PanelArgs

    def register(self, args: Any = None) -> None:
        """Nothing has to be registered."""

    def is_registered(self) -> bool:
        """Always: the panel's site holds the account."""
        return True

    def get_available_budget(self) -> float:
        """Nothing is known of the account; dollars."""
        return 0.0

    @classmethod
    def new(cls, db: MephistoDB, requester_name: str) -> Requester:
        """Make a requester."""
        return cls._register_requester(db, requester_name, cls.PROVIDER_TYPE)


class PanelWorker(Worker):
    """A participant; their name is the panel's id of them."""

    PROVIDER_TYPE: ClassVar[str]

    def bonus_worker(self, amount: float, reason: str, unit: Unit | None = None) -> tuple[bool, str]:
        """Not possible from here.

        Raises:
            PlatformError: always.
        """
        raise PlatformError(
            f"a bonus for '{self.worker_name}' can't be paid from here with the provider {self.PROVIDER_TYPE}; pay it on "
            "the panel's site"
        )

    def block_worker(
        self, reason: str, unit: Unit | None = None, requester: Requester | None = None
    ) -> tuple[bool, str]:
        """The block qualification keeps participants out, without the panel."""
        return True, ""

    def unblock_worker(self, reason: str, requester: Requester) -> bool:
        """Likewise."""
        return True

    def is_blocked(self, requester: Requester) -> bool:
        """No: the panel is not asked."""
        return False

    def is_eligible(self, task_run: Any) -> bool:
        """Yes: the panel has sent them."""
        return True

    @classmethod
    def new(cls, db: MephistoDB, worker_id: str) -> Worker:
        """Make a participant known, beside another provider's worker of the same name."""
        try:
            return cls._register_worker(db, worker_id, cls.PROVIDER_TYPE)
        except EntryAlreadyExistsException:
            return cls._register_worker(db, name_beside_others(cls.PROVIDER_TYPE, worker_id), cls.PROVIDER_TYPE)


class PanelUnit(Unit):
    """One conversation on offer; Mephisto's database alone knows of it."""

    PROVIDER_TYPE: ClassVar[str]

    def launch(self, task_url: str) -> None:
        """Offer it."""
        self.set_db_status(AssignmentState.LAUNCHED)

    def expire(self) -> float:
        """Take it off the offer; return how many seconds that takes."""
        if self.get_status() not in (AssignmentState.EXPIRED, AssignmentState.COMPLETED):
            self.set_db_status(AssignmentState.EXPIRED)
        return 0.0

    def is_expired(self) -> bool:
        """Whether it is off the offer."""
        return self.db_status == AssignmentState.EXPIRED

    @classmethod
    def new(cls, db: MephistoDB, assignment: Any, index: int, pay_amount: float) -> Unit:
        """Make a unit."""
        return cls._register_unit(db, assignment, index, pay_amount, cls.PROVIDER_TYPE)


class PanelAgent(Agent):
    """A participant in their conversation."""

    PROVIDER_TYPE: ClassVar[str]

    def approve_work(self) -> None:
        """Note that the work is approved; the panel is told on its own site."""
        self.update_status(AgentState.STATUS_APPROVED)

    def reject_work(self, reason: str) -> None:
        """Note that the work is rejected; the panel is told on its own site."""
        self.update_status(AgentState.STATUS_REJECTED)

    def mark_done(self) -> None:
        """The participant tells the panel, by their code."""

    @classmethod
    def new(cls, db: MephistoDB, worker: Worker, unit: Unit) -> Agent:
        """Make an agent."""
        return cls._register_agent(db, worker, unit, cls.PROVIDER_TYPE)


class PanelProvider(CrowdProvider):
    """A panel; each name in :data:`~model_chat.crowd.panels.KINDS` is a subclass."""

    def initialize_provider_datastore(self, storage_path: str) -> PanelStore:
        """Open the provider's own file."""
        folder = Path(storage_path)
        return PanelStore(store_path(folder.parent, folder.name))

    def setup_resources_for_task_run(self, task_run: Any, args: Any, shared_state: Any, server_url: str) -> None:
        """Nothing: the requester publishes the study on the panel's site."""

    def cleanup_resources_from_task_run(self, task_run: Any, server_url: str) -> None:
        """Nothing has been set up."""

    @classmethod
    def get_wrapper_js_path(cls) -> str:
        """Return the file that Mephisto puts beside the page."""
        return str(WRAPPER)


def _make_provider(name: str) -> type[PanelProvider]:
    """Make one panel's classes, and register them with Mephisto and Hydra."""
    kind, title = KINDS[name], name.capitalize()
    of_panel = {"PROVIDER_TYPE": name, "__module__": __name__}
    defaults: dict[str, str | None] = {
        "_provider_type": name,
        "participant_param": kind.participant_param,
        "study_param": kind.study_param,
        "session_param": kind.session_param,
        "completion_url": kind.completion_url,
    }
    declared = {field.name: field for field in PanelArgs.__dataclass_fields__.values()}
    args = make_dataclass(
        f"{title}Args",
        [
            (key, declared[key].type, field(default=value, metadata=declared[key].metadata))
            for key, value in defaults.items()
        ],
        bases=(PanelArgs, ProlificApiArgs) if name == "prolific" else (PanelArgs,),
        namespace={"__module__": __name__, "__doc__": kind.about},
    )
    parts = {
        f"{part}Class": type(f"{title}{part}", (base,), dict(of_panel))
        for part, base in {
            "Requester": PanelRequester,
            "Worker": PanelWorker,
            "Unit": PanelUnit,
            "Agent": PanelAgent,
        }.items()
    }
    provider = type(
        f"{title}Provider", (PanelProvider,), {**of_panel, **parts, "ArgsClass": args, "__doc__": kind.about}
    )
    register_mephisto_abstraction()(provider)
    return provider


PROVIDERS = {name: _make_provider(name) for name in KINDS}


def find_or_make_requester(db: MephistoDB, provider: str, name: str) -> str:
    """Return the name of a panel's requester, who is made if need be.

    Args:
        name: "" for the provider's own.

    Raises:
        ConfigurationError: the name is that of another provider's requester.
    """
    wanted = name or provider
    found = db.find_requesters(requester_name=wanted)
    if not found:
        PROVIDERS[provider].RequesterClass.new(db, wanted)
    elif found[0].provider_type != provider:
        raise ConfigurationError(
            f"mephisto.provider.requester_name: '{wanted}' is a requester of the provider {found[0].provider_type}; give "
            "another name."
        )
    return wanted
