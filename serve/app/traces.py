"""Spans of OpenTelemetry: of a request, of its steps, and vLLM's own of each question to the model, all in one trace.

vLLM sets up where they are sent, see `serve.traces`. Without that setting, this module does nothing. No span names
users, places or items. Routes are named by their patterns, and neither texts nor messages of errors become attributes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_TRACER = trace.get_tracer("whereupon")
_HEADERS = TraceContextTextMapPropagator()  # `traceparent` and `tracestate`, W3C Trace Context
# An error's message may name a user.
_QUIET: Any = {"record_exception": False, "set_status_on_exception": False}


@contextmanager
def step(name: str, **attributes: str | int | bool) -> Iterator[trace.Span]:
    """A span around a step of the current request; where the step fails, it says by which kind of error."""
    with _TRACER.start_as_current_span(name, attributes=_named(attributes), **_QUIET) as span:
        try:
            yield span
        except BaseException as error:
            span.set_attribute("error.type", type(error).__name__)
            raise


def note(span: trace.Span, **attributes: str | int | bool) -> None:
    """Add what a step has found, as `whereupon.NAME`."""
    span.set_attributes(_named(attributes))


class Traced:
    """Puts a span around each request below /v1, as a part of the trace that its headers name."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):  # neither looks at health nor at metrics
            await self.app(scope, receive, send)
            return
        method = scope["method"]
        caller = _HEADERS.extract({name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]})
        with _TRACER.start_as_current_span(method, caller, trace.SpanKind.SERVER, **_QUIET) as span:
            span.set_attribute("http.request.method", method)

            async def answer(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= 500:
                        span.set_status(trace.StatusCode.ERROR)
                await send(message)

            try:
                await self.app(scope, receive, answer)
            finally:
                if pattern := getattr(scope.get("route"), "path", None):
                    span.update_name(f"{method} {pattern}")
                    span.set_attribute("http.route", pattern)


class TracedClient:
    """vLLM's `EngineClient`, whose spans are put below the current one."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def generate(self, prompt: Any, sampling_params: Any, request_id: str) -> AsyncGenerator[Any, None]:
        """See `decode.vllm_engine.Client`."""
        headers: dict[str, str] = {}
        _HEADERS.inject(headers)
        found: AsyncGenerator[Any, None] = self.client.generate(
            prompt, sampling_params, request_id, trace_headers=headers
        )
        return found


def _named(attributes: dict[str, str | int | bool]) -> dict[str, str | int | bool]:
    return {f"whereupon.{name}": value for name, value in attributes.items()}
