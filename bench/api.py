"""Do OpenAPI and answers agree? Generated requests to every route of ours, on a real server of a tiny town.

    python bench/api.py [--examples 150]

Schemathesis makes requests from /openapi.json: as the schema allows, and broken ones. In half of the allowed ones,
names and ids are those that the server knows. Ours are the routes whose errors have our format. /v1/completions is left
out, since the schema of its requests is vLLM's. Then come hostile bodies for the routes of `tests/serve/hostile.py`,
/v1/completions included, and the files of the page, which no schema names.
Takes some minutes. Writes bench/results/api.json; exits with 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import json
import random
import re
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from record import bar, record
from schemathesis.checks import (
    allow_header_conformance,
    content_type_conformance,
    negative_data_rejection,
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.core.failures import FailureGroup

from whereupon.config import load_config
from whereupon.finetune.train import finetune
from whereupon.histories import prepare
from whereupon.tests import conftest
from whereupon.tests.serve.hostile import hostile_requests
from whereupon.tests.serve.processes import serving

SEED = 7
METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE"}
CHECKS = [
    allow_header_conformance, content_type_conformance, negative_data_rejection, not_a_server_error,
    response_headers_conformance, response_schema_conformance, status_code_conformance,
]  # fmt: skip
MODES = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
KNOWN: dict[str, list[Any]] = {
    "user_id": ["p00", "p01"], "item_id": ["park", "cinema"], "item_ids": [["park"], ["bar1", "bar2"]],
    "only": [["park", "bar1"]], "exclude": [["bar2"], []], "category": [None], "near_km": [None],
    "at": ["2024-01-20T12:00"], "time": ["2024-01-20T10:30:00+01:00"], "weather": ["rain, 18 C"], "columns": [{}],
    "explain": [True, False],
}  # fmt: skip
MOST_SHOWN = 20
NUM_HOSTILE = 500
PATIENT_S = 600.0  # of a machine that does other things, too

Body = dict[str, Any]


@dataclass
class Found:
    """Answers by operation and status, and what was wrong with them."""

    statuses: dict[str, Counter[str]] = field(default_factory=dict)
    problems: Counter[str] = field(default_factory=Counter)
    shown: list[Body] = field(default_factory=list)

    def problem(self, kind: str, case: Any, said: str) -> None:
        self.problems[kind] += 1
        if self.problems[kind] <= 3 and len(self.shown) < MOST_SHOWN:
            self.shown.append({"kind": kind, "request": case.as_curl_command()[:600], "said": said[:600]})


def main() -> int:
    """Make a town, serve it, and ask."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--examples", type=int, default=150, help="Most requests for each route and way of making them."
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, serving(_town(Path(folder)), Path(folder) / "run") as served:
        found = ask(served.url, served.model, args.examples)
        hostile = _hostile_statuses(served.url, served.model)
        files = _page_statuses(served.url)
        answers = requests.get(f"{served.url}/health", timeout=60).status_code == 200
    num = sum(counts.total() for counts in found.statuses.values())
    five = sum(count for counts in found.statuses.values() for status, count in counts.items() if status >= "500")
    undocumented = found.problems["undocumented status"]
    others = found.problems.total() - undocumented
    failed = sum(count for status, count in hostile.items() if status >= "5")
    bars = [
        bar("examples", num, ">= 2000", num >= 2000),
        bar("answers with 5xx", five, "= 0", five == 0),
        bar("answers with an undocumented status", undocumented, "= 0", undocumented == 0),
        bar("other answers off their schema", others, "= 0", others == 0),
        bar("hostile bodies", hostile.total(), ">= 500", hostile.total() >= 500),
        bar("hostile bodies answered with 5xx or not at all", failed, "= 0", failed == 0),
        bar(
            "files of the page that are answered otherwise than by 200 and a content security policy",
            files["wrong"],
            "= 0",
            files["wrong"] == 0 < files["right"],
        ),
        bar("server answers in the end", float(answers), "= 1", answers),
    ]
    return record(
        "api", SEED, bars, schemathesis=schemathesis.__version__, statuses=found.statuses, problems=found.problems,
        shown=found.shown, hostile=hostile, page=files,
    )  # fmt: skip


def _town(folder: Path) -> Path:
    """The tests' tiny town with an adapter that has hardly learnt anything: its configuration."""
    make_town = inspect.unwrap(conftest._make_town)(inspect.unwrap(conftest._make_model)())
    path: Path = make_town(folder, people=4, days=12, head_dim=32)  # 32: vLLM has none smaller
    config = load_config(path, ["finetune.epochs=0.1"])
    prepare(config.histories, config.catalogue, config.run, config.seed)
    finetune(config)
    return path


