"""Stands in for vLLM where only the launcher is tested: it answers GET /health, and has a child that no SIGTERM ends.

`python fake_vllm.py PORT MODE`; modes: "" answers, "slow" never does, "stubborn" answers and ignores SIGTERM, "broken"
ends with a traceback, "refused" ends with an error of ours, "routeless" has no routes of ours. Run by test_launch.py.
"""

import http.server
import signal
import subprocess
import sys
import time

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"


class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        known = ["/health"] if sys.argv[2] == "routeless" else ["/health", "/v1/catalogues"]
        self.send_response(200 if self.path in known else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    port, mode = int(sys.argv[1]), sys.argv[2]
    child = subprocess.Popen([sys.executable, "-c", DEAF], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()  # from here on it is deaf
    print("line of the log", flush=True)
    if mode == "routeless":
        for line in ("Failed to load plugin", "Traceback:", "ModuleNotFoundError: No module named 'whereupon.routes'"):
            print(f"(APIServer pid=1) ERROR 11-22 05:43:08 [__init__.py:72] {line}", flush=True)
    if mode == "broken":
        raise MemoryError("no room for weights")
    if mode == "refused":
        raise SystemExit("(APIServer) whereupon.errors.StoreError: The database is asleep; wake it.\nAPIServer ends.")
    if mode == "slow":
        time.sleep(600)
    if mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    http.server.HTTPServer(("127.0.0.1", port), Health).serve_forever()


if __name__ == "__main__":
    main()
