"""Files for containers, systemd, Prometheus and HAProxy name what is really there."""

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

from whereupon.serve.app import service


@pytest.fixture
def folder(root: Path) -> Path:
    return root / "examples" / "production"


@pytest.fixture
def compose(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((folder / "compose.yaml").read_text())
    return found


def _served_names() -> set[str]:
    """Names under /metrics of what the server counts itself, with the endings of Prometheus."""
    own = [one for one in vars(service).values() if isinstance(one, MetricWrapperBase)]
    assert own, "the server counts something"
    return {name for one in own for name in REGISTRY._collector_to_names[one]}


def test_dashboard_asks_for_figures_that_the_server_has(folder: Path) -> None:
    board = json.loads((folder / "grafana" / "whereupon.json").read_text())
    asked = {
        name
        for panel in board["panels"]
        for target in panel["targets"]
        for name in re.findall(r"whereupon_\w+", target["expr"])
    }
    assert len(asked) > 8
    assert asked <= _served_names()


def test_compose_mounts_files_that_exist(folder: Path, compose: dict[str, Any]) -> None:
    mounts = [
        volume.split(":")[0]
        for one in compose["services"].values()
        for volume in one.get("volumes", [])
        if volume.startswith("./") and volume.split(":")[0] != "./data"
    ]
    assert len(mounts) == 4
    assert all((folder / mount).is_file() for mount in mounts)


def test_compose_keeps_secrets_out_of_command_lines_and_ports_on_this_machine(compose: dict[str, Any]) -> None:
    services = compose["services"].values()
    assert not [word for one in services for word in one.get("command", []) if "PASSWORD" in word or "_KEY" in word]
    assert all(port.startswith("127.0.0.1:") for one in services for port in one.get("ports", []))
    assert compose["services"]["server"]["environment"].keys() >= {"WHEREUPON_API_KEY", "WHEREUPON_ADMIN_KEY"}


def test_prometheus_reads_the_service_of_compose(folder: Path, compose: dict[str, Any]) -> None:
    [job] = yaml.safe_load((folder / "prometheus.yaml").read_text())["scrape_configs"]
    [target] = job["static_configs"][0]["targets"]
    assert target.split(":")[0] in compose["services"]


def test_image_installs_extras_that_there_are(folder: Path, root: Path) -> None:
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = re.findall(
        r"EXTRAS=\"?([a-z,]+)", (folder / "Dockerfile").read_text() + (folder / "compose.yaml").read_text()
    )
    assert len(named) >= 3
    assert {extra for one in named for extra in one.split(",")} <= extras.keys()


def test_units_run_verbs_that_there_are(folder: Path) -> None:
    text = (folder / "whereupon.service").read_text()
    verbs = re.findall(r"^Exec\w+=\S+/whereupon (\w+) ", text, re.MULTILINE)
    assert verbs == ["doctor", "serve"]


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="there is no haproxy on this machine")
def test_haproxy_accepts_its_configuration(folder: Path) -> None:
    done = subprocess.run(["haproxy", "-c", "-f", str(folder / "haproxy.cfg")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
