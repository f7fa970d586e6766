"""The dashboard's flags: what is wrong with them, and who may log in with which password."""

from __future__ import annotations

import math
import os
import re
from enum import StrEnum
from typing import Any

from model_chat.configuration.task_names import LOCAL
from model_chat.errors import ConfigurationError
from model_chat.router.addresses import LOOPBACK, is_address, is_loopback
from model_chat.router.local_architect import fault_of_port

BLUEPRINT = "mephisto.blueprint"
PORT_FLAG, HOST_FLAG = f"{BLUEPRINT}.dashboard_port", f"{BLUEPRINT}.dashboard_host"
PASSWORD_FLAG, WAGE_FLAG = f"{BLUEPRINT}.dashboard_password_env", f"{BLUEPRINT}.min_hourly_wage"
SHORTEST_PASSWORD = 12
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Role(StrEnum):
    """What somebody may do; each role may do what those before it may."""

    READ = "read"
    REVIEW = "review"
    PAY = "pay"

    def includes(self, other: Role) -> bool:
        """Whether the role may do what another may."""
        order = list(Role)
        return order.index(self) >= order.index(other)


def dashboard_faults(args: Any, architect: Any) -> list[str]:
    """Say what is wrong with the flags of the dashboard, one sentence for each fault."""
    port, host = args.dashboard_port, str(args.dashboard_host)
    faults = [*host_faults(HOST_FLAG, host, PASSWORD_FLAG, args.dashboard_password_env)]
    wage = args.min_hourly_wage
    if wage is not None and not (math.isfinite(wage) and wage > 0):
        faults.append(
            f"{WAGE_FLAG}: {wage} is no wage; give an amount an hour in the reward's currency, such as 12, or leave it out."
        )
    if port is None:
        faults += [
            f"{flag}: is of no use without {PORT_FLAG}; give a port, such as 9200, or leave it out."
            for flag, is_given in ((HOST_FLAG, host != LOOPBACK), (PASSWORD_FLAG, bool(args.dashboard_password_env)))
            if is_given
        ]
        return faults
    if port == 0:
        return faults
    for flag, other in (
        ("mephisto.architect.port", architect.get("port", None) if architect._architect_type == LOCAL else None),
        (f"{BLUEPRINT}.metrics_port", args.metrics_port),
    ):
        if other is not None and str(other) == str(port):
            return [*faults, f"{PORT_FLAG}: {port} is that of {flag}, too; give another."]
    fault = fault_of_port(str(port), PORT_FLAG, host if is_address(host) else LOOPBACK)
    return faults if fault is None else [*faults, fault]


def host_faults(host_flag: str, host: str, password_flag: str, passwords: str | None) -> list[str]:
    """Say what is wrong with the address and the passwords: an address that others reach needs a password."""
    faults = []
    if not is_address(host):
        faults.append(
            f"{host_flag}: '{host:.80}' is not an IP address; give {LOOPBACK} for this machine only, or 0.0.0.0 for every "
            "network."
        )
    try:
        found = read_passwords(password_flag, passwords)
    except ConfigurationError as error:
        faults += error.faults
    else:
        if is_address(host) and not is_loopback(host) and not found:
            faults.append(
                f"{password_flag}: is not set, and {host_flag} lets other machines reach the dashboard; give the name of an "
                "environment variable with a password, such as DASHBOARD_PASSWORD."
            )
    return faults


def read_passwords(flag: str, given: str | None) -> dict[str, Role]:
    """Return who may do what: password -> role.

    Args:
        given: ``VARIABLE``, whose password gives the role ``pay``; or ``read:VARIABLE,review:VARIABLE,pay:VARIABLE``.

    Raises:
        ConfigurationError: a variable that is not set, a role that there isn't, or a password that is too short or given
            twice.
    """
    if not given or not str(given).strip():
        return {}
    faults: list[str] = []
    found: dict[str, Role] = {}
    roles: set[Role] = set()
    for part in str(given).split(","):
        role_name, separator, variable = part.strip().rpartition(":")
        variable = variable.strip()
        if separator and role_name.strip() not in list(Role):
            faults.append(f"{flag}: '{role_name.strip():.40}' is no role; give one of {', '.join(Role)}.")
            continue
        role = Role(role_name.strip()) if separator else Role.PAY
        if not _VARIABLE.fullmatch(variable):
            # What is no name may be a password that was given in its place: it is not repeated.
            faults.append(
                f"{flag}: is not the name of an environment variable; give the variable's name, never the password."
            )
            continue
        password = os.environ.get(variable, "")
        if role in roles:
            faults.append(f"{flag}: duplicate role '{role}'; give each role one variable.")
        elif not password:
            faults.append(f"{flag}: the environment variable {variable} is not set; set it to a password.")
        elif len(password) < SHORTEST_PASSWORD:
            faults.append(
                f"{flag}: the password in {variable} is too short; give at least {SHORTEST_PASSWORD} characters."
            )
        elif password in found:
            faults.append(f"{flag}: two roles have the same password; give each its own.")
        else:
            found[password] = role
        roles.add(role)
    ConfigurationError.raise_if(faults)
    return found
