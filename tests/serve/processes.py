"""Starting `whereupon serve` as a user does, and seeing what is left of it afterwards."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MARK = "WHEREUPON_TEST_MARK"
# No server asks for one that a shell happens to have.
KEYS = ("WHEREUPON_API_KEY", "WHEREUPON_ADMIN_KEY", "VLLM_API_KEY")
# What `nohup` or a script's `&` lets its children ignore, they must obey again.
DEFAULT_SIGNALS = ["env", "--default-signal=HUP,INT,TERM"]
# Small enough for a machine that does other things too; patient enough for one that does many.
SETTINGS = [
    "serve.port=0", "serve.kv_cache_gib=0.125", "serve.start_timeout_s=3600", "serve.max_wait_s=3600",
    "serve.request_timeout_s=3600",
]  # fmt: skip


@dataclass(frozen=True)
class Server:
    """A server that answers. `mark` stands in the environment of its processes; all but the launcher are of `group`."""

    url: str
    model: str
    launcher: subprocess.Popen[str]
    mark: str
    group: int
    run: Path

    def processes(self) -> list[int]:
        """All that run."""
        return processes(self.mark, self.group)

    def left_after(self, patience_s: float) -> list[str]:
        """The command lines of those that still run after a while."""
        return left_after(self.mark, patience_s, self.group)

    def stop(self, how: signal.Signals) -> int:
        """The exit code after a signal to the launcher."""
        self.launcher.send_signal(how)
        return self.launcher.wait(timeout=120)


@contextlib.contextmanager
def serving(
    config: Path, run: Path, settings: Sequence[str] = (), environment: Mapping[str, str] | None = None,
    program: Sequence[str] = ("-m", "whereupon.cli"),
) -> Iterator[Server]:  # fmt: skip
    """`whereupon serve --json`, ready, in a run folder of its own; whatever is left at the end is killed."""
    mark = f"{run}-{time.monotonic_ns()}"
    sets = [part for setting in (f"run={run}", *SETTINGS, *settings) for part in ("--set", setting)]
    command = [*DEFAULT_SIGNALS, sys.executable, *program, "serve", str(config), "--json", *sets]
    made = os.environ | {MARK: mark, "HF_HUB_OFFLINE": "1", **dict.fromkeys(KEYS, ""), **(environment or {})}
    launcher = subprocess.Popen(command, env=made, stdout=subprocess.PIPE, text=True)
    assert launcher.stdout is not None
    group: int | None = None
    try:
        line = launcher.stdout.readline()
        assert line, f"it ended with {launcher.wait()} before it answered; its log is {run / 'serve.log'}"
        said = json.loads(line)
        assert said["pid"] == launcher.pid
        (group,) = {os.getpgid(pid) for pid in processes(mark) if pid != launcher.pid}
        yield Server(said["url"], said["model"], launcher, mark, group, run)
    finally:
        launcher.kill()
        launcher.wait()
        launcher.stdout.close()
        for pid in processes(mark, group):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def processes(mark: str, group: int | None = None) -> list[int]:
    """Processes whose environment holds the mark, and those of a group, but for those that only wait to be reaped.

    vLLM's engine writes its title over its environment, so it is known by its group alone.
    """
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                state, _, its_group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
                is_marked = f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0")
                if state != "Z" and (is_marked or int(its_group) == group):
                    found.append(int(folder.name))
    return found


def left_after(mark: str, patience_s: float, group: int | None = None) -> list[str]:
    """The command lines of processes that still run after a while."""
    deadline = time.monotonic() + patience_s
    while (left := processes(mark, group)) and time.monotonic() < deadline:
        time.sleep(0.05)
    said = []
    for pid in left:
        with contextlib.suppress(OSError):
            said.append(Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "))
    return said
