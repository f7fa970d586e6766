"""The flags about where models run (``mephisto.blueprint.serving``), and their checks that need no Ray."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from typing import Any

LOCAL, RAY = "local", "ray"
BLUEPRINT = "mephisto.blueprint"


@dataclass(frozen=True)
class RayOptions:
    """How models are put on Ray.

    Attributes:
        address: of a running cluster, ``auto`` for the one that this machine belongs to, None for one of the run's own.
        gpus: of each copy, parts of one included; None: one, if the cluster has any.
        start_time: seconds that all copies have to be up.
        time_limit: seconds that a reply may take.
        at_once: how many copies may reply at once.
    """

    address: str | None
    replicas: int
    cpus: float
    gpus: float | None
    start_time: float
    time_limit: float
    at_once: int

    @classmethod
    def of(cls, args: Any) -> RayOptions:
        """Read them from the flags under ``mephisto.blueprint``, which have been checked."""
        return cls(
            address=args.ray_address,
            replicas=args.ray_replicas,
            cpus=args.ray_cpus_per_replica,
            gpus=args.ray_gpus_per_replica,
            start_time=args.ray_start_time,
            time_limit=args.max_model_response_time,
            at_once=args.max_concurrent_responses,
        )


def serving_faults(args: Any) -> list[str]:
    """Say what is wrong with the flags that say where models run, a sentence each."""
    if args.serving == LOCAL:
        return []
    if args.serving != RAY:
        return [
            f"{BLUEPRINT}.serving: '{args.serving}' is neither {LOCAL} (in this process) nor {RAY}; give one of them."
        ]
    faults = []
    # Serve's own packages are looked for as well: with Ray's core alone it can't be imported.
    if any(importlib.util.find_spec(name) is None for name in ("ray", "starlette", "aiohttp")):
        faults.append(
            f"{BLUEPRINT}.serving: is {RAY}, and Ray is not installed; install it with: pip install 'model-chat[ray]' "
            f"(see docs/ray.md), or give {BLUEPRINT}.serving={LOCAL}."
        )
    address = args.ray_address
    if (
        address is not None
        and address != "auto"
        and not re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[\w.-]+):[0-9]{1,5}", address)
    ):
        faults.append(
            f"{BLUEPRINT}.ray_address: '{address}' is no address of a Ray cluster; give the head's host:port (as 'ray start "
            "--head' prints it, without ray://), auto for the cluster that this machine belongs to, or leave it out."
        )
    if args.ray_replicas > args.max_concurrent_responses:
        faults.append(
            f"{BLUEPRINT}.ray_replicas: {args.ray_replicas} copies of a model can't all be at work while "
            f"{BLUEPRINT}.max_concurrent_responses is {args.max_concurrent_responses}; raise that to {args.ray_replicas} or "
            "more."
        )
    if args.ray_cpus_per_replica < 0 or (args.ray_cpus_per_replica > 1 and args.ray_cpus_per_replica % 1):
        faults.append(
            f"{BLUEPRINT}.ray_cpus_per_replica: {args.ray_cpus_per_replica:g} is not available; give a part of 1, or a "
            "whole number."
        )
    gpus = args.ray_gpus_per_replica
    if gpus is not None and (gpus < 0 or (gpus > 1 and gpus % 1)):
        faults.append(
            f"{BLUEPRINT}.ray_gpus_per_replica: {gpus:g} is not available; give a part of 1, a whole number, or leave it "
            "out."
        )
    return faults
