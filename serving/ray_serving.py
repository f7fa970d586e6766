"""Models on a Ray cluster: copies of each, kept running by Ray Serve, behind the interface of local models.

The run's own scheduler gathers conversations into batches and says how many run at once; Serve brings a batch to a copy
that is free. Each turn carries its whole history (:mod:`model_chat.serving.histories`), so any copy can answer it, and one
whose copy dies is asked again elsewhere.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from model_chat.errors import ConfigurationError
from model_chat.serving.batching import Asked
from model_chat.serving.catalogue import ModelSource
from model_chat.serving.histories import Conversation, Failure, RemoteError, Turn
from model_chat.serving.model import ModelFailureError, StoppedError
from model_chat.serving.ray_cluster import RayCluster
from model_chat.serving.ray_options import BLUEPRINT, RayOptions
from model_chat.serving.ray_replica import (
    Description,
    ModelRequirement,
    NodeReport,
    ReplicaPlan,
    faults_in,
    inspect_node,
    own_search_path,
)

logger = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often a turn is given to a copy, where copies die over it."""
PAUSE_SECONDS = 0.5
LOOK_SECONDS = 180
POLL_SECONDS = 0.1
CHECK_SECONDS, CHECK_TIMEOUT_SECONDS = 5, 30


class RayModel:
    """A model whose copies are on Ray; see :class:`~model_chat.serving.model.ServedModel`.

    Args:
        handle: Serve's handle of the model's application.
    """

    def __init__(self, nickname: str, handle: Any, description: Description, options: RayOptions) -> None:
        self.nickname = nickname
        self._handle = handle
        self._description = description
        self._options = options

    @property
    def model_file(self) -> str | None:
        """ParlAI's `model_file`, or None."""
        return self._description.model_file

    @property
    def opt(self) -> Mapping[str, Any]:
        """The agent's opt, JSON types only, without secrets."""
        return self._description.opt

    @property
    def takes_batches(self) -> bool:
        """Whether several conversations may be answered at once."""
        return self._description.takes_batches

    @property
    def runs_at_once(self) -> int:
        """As many as there are copies."""
        return self._options.replicas

    @property
    def weights(self) -> str:
        """Each model has copies of its own."""
        return self.nickname

    @property
    def batch_group(self) -> str:
        """No other model's."""
        return self.nickname

    def clone(self) -> Conversation:
        """Return what remembers a conversation."""
        return Conversation()

    def begin_reply(self, asked: Asked, deadline: float) -> None:
        """The pool's threads ask the copies."""

    def probe(self) -> None:
        """A copy that is ready has loaded the model."""

    def answer(self, batch: Sequence[Asked]) -> Sequence[Any]:
        """Ask a copy; where it dies, ask again, each conversation by itself: one of them may be what kills it."""
        turns = [asked.clone.turn(asked.observations) for asked in batch]
        replies = self._replies(turns)
        outcomes: list[Any] = []
        for asked, turn in zip(batch, turns, strict=True):
            answered, reply = replies[turn.conversation]
            if isinstance(reply, dict):
                if reply.get("text"):
                    asked.clone.answered(answered, reply)
                outcomes.append(reply)
            else:
                outcomes.append(RemoteError(reply) if isinstance(reply, Failure) else reply)
        return outcomes

    def _replies(self, turns: Sequence[Turn]) -> dict[str, tuple[Turn, dict[str, Any] | Failure | Exception]]:
        """The turn of each conversation as it was asked for last, with its act, or why there is none."""
        deadline = time.monotonic() + self._options.time_limit
        replies: dict[str, tuple[Turn, dict[str, Any] | Failure | Exception]] = {}
        due: list[Sequence[Turn]] = [turns]
        for attempt in range(1, ATTEMPTS + 1):
            sent = [(group, self._send(group)) for group in due]
            due = []
            for group, response in sent:
                found: Sequence[Any]
                try:
                    found = response.result(timeout_s=max(0.0, deadline - time.monotonic()))
                except Exception as error:  # the agent's own error, or Ray's
                    if not _is_loss(error):
                        found = [error] * len(group)
                    elif attempt == ATTEMPTS:
                        found = [self._lost(error, attempt)] * len(group)
                    else:
                        logger.warning("%s Asking again for %d replies.", self._lost(error, attempt), len(group))
                        due += [[turn.again()] for turn in group]
                        continue
                replies.update({turn.conversation: (turn, reply) for turn, reply in zip(group, found, strict=True)})
            if not due:
                break
            time.sleep(PAUSE_SECONDS)  # until Serve has heard of the death as well
        return replies

    def _lost(self, error: Exception, times: int) -> ModelFailureError:
        how_often = "once" if times == 1 else f"{times} times"
        return ModelFailureError(
            f"{self.nickname} was lost with its process or machine {how_often} over one reply ({type(error).__name__})."
        )

    def _send(self, turns: Sequence[Turn]) -> Any:
        if self.takes_batches:
            return self._handle.answer.remote(turns)
        # What such an agent knows may be more than its history tells: as long as its copy lives, that one is asked.
        return self._handle.answer.options(multiplexed_model_id=turns[0].conversation).remote(turns)

    def examine(self, examination: Callable[..., None], *subjects: Any) -> None:
        """Call ``examination(model, *subjects)`` where one of the copies is."""
        try:
            self._handle.examine.remote(examination, subjects).result(timeout_s=self._options.start_time)
        except Exception as error:  # Ray wraps what the examination raises in a class of its own
            faults = faults_in(str(error))
            if faults:
                raise ConfigurationError(*faults) from None
            raise


