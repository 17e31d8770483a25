"""Which spans a request leaves, and what they do not say."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from whereupon.serve.launcher.command import server_environment
from whereupon.tests.serve.collector import Collector, collecting_by_grpc, collecting_by_http

pytestmark = pytest.mark.usefixtures("vllm_imported")
NOWHERE = "http://127.0.0.1:9/v1/traces"
CALLER = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
ASKED = {"user_id": "p00", "k": 2, "context": {"at": "2024-01-20T12:00:00", "weather": "rain, 18 C"}}


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Spans that have ended."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from whereupon.serve.app import traces

    kept, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    monkeypatch.setattr(traces, "_TRACER", provider.get_tracer("test"))
    return kept


def _called(spans: Sequence[Any], name: str) -> Any:
    (found,) = [span for span in spans if span.name == name]
    return found


def test_steps_and_questions_to_the_model_are_below_the_request_of_the_caller(start: Any, spans: Any) -> None:
    server = start(f"serve.traces={NOWHERE}")
    spans.clear()
    server.engine.trace_headers.clear()
    assert server.post("/v1/recommendations", json=ASKED, headers=CALLER).status_code == 200
    found = spans.get_finished_spans()
    request, search = _called(found, "POST /v1/recommendations"), _called(found, "search")
    assert {f"{span.context.trace_id:032x}" for span in found} == {CALLER["traceparent"].split("-")[1]}
    assert f"{request.parent.span_id:016x}" == CALLER["traceparent"].split("-")[2]
    assert _called(found, "prompt").parent.span_id == search.parent.span_id == request.context.span_id
    assert _called(found, "rankers").parent.span_id == search.context.span_id
    assert request.attributes["http.response.status_code"] == 200
    assert search.attributes["whereupon.rounds"] > 0
    below = f"00-{search.context.trace_id:032x}-{search.context.span_id:016x}-01"
    assert {headers["traceparent"] for headers in server.engine.trace_headers} == {below}


def test_spans_say_neither_who_was_asked_about_nor_what_was_answered(start: Any, spans: Any) -> None:
    server = start(f"serve.traces={NOWHERE}")
    spans.clear()
    assert server.post("/v1/recommendations", json=ASKED).status_code == 200
    assert server.post("/v1/recommendations", json=ASKED | {"user_id": "Waldemar"}).status_code == 404
    assert server.get("/v1/events/Waldemar").status_code == 200
    found = spans.get_finished_spans()
    assert {"POST /v1/recommendations", "GET /v1/events/{user_id:anything}"} <= {span.name for span in found}
    assert [span for span in found if span.attributes.get("error.type") == "UnknownUserError"]
    said = " ".join(span.to_json() for span in found)
    assert "Waldemar" not in said
    assert "p00" not in said
    assert "rain" not in said


def test_health_is_looked_at_without_a_trace(start: Any, spans: Any) -> None:
    server = start(f"serve.traces={NOWHERE}")
    spans.clear()
    assert server.get("/health").status_code == 200
    assert spans.get_finished_spans() == ()


def test_server_without_a_collector_traces_nothing(start: Any, spans: Any) -> None:
    server = start()
    assert server.post("/v1/recommendations", json=ASKED, headers=CALLER).status_code == 200
    assert "POST /v1/recommendations" not in {span.name for span in spans.get_finished_spans()}
    assert server.engine.trace_headers == []


@pytest.mark.parametrize("collecting", [collecting_by_http, collecting_by_grpc])
def test_spans_reach_a_collector_by_http_and_by_grpc(
    start: Any, monkeypatch: pytest.MonkeyPatch, collecting: Callable[[], AbstractContextManager[Collector]]
) -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from vllm.tracing.otel import get_span_exporter

    from whereupon.serve.app import traces

    with collecting() as collector:
        server = start(f"serve.traces={collector.url}")
        inherited = {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"}
        for name, value in server_environment(server.config.serve, Path("serve.json"), inherited).items():
            monkeypatch.setenv(name, value)
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(get_span_exporter(collector.url)))
        monkeypatch.setattr(traces, "_TRACER", provider.get_tracer("test"))
        assert server.post("/v1/recommendations", json=ASKED, headers=CALLER).status_code == 200
        provider.shutdown()
        trace_id, root = CALLER["traceparent"].split("-")[1], "POST /v1/recommendations"
        found = collector.trace(trace_id, root)
    assert {span.name for span in found} == {root, "prompt", "search", "rankers"}
