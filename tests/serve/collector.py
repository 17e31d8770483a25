"""A small collector of OpenTelemetry's traces, over HTTP."""

import contextlib
import gzip
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Collector:
    """What was received at `url`: spans as OTLP has them."""

    url: str
    spans: list[Any] = field(default_factory=list)

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
def collecting() -> Iterator[Collector]:
    """A collector that listens until the block is left."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                sent = gzip.decompress(sent)
            for resource in ExportTraceServiceRequest.FromString(sent).resource_spans:
                collector.spans += [span for scope in resource.scope_spans for span in scope.spans]
            self.send_response(200)
            self.end_headers()

        def log_message(self, *said: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_port}/v1/traces")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()
