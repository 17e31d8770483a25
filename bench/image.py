"""Does the image of examples/production/Dockerfile build, and does a server in it answer?

    make bench-image [ARGS="--root FOLDER"]

With podman and the base image on this machine, podman builds the image and runs it. Otherwise the steps of the
Dockerfile are run one by one in the Debian of --root by chroot, which needs root's rights; an empty folder gets that
Debian from debootstrap first, and one in which the last step was done before is taken as built. IMAGE_BIND names files
and folders of this machine, separated by colons, that the Debian sees read-only at the same paths, such as packages.

Then, as the image's user: a tiny town is prepared, a tiny model is fine-tuned and served, and a client asks for a list.
Writes bench/results/image.json.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from record import bar, record

from whereupon.tests import conftest

ROOT: Final = Path(__file__).parents[1]
DOCKERFILE: Final = ROOT / "examples" / "production" / "Dockerfile"
NAME: Final = "whereupon-check"
BUILT: Final = "etc/whereupon-image-built"
SETTINGS: Final = ["run=/data/run", "finetune.epochs=0.1"]
SERVED: Final = ["serve.port=0", "serve.kv_cache_gib=0.125", "serve.start_timeout_s=3000", "serve.max_wait_s=600"]
ASKED: Final = {"user_id": "p00", "k": 3}
# chroot in a mount namespace of its own: nothing stays mounted, and the program keeps the process id.
INSIDE: Final = """
root=$1; shift; bound=$1; shift
mount -t proc proc "$root/proc"; mount --rbind /dev "$root/dev"; mount --bind -o ro /sys "$root/sys"
for path in ${bound//:/ }; do
  if [ -d "$path" ]; then mkdir -p "$root$path"; else mkdir -p "$root$(dirname "$path")"; touch "$root$path"; fi
  mount --bind -o ro "$path" "$root$path"
done
exec chroot "$@"
"""


@dataclass
class Recipe:
    """What a Dockerfile says. `steps`: pairs of an instruction and its text, for RUN and COPY."""

    base: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    steps: list[tuple[str, str]] = field(default_factory=list)
    user: str = "root"
    folder: str = "/"
    entrypoint: list[str] = field(default_factory=list)


def main() -> int:
    """Build, serve, ask; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT / "runs" / "image", help="folder of the Debian")
    args = parser.parse_args()
    recipe = read_recipe(DOCKERFILE.read_text(encoding="utf-8"))
    was_built, started = (args.root / BUILT).exists(), time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        town = tiny_town(Path(scratch) / "town")
        if _has_podman(recipe.base):
            how, inside = "podman", _with_podman(town)
        else:
            how, inside = "chroot", _with_chroot(recipe, args.root.resolve(), town)
        built_s = time.monotonic() - started
        verbs = [_verb(inside, verb) for verb in ("prepare", "finetune")]
        found = _served(inside)
    bars = [
        bar("verbs that end well in the image: prepare, finetune", sum(verbs), "2", sum(verbs) == 2),
        bar("items of an answer of the server in it", len(found["items"]), str(ASKED["k"]),
            len(found["items"]) == ASKED["k"]),
        bar("status of /ready", found["ready"], "200", found["ready"] == 200),
        bar("exit status after SIGTERM", found["exit"], "0", found["exit"] == 0),
    ]  # fmt: skip
    return record("image", 5, bars, how=how, steps_done_before=was_built and how == "chroot", build_seconds=built_s,
                  start_seconds=found["start_s"])  # fmt: skip


def read_recipe(text: str) -> Recipe:
    """The instructions of a Dockerfile that this bench runs; the others only say how it is started elsewhere."""
    recipe = Recipe()
    lines = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    for kind, _, rest in (line.partition(" ") for line in lines if line):
        if kind in ("ARG", "ENV"):
            name, _, value = rest.partition("=")
            recipe.environment[name] = value.strip('"').replace("$PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        elif kind in ("RUN", "COPY"):
            recipe.steps.append((kind, rest))
        elif kind == "ENTRYPOINT":
            recipe.entrypoint = json.loads(rest)
        elif kind in ("FROM", "USER", "WORKDIR"):
            setattr(recipe, {"FROM": "base", "USER": "user", "WORKDIR": "folder"}[kind], rest)
    return recipe


def tiny_town(folder: Path) -> Path:
    """A folder with town.yaml, its tables and a random model, with the paths that it has in the image."""
    make_town = inspect.unwrap(conftest._make_town)(inspect.unwrap(conftest._make_model)())
    config: Path = make_town(folder, people=4, days=12, head_dim=32)
    config.write_text(config.read_text(encoding="utf-8").replace(str(folder), "/data"), encoding="utf-8")
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)  # the image's user writes the run folder beside it
    return folder


