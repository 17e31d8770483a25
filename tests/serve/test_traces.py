"""What a collector of OpenTelemetry receives of a real server."""

import json
import secrets
import urllib.request

from whereupon.tests.serve.collector import Collector

ROOT = "POST /v1/recommendations"


def test_recommendation_is_one_trace_with_the_models_own_spans(server: str, collector: Collector) -> None:
    trace_id, caller = secrets.token_hex(16), secrets.token_hex(8)
    request = urllib.request.Request(
        f"{server}/v1/recommendations", json.dumps({"user_id": "p00", "k": 3}).encode(),
        {"Content-Type": "application/json", "traceparent": f"00-{trace_id}-{caller}-01"},
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert len(json.load(answer)["data"]) == 3
    spans = collector.trace(trace_id, ROOT)
    names = {span.span_id: span.name for span in spans}
    parents = {(span.name, names.get(span.parent_span_id)) for span in spans}
    assert parents == {
        (ROOT, None), ("prompt", ROOT), ("search", ROOT), ("rankers", "search"), ("llm_request", "search"),
    }  # fmt: skip
    assert {span.parent_span_id.hex() for span in spans if span.name == ROOT} == {caller}
    assert not [span for span in spans if b"p00" in span.SerializeToString()]
