"""Rankers on disk: a folder for each, with what was learnt (safetensors) and what from (JSON); and stacks of them.

The JSON is written last and says what the other file must be like, so that a ranker is complete or refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..errors import DataError, first_line
from ..files import atomic_path, read_object, sha256_file, versions, write_json
from ..histories import Histories
from ..histories.candidates import EvaluatedSplit
from .families import FAMILIES
from .gate import Gate
from .protocol import Arrays, Fitted, UnfitDataError
from .settings import BaselineName
from .stack import Stack, StackRecipe

FORMAT: Final = 4
"""Of what rankers learn and keep. It goes up where a family learns something else under the same settings."""
_RECORD, _ARRAYS = "ranker.json", "arrays.safetensors"
_STACK, _GATE = "stack.json", "gate.safetensors"


@dataclass(frozen=True)
class SavedRanker:
    """A ranker as it was fitted, by which family, with which settings and seed, and for events of which split."""

    name: BaselineName
    settings: Mapping[str, Any]
    split: EvaluatedSplit
    seed: int
    ranker: Fitted


def save_ranker(folder: Path, saved: SavedRanker, histories: Histories) -> None:
    """Write a ranker that was fitted on these histories, in place of any other in the folder."""
    from safetensors.numpy import save_file

    (folder / _RECORD).unlink(missing_ok=True)
    record = {
        "format": FORMAT, "family": saved.name, "settings": dict(saved.settings), "split": saved.split,
        "seed": saved.seed, "data_hash": histories.data_hash, "arrays": None, "versions": versions(),
    }  # fmt: skip
    if arrays := saved.ranker.arrays():
        with atomic_path(folder / _ARRAYS) as path:
            # The format takes an array's memory as it lies.
            save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
        record["arrays"] = sha256_file(folder / _ARRAYS)
    write_json(folder / _RECORD, record)


def read_ranker(folder: Path, histories: Histories) -> SavedRanker:
    """The ranker that `save_ranker` wrote; it answers as it did.

    Raises:
        DataError: there is none, it was fitted on other histories, or a file is damaged. UnfitDataError: a package that
            it needs is missing.
    """
    record = read_object(folder / _RECORD)
    if record.get("format") != FORMAT or record.get("family") not in FAMILIES:
        raise DataError(f"{folder} holds a ranker of another version of whereupon; fit it again.")
    if record.get("data_hash") != histories.data_hash:
        raise DataError(f"The ranker in {folder} was fitted on other histories than those of this run; fit it again.")
    try:
        name, settings, split, seed = (record[field] for field in ("family", "settings", "split", "seed"))
        ranker = FAMILIES[name].restore(settings, _read_arrays(folder, record["arrays"]), histories, split)
    except UnfitDataError:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError) as error:  # RuntimeError: torch, of weights of other shapes
        raise DataError(f"The ranker in {folder} is incomplete ({first_line(error)}); fit it again.") from None
    return SavedRanker(name, settings, split, seed, ranker)


def _read_arrays(folder: Path, sha256: str | None) -> Arrays:
    if sha256 is None:
        return {}
    from safetensors.numpy import load_file

    path = folder / _ARRAYS
    if not path.is_file() or sha256_file(path) != sha256:
        raise DataError(f"{path} is missing or damaged; fit the ranker again.")
    arrays: Arrays = load_file(path)
    return arrays


def save_stack(folder: Path, stack: Stack, histories: Histories, seed: int) -> None:
    """Write a stack that was fitted on these histories, in place of any other in the folder, whole or not at all."""
    with atomic_path(folder) as unfinished:
        unfinished.mkdir()
        _write_stack(unfinished, stack, histories, seed)


def _write_stack(folder: Path, stack: Stack, histories: Histories, seed: int) -> None:
    from safetensors.numpy import save_file

    written: dict[int, str] = {}
    for (part, name), ranker in stack.rankers.items():
        if id(ranker) not in written:
            written[id(ranker)] = f"{len(written):02}"
            assert isinstance(ranker, Fitted)
            one = SavedRanker(name, stack.recipe.members(part)[name].settings, stack.split, seed, ranker)
            save_ranker(folder / written[id(ranker)], one, histories)
    with atomic_path(folder / _GATE) as path:
        save_file({name: np.ascontiguousarray(array) for name, array in stack.gate.arrays().items()}, path)
    where = [[part, name, written[id(ranker)]] for (part, name), ranker in stack.rankers.items()]
    write_json(folder / _STACK, {
        "format": FORMAT, "recipe": stack.recipe.as_json(), "rankers": where, "split": stack.split, "seed": seed,
        "gate": sha256_file(folder / _GATE), "data_hash": histories.data_hash, "versions": versions(),
    })  # fmt: skip


def read_stack(folder: Path, histories: Histories) -> Stack:
    """The stack that `save_stack` wrote.

    Raises:
        DataError: there is none, it was fitted on other histories, or a file is damaged. UnfitDataError: a package that
            it needs is missing.
    """
    from safetensors.numpy import load_file

    again = "run `whereupon priors` again."
    try:
        record = read_object(folder / _STACK)
    except DataError:
        raise DataError(f"There are no fitted rankers in {folder}: {again}") from None
    if record.get("format") != FORMAT or record.get("data_hash") != histories.data_hash:
        raise DataError(f"The rankers in {folder} were fitted to other histories or by another version: {again}")
    if not (folder / _GATE).is_file() or sha256_file(folder / _GATE) != record["gate"]:
        raise DataError(f"{folder / _GATE} is missing or damaged: {again}")
    try:
        read = {
            name: read_ranker(folder / name, histories).ranker for name in {where for *_, where in record["rankers"]}
        }
    except UnfitDataError:
        raise
    except DataError as error:
        raise DataError(f"A ranker in {folder} cannot be read ({first_line(error).rstrip('.')}): {again}") from None
    rankers = {(part, name): read[where] for part, name, where in record["rankers"]}
    return Stack(StackRecipe.of_json(record["recipe"]), rankers, Gate.of(load_file(folder / _GATE)), record["split"])
