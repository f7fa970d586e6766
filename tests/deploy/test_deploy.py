"""The files of deploy/: each is taken by the program that reads it, where it can be had, and they agree with each other.

Through Caddy and nginx as they set them up, in Chromium: tests/e2e/test_self_hosting.py. Untested is what needs
Docker: that the images are built and pulled, and that Docker's networks and volumes do what compose.yaml asks for.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from model_chat.configuration.exit_codes import ExitCode
from model_chat.launch.command_line import compose_config
from model_chat.launch.metrics import metrics_faults
from model_chat.router.addresses import entries_of, faults_of_addresses
from model_chat.tests.docs.pages import ROOT
from model_chat.tests.e2e.reverse_proxy import find_caddy

DEPLOY = ROOT / "deploy"
DOMAIN = "study.example.org"


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))


def filled(text: str, **variables: str) -> str:
    """Put variables into a text as Compose does: ``${NAME:-default}``, ``${NAME:?fault}``."""

    def value(match: re.Match[str]) -> str:
        name, kind, other = match.groups()
        if name in variables:
            return variables[name]
        assert kind == ":-", f"{name} is not set: {other}"
        return str(other)

    return re.sub(r"\$\{([A-Z_]+)(?:(:-|:\?)([^}]*))?\}", value, text)


def dockerfile(instruction: str) -> list[str]:
    text = re.sub(r"\\\n\s*", " ", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    return re.findall(rf"^{instruction} (.*)$", text, flags=re.MULTILINE)


def flags_of_the_study(compose: Any, **variables: str) -> list[str]:
    """What run.py gets in the container: the Dockerfile's entry point and the service's command."""
    (entry,) = dockerfile("ENTRYPOINT")
    return [*json.loads(entry)[2:], *(filled(word, **variables) for word in compose["services"]["study"]["command"])]


# --- compose.yaml ---


def test_compose_follows_the_specifications_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, DEPLOY / "compose.yaml"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_the_services_name_is_there(compose: Any) -> None:
    services = compose["services"]
    assert (DEPLOY / services["study"]["build"] / "Dockerfile").is_file()
    named = set()
    for service in services.values():
        for volume in service["volumes"]:
            source = filled(volume).split(":")[0]
            if source.startswith("."):
                assert source == "../models" or (DEPLOY / source).is_file(), source
            else:
                named.add(source)
        assert service["restart"] == "unless-stopped"
    assert named == set(compose["volumes"])
    assert dockerfile("VOLUME") == ["/data"]
    assert "data:/data" in services["study"]["volumes"]
    assert set(services["caddy"]["depends_on"]) == {"study"}


def test_the_page_is_for_caddy_alone_and_the_metrics_for_this_machine_alone(compose: Any) -> None:
    study, caddy = compose["services"]["study"], compose["services"]["caddy"]
    port = compose_config("example", flags_of_the_study(compose, DOMAIN=DOMAIN)).mephisto.architect.port
    assert study["expose"] == dockerfile("EXPOSE") == [port]
    assert caddy["environment"]["UPSTREAM"] == f"study:{port}"
    assert all(published.startswith("127.0.0.1:") for published in study["ports"])
    assert {published.split(":")[0] for published in caddy["ports"]} == {"80", "443"}


@pytest.mark.parametrize("path", [None, "/studies/pets/"])
def test_the_studys_flags_are_in_order(compose: Any, path: str | None) -> None:
    variables = {"DOMAIN": DOMAIN} if path is None else {"DOMAIN": DOMAIN, "STUDY_PATH": path}
    cfg = compose_config("example", flags_of_the_study(compose, **variables))
    architect, blueprint = cfg.mephisto.architect, cfg.mephisto.blueprint
    assert architect.public_url == f"https://{DOMAIN}{path or '/'}"
    assert faults_of_addresses(architect) == []
    assert metrics_faults(blueprint, architect) == []
    (subnet,) = (config["subnet"] for config in compose["networks"]["default"]["ipam"]["config"])
    assert entries_of(architect.trusted_proxies) == [subnet]
    assert compose["services"]["study"]["ports"] == [f"127.0.0.1:{blueprint.metrics_port}:{blueprint.metrics_port}"]
    assert _seconds(compose["services"]["study"]["stop_grace_period"]) > blueprint.stop_grace_time


def _seconds(text: str) -> int:
    return int(text.removesuffix("m")) * 60


def test_the_domain_must_be_given(compose: Any) -> None:
    with pytest.raises(AssertionError, match="DOMAIN is not set"):
        flags_of_the_study(compose)


def test_no_secret_is_in_the_files_and_none_is_put_into_the_image(compose: Any) -> None:
    assert compose["services"]["study"]["env_file"] == [{"path": "secrets.env", "required": False}]
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert {"deploy/secrets.env", "deploy/.env"} <= set(ignored)
    assert {"/deploy/secrets.env", "/deploy/.env"} <= set((ROOT / ".gitignore").read_text(encoding="utf-8").split())


# --- Caddy ---


@pytest.mark.parametrize("name", ["Caddyfile", "Caddyfile.two-studies"])
@pytest.mark.parametrize("domain", [DOMAIN, "localhost"])
def test_caddy_takes_the_caddyfile(name: str, domain: str, tmp_path: Path) -> None:
    environment = {
        "DOMAIN": domain,
        "HOME": str(tmp_path),
        "XDG_DATA_HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path),
    }
    command = [find_caddy(), "validate", "--adapter", "caddyfile", "--config", str(DEPLOY / name)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "Valid configuration" in done.stdout + done.stderr
    assert "not formatted" not in done.stderr


def test_no_proxy_writes_participants_ids_into_a_log() -> None:
    for name in ("Caddyfile", "Caddyfile.two-studies"):
        assert re.search(r"^\s*log\b", (DEPLOY / name).read_text(encoding="utf-8"), flags=re.MULTILINE) is None
    nginx = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
    assert nginx.count("access_log off;") == len(re.findall(r"^server \{", nginx, flags=re.MULTILINE)) == 2


# --- systemd ---


def unit() -> dict[str, str]:
    text = re.sub(r"\\\n\s*", "", (DEPLOY / "model-chat.service").read_text(encoding="utf-8"))
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))


def test_the_units_command_is_a_run_whose_flags_are_in_order() -> None:
    program, script, *flags = shlex.split(unit()["ExecStart"])
    assert (program, script) == (f"{unit()['WorkingDirectory']}/.venv/bin/python", "run.py")
    cfg = compose_config("example", flags)
    assert faults_of_addresses(cfg.mephisto.architect) == []
    assert metrics_faults(cfg.mephisto.blueprint, cfg.mephisto.architect) == []
    for folder in (cfg.mephisto.datapath, cfg.mephisto.blueprint.chat_data_folder):
        assert folder.startswith(f"/var/lib/{unit()['StateDirectory']}/")
    assert int(unit()["TimeoutStopSec"]) > cfg.mephisto.blueprint.stop_grace_time


def test_the_unit_is_started_again_only_where_that_helps() -> None:
    assert unit()["Restart"] == "on-failure"
    prevented = {int(code) for code in unit()["RestartPreventExitStatus"].split()}
    assert prevented == {ExitCode.CONFIGURATION, ExitCode.ENDED_BEFORE}
    assert int(unit()["SuccessExitStatus"]) == ExitCode.INTERRUPTED


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    text = (DEPLOY / "model-chat.service").read_text(encoding="utf-8")
    copy = tmp_path / "model-chat.service"
    copy.write_text(text.replace("/srv/model-chat/.venv/bin/python", sys.executable), encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, timeout=60, check=False
    )
    assert [line for line in done.stderr.splitlines() if "model-chat.service" in line] == []
