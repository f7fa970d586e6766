"""The interface that the model pool needs of a model, wherever it runs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from model_chat.errors import ModelChatError
from model_chat.errors import ModelFailureError as ModelFailureError
from model_chat.serving.batching import Asked


class StoppedError(ModelChatError):
    """The requester has ended the run: models are not loaded further, and replies are not waited for."""


class ServedModel(Protocol):
    """A model that is ready to reply: in this process (:class:`~model_chat.serving.loading.LoadedModel`) or elsewhere."""

    @property
    def nickname(self) -> str:
        """What the requester calls it."""

    @property
    def model_file(self) -> str | None:
        """ParlAI's `model_file`, or None."""

    @property
    def opt(self) -> Mapping[str, Any]:
        """The agent's opt."""

    @property
    def takes_batches(self) -> bool:
        """Whether several conversations may be answered at once (:mod:`model_chat.serving.batching`)."""

    @property
    def runs_at_once(self) -> int:
        """How many batches it works on at the same time; one that takes no batches is asked as often as the pool may."""

    @property
    def weights(self) -> Hashable:
        """Names the weights in memory; models that share them are not run at the same time."""

    @property
    def batch_group(self) -> Hashable:
        """Models with the same weights and the same group can be answered in one batch, by any of them."""

    def clone(self) -> Any:
        """Return what stands for the model in one conversation: it has ``observe`` and ``self_observe``."""

    def answer(self, batch: Sequence[Asked]) -> Sequence[Any]:
        """Let conversations' clones observe and act.

        Args:
            batch: at least one, and no more than one unless the model takes batches; each clone at most once.

        Returns:
            for each, in order, its act, or the exception that it ended with.
        """

    def begin_reply(self, asked: Asked, deadline: float) -> Future[Any] | None:
        """Begin to reply beside other requests, outside of the pool's threads; what is behind an endpoint does.

        Args:
            deadline: on :func:`time.monotonic`'s clock.

        Returns:
            a future of the act, which stops the work when it is cancelled; None where the pool's threads are to
            call :meth:`answer`.
        """

    def probe(self) -> None:
        """See whether the model can reply, where loading it does not tell.

        Raises:
            ConfigurationError: it can't.
        """

    def examine(self, examination: Callable[..., None], *subjects: Any) -> None:
        """Call ``examination(model, *subjects)`` where the model is, with the one that holds the weights.

        Raises:
            ConfigurationError: the examination's.
        """