def _is_loss(error: Exception) -> bool:
    """Whether a request was lost with the process or machine that worked on it, and would do well elsewhere."""
    from ray import exceptions

    return isinstance(
        error,
        exceptions.RayActorError
        | exceptions.NodeDiedError
        | exceptions.WorkerCrashedError
        | exceptions.ObjectLostError
        | exceptions.RaySystemError,
    )


class ModelsOnRay:
    """The models of a run on a Ray cluster.

    Args:
        sources: nickname -> where the model comes from.
        stopped: whether the requester wants the run to end; asked now and then while the models load.

    Raises:
        ConfigurationError: no cluster, machines that lack something, models that can't be loaded or not in time; nothing is
            left on the cluster then.
        StoppedError: ``stopped`` became true; nothing is left there either.
    """

    def __init__(
        self,
        sources: Mapping[str, ModelSource],
        model_parallel: bool,
        flag: str,
        options: RayOptions,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._sources = sources
        self._options = options
        self._flag = flag
        self._stopped = stopped
        self._applications: dict[str, str] = {}
        copies = len(sources) * options.replicas
        self._cluster = RayCluster(options.address, copies * options.cpus)
        try:
            self.models = self._put(model_parallel)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Take the models off the cluster; end Ray if the run has started it."""
        self._cluster.close(tuple(self._applications.values()))

    def _put(self, model_parallel: bool) -> list[RayModel]:
        from ray import serve

        from model_chat.serving.ray_deployment import ServedReplica

        gpus = self._gpus()
        search_path = own_search_path()
        batches = self._look(gpus, search_path)
        at_once = self._options.at_once
        run = uuid.uuid4().hex[:8]
        targets = []
        for number, (nickname, source) in enumerate(self._sources.items()):
            label = re.sub(r"[^\w.-]", "-", nickname)
            application = f"model-chat-{run}-{number}-{label}"
            self._applications[nickname] = application
            plan = ReplicaPlan(
                source=source,
                model_parallel=model_parallel,
                flag=self._flag,
                time_limit=self._options.time_limit,
                at_once=self._options.at_once,
                search_path=search_path,
                application=application,
                keeper=self._cluster.keeper,
            )
            deployment = serve.deployment(
                name=label,
                num_replicas=self._options.replicas,
                # A copy that is at work on a batch gets no second one while another copy is free.
                max_ongoing_requests=1 if batches.get(nickname) else at_once,
                ray_actor_options={"num_cpus": self._options.cpus, "num_gpus": gpus},
                health_check_period_s=CHECK_SECONDS,
                health_check_timeout_s=CHECK_TIMEOUT_SECONDS,
                graceful_shutdown_wait_loop_s=0.2,
                graceful_shutdown_timeout_s=2,
            )(ServedReplica)
            targets.append(serve.RunTarget(deployment.bind(plan), name=application, route_prefix=None))
        handles = serve.run_many(targets, wait_for_applications_running=False)
        self._wait()
        models = []
        for nickname, handle in zip(self._sources, handles, strict=True):
            description = handle.describe.remote().result(timeout_s=self._options.start_time)
            models.append(RayModel(nickname, handle, description, self._options))
            if not description.takes_batches:
                logger.info(
                    "%s may know more of a conversation than what was said in it: each conversation with it stays with one "
                    "copy while that lives.",
                    nickname,
                )
        return models

    def _gpus(self) -> float:
        import ray

        if self._options.gpus is not None:
            return self._options.gpus
        return 1.0 if ray.cluster_resources().get("GPU", 0) >= 1 else 0.0

    def _look(self, gpus: float, search_path: tuple[str, ...]) -> dict[str, bool]:
        """Ask the machines that could have a copy what they have; return which models take batches, as far as is known.

        Raises:
            ConfigurationError: there is no such machine, or one lacks something.
        """
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        cpus = self._options.cpus
        nodes = [node for node in ray.nodes() if node["Alive"]]
        fit = [
            node["NodeID"]
            for node in nodes
            if node["Resources"].get("CPU", 0) >= cpus and node["Resources"].get("GPU", 0) >= gpus
        ]
        if not fit:
            have = "; ".join(
                f"{node['NodeManagerAddress']}: {node['Resources'].get('CPU', 0):g} and {node['Resources'].get('GPU', 0):g}"
                for node in nodes
            )
            raise ConfigurationError(
                f"{BLUEPRINT}.ray_cpus_per_replica, ray_gpus_per_replica: no machine of the Ray cluster has {cpus:g} "
                f"processors and {gpus:g} GPUs for a copy of a model ({have}); ask for less, or add machines."
            )
        # Serve looks at two copies before it takes one: with no more than two it need not be told what a model is like.
        must_import = self._options.replicas > 2
        if self._cluster.is_own and not must_import:
            return {}  # what is on this machine has been checked
        look = ray.remote(num_cpus=0, max_retries=1, max_calls=1)(inspect_node)
        wanted = [ModelRequirement.of(source) for source in self._sources.values()]
        asked = [
            look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
                wanted, search_path, self._flag, must_import
            )
            for node in fit
        ]
        try:
            found: list[NodeReport] = ray.get(asked, timeout=LOOK_SECONDS)
        except Exception as error:  # a machine without this package can't even read the question
            raise ConfigurationError(
                f"{BLUEPRINT}.serving: not every machine of the Ray cluster can run model-chat ({type(error).__name__}: "
                f"{' '.join(str(error).split())[-300:]}); install the same packages on each (docs/ray.md)."
            ) from error
        ConfigurationError.raise_if(dict.fromkeys(fault for each in found for fault in each.faults))
        return found[0].takes_batches

    def _wait(self) -> None:
        """Wait until every copy is up.

        Raises:
            ConfigurationError: one can't be made, or not all are up in time.
        """
        from ray import serve

        deadline = time.monotonic() + self._options.start_time
        while True:
            statuses = serve.status().applications
            loading = {}
            for nickname, application in self._applications.items():
                status = statuses.get(application)
                said = "" if status is None else _messages(status)
                if faults := faults_in(said):
                    raise ConfigurationError(*faults)
                if status is not None and str(status.status.value) in ("DEPLOY_FAILED", "UNHEALTHY"):
                    raise ConfigurationError(
                        f"{self._flag}: Ray can't start the model '{nickname}': {_last_line(said)}; see docs/ray.md."
                    )
                if status is None or status.status.value != "RUNNING":
                    loading[nickname] = said
            if not loading:
                return
            if self._stopped():
                raise StoppedError
            if time.monotonic() >= deadline:
                nickname, said = next(iter(loading.items()))
                raise ConfigurationError(
                    f"{BLUEPRINT}.ray_start_time: after {self._options.start_time:g} s not every copy of '{nickname}' was "
                    f"up ({_last_line(said)}); give more time, or ask for less that the cluster has to find "
                    "(ray_replicas, ray_cpus_per_replica, ray_gpus_per_replica)."
                )
            time.sleep(POLL_SECONDS)


def _messages(status: Any) -> str:
    return "\n".join([status.message, *(deployment.message for deployment in status.deployments.values())])


def _last_line(text: str) -> str:
    lines: Iterable[str] = (line.strip() for line in text.replace("\\n", "\n").splitlines())
    return next((line for line in reversed(list(lines)) if line), "no reason given")[:400].rstrip(".")