def ask(url: str, name: str, examples: int) -> Found:
    """Up to `examples` requests of each kind to each operation."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", timeout=PATIENT_S)
    schema = schema.include(lambda asked: _is_ours(asked.operation))
    found, rng, http = Found(), random.Random(SEED), requests.Session()
    operations = [result.ok() for result in schema.get_all_operations()]

    def judge(case: Any, some_are_known: bool) -> None:
        if some_are_known and rng.random() < 0.5:
            _make_known(case, name, rng)
        _judge(case, http, found)

    for operation in operations:
        for mode in MODES:
            _each(operation, mode, examples, judge)
    _refused_methods(url, name, operations, found)
    return found


def _is_ours(operation: Any) -> bool:
    """Whether a route answers errors in our format, and what it takes is described by us."""
    return "/ErrorBody" in json.dumps(operation.definition.raw["responses"]) and operation.path != "/v1/completions"


def _page_statuses(url: str) -> Counter[str]:
    """How many files of the page are answered rightly: itself, what it names, and one that is not there."""
    page, statuses = requests.get(f"{url}/", timeout=60), Counter[str]()
    named = set(re.findall(r"(?:src|href)=\"(/?page/[^\"]+)\"", page.text))
    answers = [(page, 200), *((requests.get(f"{url}/{name.lstrip('/')}", timeout=60), 200) for name in named)]
    answers.append((requests.get(f"{url}/page/nothing.js", timeout=60), 404))
    for answer, status in answers:
        is_safe = status != 200 or "default-src 'none'" in answer.headers.get("Content-Security-Policy", "")
        statuses["right" if answer.status_code == status and is_safe else "wrong"] += 1
    return statuses


def _hostile_statuses(url: str, name: str) -> Counter[str]:
    """How many hostile bodies were answered by which status."""
    statuses: Counter[str] = Counter()
    for one in hostile_requests(name, SEED, NUM_HOSTILE):
        try:
            headers = {"Content-Type": one.content_type}
            answer = requests.request(one.method, url + one.path, data=one.content, headers=headers, timeout=120)
            statuses[str(answer.status_code)] += 1
        except requests.RequestException as error:
            statuses[type(error).__name__] += 1
    return statuses


def _each(operation: Any, mode: Any, examples: int, judge: Callable[[Any, bool], None]) -> None:
    """Call `judge` with requests to an operation that are made in one way."""

    @seed(SEED)
    @settings(max_examples=examples, deadline=None, database=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(operation.as_strategy(generation_mode=mode))
    def run(case: Any) -> None:
        judge(case, mode is MODES[0])

    with contextlib.suppress(Unsatisfiable):  # a route without parameters takes no broken request
        run()


def _make_known(case: Any, name: str, rng: random.Random) -> None:
    """Put names and ids into a request that the server knows."""
    case.path_parameters |= {key: name if key == "name" else "p00" for key in case.path_parameters}

    def known(value: Any) -> Any:
        if isinstance(value, list):
            return [known(one) for one in value]
        if isinstance(value, dict):
            return {key: rng.choice(KNOWN[key]) if key in KNOWN else known(one) for key, one in value.items()}
        return value

    case.body = known(case.body)


def _judge(case: Any, http: requests.Session, found: Found) -> None:
    label = f"{case.operation.method.upper()} {case.operation.path}"
    response = case.call(session=http, timeout=PATIENT_S)
    found.statuses.setdefault(label, Counter())[str(response.status_code)] += 1
    if str(response.status_code) not in {*case.operation.definition.raw["responses"], "405"}:
        found.problem("undocumented status", case, f"{response.status_code} {response.text}")
    try:
        case.validate_response(response, checks=CHECKS)
    except FailureGroup as group:
        for failure in group.exceptions:
            found.problem(type(failure).__name__, case, str(failure))


def _refused_methods(url: str, name: str, operations: list[Any], found: Found) -> None:
    """A method that a path lacks is refused with those that it has."""
    paths: dict[str, set[str]] = {}
    for operation in operations:
        paths.setdefault(operation.path, set()).add(operation.method.upper())
    for path, has in paths.items():
        for method in sorted(METHODS - has):
            known = path.format_map(defaultdict(lambda: "p00", name=name))
            response = requests.request(method, url + known, timeout=60)
            found.statuses.setdefault(f"{method} {path}", Counter())[str(response.status_code)] += 1
            if response.status_code != 405 or set(response.headers["Allow"].split(", ")) != has:
                found.problems["methods of a path"] += 1


if __name__ == "__main__":
    sys.exit(main())
