"""What is right about an answer of the server while catalogues come and go; used by bench/soak.py."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import httpx
from serve_traffic import Request

MAX_SHOWN = 20
MAX_SENTENCE_CHARS = 1000

Body = dict[str, Any]
# By item id: title and category.
CatalogueItems = dict[str, tuple[str, str | None]]


@dataclass
class Tally:
    """Counts of what came back, and of each problem of each kind of request the first one in words."""

    catalogues: dict[str, CatalogueItems] = field(default_factory=dict)
    statuses: dict[str, Counter[str]] = field(default_factory=dict)
    problems: Counter[str] = field(default_factory=Counter)
    shown: dict[str, str] = field(default_factory=dict)
    latency_s: dict[str, list[float]] = field(default_factory=dict)
    versions: Counter[str] = field(default_factory=Counter)
    num_valid: int = 0
    _waiting: list[tuple[Request, Body]] = field(default_factory=list)

    def status(self, request: Request, status: str) -> None:
        """Count what came back: an HTTP status, or in words what came instead."""
        self.statuses.setdefault(request.kind, Counter())[status] += 1

    def problem(self, what: str, where: str, detail: str) -> None:
        """Count a problem of the kind `what` that a request of the kind `where` has met with."""
        self.problems[what] += 1
        if len(self.shown) < MAX_SHOWN:
            self.shown.setdefault(f"{what}, {where}", detail[:MAX_SENTENCE_CHARS])

    def response(self, request: Request, response: httpx.Response, latency_s: float) -> None:
        """Judge a response."""
        status = response.status_code
        self.status(request, str(status))
        if status >= 500:
            self.problem("5xx", request.kind, f"{status} {response.text[:200]}")
        elif request.expected == "refusal":
            if not 400 <= status < 500:
                self.problem("bad request that was not refused", request.kind, f"{status} {response.text[:200]}")
            elif flaw := refusal_flaw(response):
                self.problem("refusal in another form", request.kind, f"{status} {flaw}")
        elif status == 429:
            flaw = refusal_flaw(response) or (None if "Retry-After" in response.headers else "lacks Retry-After")
            if flaw:
                self.problem("refusal in another form", request.kind, f"{status} {flaw}")
        elif status != 200:
            self.problem("good request that was refused", request.kind, f"{status} {response.text[:300]}")
        else:
            self.latency_s.setdefault(request.kind.partition(",")[0], []).append(latency_s)
            self._judge(request, response.json())

    def catalogue(self, version: str, catalogue: CatalogueItems) -> None:
        """Say what a version holds; answers that came before that was known are judged now."""
        if self.catalogues.setdefault(version, catalogue) != catalogue:
            self.problem("version given twice", "catalogue", version)
        waiting, self._waiting = self._waiting, []
        for request, body in waiting:
            self._judge(request, body)

    def finish(self) -> None:
        """Count answers whose version is unknown."""
        for request, body in self._waiting:
            self.problem("answer of an unknown version", request.kind, _about(body)["version"])

    def _judge(self, request: Request, body: Body) -> None:
        if request.expected == "stored":
            if body["accepted"] + body["duplicates"] != request.most:
                self.problem("events that were miscounted", request.kind, str(body))
            return
        version = _about(body)["version"]
        if version not in self.catalogues:
            self._waiting.append((request, body))
            return
        self.versions[version] += 1
        if flaws := answer_flaws(request, body, self.catalogues[version]):
            what, detail = flaws[0]
            self.problem(what, request.kind, f"{version}: {detail}")
        else:
            self.num_valid += 1


def refusal_flaw(response: httpx.Response) -> str | None:
    """What keeps a response from being an error in OpenAI's format, said in one sentence; None for nothing."""
    try:
        error = response.json()["error"]
        message = error["message"]
    except (ValueError, KeyError, TypeError):
        return f"is no error of OpenAI's: {response.text[:200]}"
    if missing := {"message", "type", "param", "code"} - error.keys():
        return f"lacks {', '.join(sorted(missing))}: {error}"
    if not isinstance(message, str) or "\n" in message.strip() or "Traceback" in message:
        return f"is no sentence: {message!r}"
    if not message.strip().endswith((".", "?", "!")) or len(message) > MAX_SENTENCE_CHARS:
        return f"is no sentence: {message[:200]!r}"
    return None


def answer_flaws(request: Request, body: Body, catalogue: CatalogueItems) -> list[tuple[str, str]]:
    """What is wrong with an answer to a good request, each as a kind and a detail."""
    about, ranked = _about(body), _ranked(body)
    ids, flaws = [item_id for item_id, _, _ in ranked], []
    strange = [(item_id, title) for item_id, title, _ in ranked if catalogue.get(item_id, ("",))[0] != title]
    if strange:
        flaws.append(("answer that mixes versions", f"{strange[:3]} in {len(ids)}"))
    if len(set(ids)) < len(ids) or len({title for _, title, _ in ranked}) < len(ids):
        flaws.append(("answer with an item twice", str(ids)))
    expected = min(request.most, int(about["num_candidates"]))
    if len(ids) != expected and about["exact"]:
        flaws.append(("answer of the wrong length", f"{len(ids)} of {expected}"))
    if len(ids) < request.most and not about["reason"]:
        flaws.append(("short answer without a reason", f"{len(ids)} of {request.most}"))
    probabilities = [probability for _, _, probability in ranked]
    if any(not 0 <= one <= 1 for one in probabilities) or math.fsum(probabilities) > 1 + 1e-6:
        flaws.append(("probabilities that are none", str(probabilities)))
    if any(after > before + 1e-9 for before, after in pairwise(probabilities)):
        flaws.append(("answer that is not in order", str(probabilities)))
    if unfit := [item_id for item_id in ids if not _fits(request, item_id, catalogue)]:
        flaws.append(("item that the filter should hide", str(unfit)))
    return flaws


def _fits(request: Request, item_id: str, catalogue: CatalogueItems) -> bool:
    category = catalogue.get(item_id, ("", None))[1]
    is_listed = request.only is None or item_id in request.only
    return is_listed and item_id not in request.exclude and request.category in (None, category)


def _about(body: Body) -> Body:
    found: Body = body.get("whereupon", body)
    return found


def _ranked(body: Body) -> list[tuple[str, str, float]]:
    """Item id, title and probability, best first."""
    if "choices" in body:
        choices = sorted(body["choices"], key=lambda choice: int(choice["index"]))
        return [(choice["item_id"], choice["text"], choice["probability"]) for choice in choices]
    rows = sorted(body["data"], key=lambda row: int(row["rank"]))
    return [(row["item_id"], row["title"], row["probability"]) for row in rows]