Inside = Callable[[list[str]], list[str]]
"""The command line that runs `whereupon ARGUMENTS` in the image, as its user."""


def _has_podman(base: str) -> bool:
    if not shutil.which("podman"):
        return False
    return subprocess.run(["podman", "image", "exists", base], check=False).returncode == 0


def _with_podman(town: Path) -> Inside:
    _run("podman", "build", "--file", str(DOCKERFILE), "--tag", NAME, str(ROOT))
    return lambda arguments: ["podman", "run", "--rm", "--network=host", f"--volume={town}:/data", NAME, *arguments]


def _with_chroot(recipe: Recipe, root: Path, town: Path) -> Inside:
    """Build by the recipe's steps where that was not done, and put the town at its place."""
    if not (root / "etc" / "debian_version").exists():
        root.mkdir(parents=True, exist_ok=True)
        _run("debootstrap", "--variant=minbase", recipe.base.partition(":")[2].removesuffix("-slim"), str(root))
    for name in ("resolv.conf", "hosts"):
        shutil.copy(Path("/etc") / name, root / "etc" / name)
    if not (root / BUILT).exists():
        for kind, step in recipe.steps:
            print(f"{kind} {step}", flush=True)
            if kind == "COPY":
                _copy_repository(root / step.split()[-1].lstrip("/"))
            else:
                _run(*_chrooted(root, recipe, "root", ["bash", "-ec", step]))
        (root / BUILT).touch()
    data = root / recipe.folder.lstrip("/")
    shutil.rmtree(data)
    shutil.copytree(town, data)
    data.chmod(0o777)
    return lambda arguments: _chrooted(root, recipe, recipe.user, [*recipe.entrypoint, *arguments])


def _chrooted(root: Path, recipe: Recipe, user: str, command: list[str]) -> list[str]:
    home = "/root" if user == "root" else f"/home/{user}"
    passed = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name.endswith("_proxy")}
    made = {"DEBIAN_FRONTEND": "noninteractive", "HOME": home, **passed, **recipe.environment}
    variables = [f"{name}={value}" for name, value in made.items()]
    there = ["bash", "-ec", 'cd "$0" 2>/dev/null || cd /; exec "$@"', recipe.folder, *command]
    return ["unshare", "--mount", "bash", "-ec", INSIDE, "inside", str(root), os.environ.get("IMAGE_BIND", ""),
            f"--userspec={user}", str(root), "env", "-i", *variables, *there]  # fmt: skip


def _copy_repository(to: Path) -> None:
    """The files that git knows, as a clone has them."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    for name in listed.split("\0"):
        if name and (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, to / name)


def _verb(inside: Inside, verb: str) -> bool:
    sets = [part for setting in SETTINGS for part in ("--set", setting)]
    return subprocess.run(inside([verb, "town.yaml", *sets]), check=False).returncode == 0


def _served(inside: Inside) -> dict[str, Any]:
    """Start the server, ask it once, and stop it."""
    started = time.monotonic()
    sets = [part for setting in (*SETTINGS, *SERVED) for part in ("--set", setting)]
    with subprocess.Popen(inside(["serve", "town.yaml", "--json", *sets]), stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            start_s = time.monotonic() - started
            if not line:
                raise SystemExit("The server in the image ended before it answered; see run/serve.log in its /data.")
            url = json.loads(line)["url"]
            with urllib.request.urlopen(f"{url}/ready", timeout=60) as answer:
                ready = answer.status
            request = urllib.request.Request(
                f"{url}/v1/recommendations", json.dumps(ASKED).encode(), {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=600) as answer:
                items = json.load(answer)["data"]
            server.send_signal(signal.SIGTERM)
            return {"start_s": start_s, "ready": ready, "items": items, "exit": server.wait(timeout=120)}
        finally:
            server.kill()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, cwd=ROOT)


if __name__ == "__main__":
    sys.exit(main())
