"""``/metrics`` for Prometheus, on a port of its own: how a run is doing, without anybody's id."""

from __future__ import annotations

import logging
import socket
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from model_chat.configuration.task_names import LOCAL
from model_chat.errors import ConfigurationError
from model_chat.mephisto_task.task_database import worker_counts
from model_chat.router.addresses import LOOPBACK, is_address
from model_chat.router.local_architect import fault_of_port

if TYPE_CHECKING:
    from model_chat.conversation.quota import Quota
    from model_chat.mephisto_task.shared_state import ModelChatSharedState

logger = logging.getLogger(__name__)

BLUEPRINT = "mephisto.blueprint"
PORT_FLAG, HOST_FLAG = f"{BLUEPRINT}.metrics_port", f"{BLUEPRINT}.metrics_host"
REQUEST_SECONDS = 5.0
"""A client that sends its request more slowly is cut off: requests are answered one after the other."""


def metrics_faults(args: Any, architect: Any) -> list[str]:
    """Say what is wrong with the flags of the metrics, one sentence for each fault."""
    port, host = args.metrics_port, str(args.metrics_host)
    faults = []
    if not is_address(host):
        faults.append(
            f"{HOST_FLAG}: '{host:.80}' is not an IP address; give {LOOPBACK} for this machine only, or 0.0.0.0 for every "
            "network."
        )
    if port is None:
        if host != LOOPBACK and is_address(host):
            faults.append(f"{HOST_FLAG}: is of no use without {PORT_FLAG}; give a port, such as 9100, or leave it out.")
        return faults
    if architect._architect_type == LOCAL and str(architect.port) == str(port):
        faults.append(f"{PORT_FLAG}: {port} is the page's own (mephisto.architect.port); give another.")
        return faults
    fault = fault_of_port(str(port), PORT_FLAG, host if is_address(host) else "0.0.0.0")
    return faults if fault is None else [*faults, fault]


class RunCollector(Collector):  # type: ignore[misc]  # prometheus_client has no types here
    """Reads a run's state whenever it is asked for."""

    def __init__(self, shared: ModelChatSharedState, quota: Quota) -> None:
        self._shared = shared
        self._quota = quota

    def describe(self) -> Iterable[Metric]:
        """Return nothing: what there is depends on the run."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Return the metrics as they are now."""
        yield from self._workers()
        counts = self._quota.counts()
        for name, text, values in (
            ("done", "Conversations that are collected, those of earlier runs included.", [c.done for c in counts]),
            ("in_flight", "Conversations that are going on.", [c.in_flight for c in counts]),
            ("needed", "Conversations that are wanted in all.", [c.needed for c in counts]),
        ):
            family = GaugeMetricFamily(f"model_chat_conversations_{name}", text, labels=["model"])
            for count, value in zip(counts, values, strict=True):
                family.add_metric([count.nickname], value)
            yield family
        spend = self._shared.spend
        if spend is not None:
            yield GaugeMetricFamily(
                "model_chat_spend_usd", "US dollars that the task's models have cost in all its runs.", spend.total()
            )
            by_model = CounterMetricFamily(
                "model_chat_model_spend_usd", "US dollars that each model has cost in this run.", labels=["model"]
            )
            for nickname, cost in spend.by_model().items():
                by_model.add_metric([nickname], cost)
            yield by_model
            if spend.limit is not None:
                yield GaugeMetricFamily("model_chat_spend_limit_usd", f"{BLUEPRINT}.max_model_spend_usd.", spend.limit)

    def _workers(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "model_chat_workers", "Workers of this run by what they do or how they ended.", labels=["stage", "state"]
        )
        live_run = self._shared.live_run
        if live_run is not None:
            run = live_run.task_run
            for (stage, state), number in sorted(worker_counts(run.db, run.db_id).items()):
                family.add_metric([stage, state], number)
        yield family


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: a scrape every few seconds is no news."""


class _Server(WSGIServer):
    def server_bind(self) -> None:
        """Bind without asking a name server for this machine's name, as http.server would."""
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()


class _ServerV6(_Server):
    address_family = socket.AF_INET6


@contextmanager
def serve_metrics(args: Any, shared: ModelChatSharedState, quota: Quota) -> Iterator[str | None]:
    """Serve the metrics of a run, in a thread of its own; yields their address, or None where no port is set.

    Mephisto's own metrics are in prometheus_client's default registry, which is not shown here.

    Raises:
        ConfigurationError: the port was taken meanwhile.
    """
    if args.metrics_port is None:
        yield None
        return
    registry = CollectorRegistry()
    registry.register(RunCollector(shared, quota))
    if shared.world_opt is not None:
        shared.world_opt.models.meter.register(registry)
    show = make_wsgi_app(registry)

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/metrics":
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"Not found\n"]
        try:
            return show(environ, start_response)  # type: ignore[no-any-return]  # a list of bytes
        except sqlite3.Error:
            logger.debug("The metrics could not be read", exc_info=True)
            start_response("503 Service Unavailable", [("Content-Type", "text/plain")])
            return [b"The database can't be read\n"]

    host = str(args.metrics_host)
    try:
        server = (_ServerV6 if ":" in host else _Server)((host, args.metrics_port), _Handler)
    except OSError as error:
        raise ConfigurationError(f"{PORT_FLAG}: {args.metrics_port} can't be used ({error.strerror}).") from None
    server.set_app(app)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    try:
        yield (
            f"http://[{host}]:{args.metrics_port}/metrics"
            if ":" in host
            else f"http://{host}:{args.metrics_port}/metrics"
        )
    finally:
        server.shutdown()
        server.server_close()
