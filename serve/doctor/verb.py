"""All checks one after the other, as a table or as JSON."""

from __future__ import annotations

import os
from dataclasses import replace

from rich.table import Table
from rich.text import Text

from ...console import show
from ...errors import WhereuponError
from ..settings import ServeConfig
from . import machine
from .finding import Finding
from .run import LOOKS, as_json, looked_at, weights_gib

_STYLES = {"well": "green", "note": "yellow", "wrong": "red"}


def doctor(config: ServeConfig, *, json: bool) -> int:
    """Print what is well and what is not; 1 if something is wrong, else 0."""
    findings = examine(config)
    if json:
        print(as_json(findings))
    else:
        show(_table(findings))
    return 1 if any(finding.state == "wrong" for finding in findings) else 0


def examine(config: ServeConfig) -> list[Finding]:
    """The machine, and then the run. A port that is taken is a note: the server itself may be running."""
    try:
        needed_gib = weights_gib(config) + config.serve.kv_cache_gib
    except (WhereuponError, OSError):
        needed_gib = config.serve.kv_cache_gib
    run = [looked_at(name, look, config) for name, look in LOOKS.items()]
    return [
        machine.versions_found(), machine.vllm_found(), machine.cpu_found(), machine.gpu_found(config.model),
        machine.memory_found(needed_gib), machine.disk_found(config.run),
        machine.key_found(config.serve.host, config.serve.api_key_variable, os.environ),
        *(replace(one, state="note") if one.name == "port" and one.state == "wrong" else one for one in run),
    ]  # fmt: skip


def _table(findings: list[Finding]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    for column in ("state", "name", "found"):
        table.add_column(column, overflow="fold")
    for one in findings:
        found = f"{one.found} -> {one.advice}" if one.advice else one.found
        table.add_row(Text(one.state, style=_STYLES[one.state]), Text(one.name), Text(found))
    return table
