"""Load a model once, with the overrides that a chat with people needs."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_chat.agents.endpoint_settings import ENDPOINT_AGENT
from model_chat.configuration.redaction import learn_flags, learn_secrets, redacted, redacted_flags
from model_chat.errors import ConfigurationError
from model_chat.serving.batching import Asked, reply_alone, reply_together, takes_batches
from model_chat.serving.catalogue import MODEL_FILE, OPT_FILE, ModelSource
from model_chat.serving.parlai_weights import LOADED, decoding_of, weights_of

logger = logging.getLogger(__name__)


def chat_overrides(model_parallel: bool) -> dict[str, Any]:
    """The options that every model is loaded with, whatever its own opt says."""
    return {
        "datatype": "valid",
        "encode_candidate_vecs": True,
        "interactive_mode": True,
        "skip_generation": False,
        "model_parallel": model_parallel,
    }


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory.

    Attributes:
        agent: the ParlAI agent that holds the weights; conversations talk to clones made from :meth:`share`.
        model_file: ParlAI's `model_file`, or None.
    """

    nickname: str
    agent: Any
    model_file: str | None

    runs_at_once = 1
    """Batches at the same time: there is one set of weights."""

    @property
    def takes_batches(self) -> bool:
        """Whether its clones may be answered together."""
        return takes_batches(self.agent)

    @property
    def weights(self) -> Hashable:
        """The weights in memory, as far as the agent can share them with other models; else the nickname."""
        weights = weights_of(self.agent)
        return self.nickname if weights is None else weights

    @property
    def batch_group(self) -> Hashable:
        """See :attr:`model_chat.serving.model.ServedModel.batch_group`."""
        return decoding_of(self.agent)

    @property
    def opt(self) -> Mapping[str, Any]:
        """The agent's whole opt."""
        opt: Mapping[str, Any] = self.agent.opt
        return opt

    def clone(self) -> Any:
        """Return an agent with the same weights and an empty history, for one conversation."""
        from parlai.core.agents import create_agent_from_shared

        return create_agent_from_shared(self.agent.share())

    def answer(self, batch: Sequence[Asked]) -> Sequence[Any]:
        """Let clones observe and act; see :meth:`model_chat.serving.model.ServedModel.answer`."""
        try:
            return [reply_alone(batch[0])] if len(batch) == 1 else reply_together(self.agent, batch)
        except BaseException as error:  # whatever a model raises belongs to the conversations that asked
            return [error] * len(batch)

    def begin_reply(self, asked: Asked, deadline: float) -> Future[Any] | None:
        """See :meth:`model_chat.serving.model.ServedModel.begin_reply`."""
        begin = getattr(asked.clone, "begin_reply", None)
        if begin is None:
            return None
        for observation in asked.observations:
            asked.clone.observe(observation)
        future: Future[Any] = begin(deadline, asked.tell)
        return future

    def probe(self) -> None:
        """See :meth:`model_chat.serving.model.ServedModel.probe`.

        Raises:
            ConfigurationError: the model can't reply.
        """
        probe = getattr(self.agent, "probe", None)
        if probe is not None:
            probe()

    def examine(self, examination: Callable[..., None], *subjects: Any) -> None:
        """Call ``examination(self, *subjects)``."""
        examination(self, *subjects)


def load_model(
    source: ModelSource, model_parallel: bool, flag: str = "mephisto.blueprint.conversations_needed_string"
) -> LoadedModel:
    """Load the model of ``source``.

    Raises:
        ConfigurationError: ParlAI can't load it; the message carries ParlAI's own reason.
    """
    overrides = chat_overrides(model_parallel)
    try:
        if source.endpoint is not None:
            agent = _load_endpoint(source.endpoint, overrides)
        elif source.folder is not None:
            agent = _load_from_folder(source.folder, overrides)
        else:
            learn_flags(source.flags or "")
            agent = _load_from_flags(source.flags or "", overrides)
    except (Exception, SystemExit) as error:  # ParlAI's parser leaves by SystemExit on a wrong flag
        where = (
            source.folder / OPT_FILE
            if source.folder is not None
            else f"the flags {redacted_flags(source.flags or '')!r}"
        )
        logger.debug("Loading %s failed", source.nickname, exc_info=True)
        raise ConfigurationError(
            f"{flag}: the model '{source.nickname}' can't be loaded from {where}: "
            f"{type(error).__name__}: {_one_line(error)}."
        ) from error
    learn_secrets(agent.opt)
    return LoadedModel(nickname=source.nickname, agent=agent, model_file=agent.opt.get("model_file"))


def _one_line(error: BaseException) -> str:
    return redacted(" ".join(str(error).split()))[:500].rstrip(".") or "no reason given"


def _load_from_folder(folder: Path, overrides: Mapping[str, Any]) -> Any:
    from parlai.core.agents import create_agent_from_opt_file
    from parlai.core.opt import Opt

    saved = Opt.load(str(folder / OPT_FILE))
    learn_secrets(saved)
    if not (folder / MODEL_FILE).exists():
        logger.info("There is no '%s' file in %s; its %s alone is loaded.", MODEL_FILE, folder, OPT_FILE)
    # A hand-written model.opt names only what it changes: what is missing gets the agent's own defaults, as on ParlAI's
    # command line. ParlAI takes keys of this opt only where the file has none, and `override` in any case.
    opt = _defaults(saved["model"])
    opt["model_file"] = str(folder / MODEL_FILE)
    opt["override"] = dict(overrides)
    opt.update(overrides)
    return LOADED.get(opt, lambda: create_agent_from_opt_file(opt))


def _load_endpoint(settings: Mapping[str, Any], overrides: Mapping[str, Any]) -> Any:
    from parlai.core.opt import Opt

    from model_chat.agents.endpoint import EndpointAgent

    return EndpointAgent(Opt({**settings, "model": ENDPOINT_AGENT, **overrides}))


def _defaults(model: str) -> Any:
    """Return an opt with the default of every flag of ParlAI and of the agent ``model``."""
    from parlai.core.params import ParlaiParser

    opt = ParlaiParser(add_parlai_args=True, add_model_args=True).parse_args(["--model", model])
    for key in ("model", "override", "init_model", "dict_file"):
        opt.pop(key, None)
    return opt


def _load_from_flags(flags: str, overrides: Mapping[str, Any]) -> Any:
    from parlai.core.agents import create_agent
    from parlai.core.params import ParlaiParser

    opt = ParlaiParser(add_parlai_args=True, add_model_args=True).parse_args(shlex.split(flags))
    opt.update(overrides)
    opt["override"] = {**opt.get("override", {}), **overrides}
    return LOADED.get(opt, lambda: create_agent(opt, requireModelExists=bool(opt.get("model_file"))))
