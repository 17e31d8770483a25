"""A small collector of OpenTelemetry's traces, over HTTP or gRPC."""

import contextlib
import gzip
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Collector:
    """What was received at `url`: spans as OTLP has them."""

    url: str = ""
    spans: list[Any] = field(default_factory=list)

    def keep(self, request: Any) -> None:
        """Add the spans of an ExportTraceServiceRequest."""
        for resource in request.resource_spans:
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]

    def trace(self, trace_id: str, root: str, patience_s: float = 30.0) -> list[Any]:
        """The spans of a trace, once the one called `root` is there: parts of a trace are sent as they end."""
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            found = [span for span in self.spans if span.trace_id.hex() == trace_id]
            if any(span.name == root for span in found):
                return found
            time.sleep(0.1)
        raise AssertionError(f"no span {root!r} came within {patience_s} s, but {[span.name for span in found]}")


@contextlib.contextmanager
def collecting_by_http() -> Iterator[Collector]:
    """A collector that listens until the block is left."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                sent = gzip.decompress(sent)
            collector.keep(ExportTraceServiceRequest.FromString(sent))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *said: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector.url = f"http://127.0.0.1:{server.server_port}/v1/traces"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def collecting_by_grpc() -> Iterator[Collector]:
    """A collector that listens until the block is left."""
    import grpc
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

    collector = Collector()

    class Servicer(trace_service_pb2_grpc.TraceServiceServicer):  # type: ignore[misc]  # it has no types
        def Export(self, request: Any, context: Any) -> Any:
            collector.keep(request)
            return trace_service_pb2.ExportTraceServiceResponse()

    with ThreadPoolExecutor(1) as threads:
        server = grpc.server(threads)
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Servicer(), server)
        collector.url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        try:
            yield collector
        finally:
            server.stop(grace=None).wait()
