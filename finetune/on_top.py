"""The prior at every decision of the training examples, computed once and memory-mapped.

Shapes: N = rows of the histories, D = decisions of all training events, J = their edges end to end, Q = questions of
one block, X = decisions of a block.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray

from .. import __version__
from ..arrays import Float32, Int32, Int64, ragged
from ..catalogue import Trie
from ..console import say, tracked
from ..decode.segments import Segments
from ..errors import DataError
from ..eval.stacking import stack_recipe
from ..files import atomic_path, read_object, sha256_text, write_json
from ..histories import Histories
from ..rankers.crossfit import NUM_FOLDS, cross_fitted
from ..rankers.pooling import Pools, SearchedCatalogue, change_of
from ..rankers.stack import BoundStack, Stack, fit_stack

if TYPE_CHECKING:
    from ..config import Config

_ROWS: Final = 256  # scored at once
_ARRAYS: Final = {"edge_J": np.int32, "log_mass_J": np.float32}


@dataclass(frozen=True)
class TrainingPrior:
    """The prior at the D decisions of training events.

    Those of row n are `first_N1[n]:first_N1[n + 1]` (int64, rows of the histories); `depth_D` int64 is how many tokens
    of the title stand before a decision. Its edges are the `count_D` (int64) from `begin_D` (int64) on of `edge_J`
    (int32, an edge of the trie) and `log_mass_J` (float32, of the prior mass below); `taken_D` int64 says which of them
    was taken. Edges without mass, and decisions with one edge, are left out. The arrays over J are memory-mapped.
    `key`: the fingerprint of all that it follows from.
    """

    first_N1: Int64
    depth_D: Int64
    begin_D: Int64
    count_D: Int64
    taken_D: Int64
    edge_J: Int32
    log_mass_J: Float32
    key: str

    def of_titles(self, row_V: Int64, title_start_V: Int64) -> tuple[Int64, Int64]:
        """Decisions of the titles of some rows, and the position of the token that predicts each, int64 [P]; a title
        begins at the token `title_start_V`."""
        owner_P, decision_P = ragged(self.first_N1[row_V], self.first_N1[row_V + 1] - self.first_N1[row_V])
        return decision_P, title_start_V[owner_P] - 1 + self.depth_D[decision_P]


def training_prior(
    folder: Path, key: str, histories: Histories, trie: Trie, fit: Callable[[Histories], Stack], seed: int
) -> TrainingPrior:  # fmt: skip
    """The prior of all training events of these histories, from `folder` if it is there under this key, else made.

    `fit` makes the stack of histories, for the valid split; it is called once for each fold of the users. A prior of
    another trie, which other titles or another tokenizer make, is made anew, too.
    """
    key = sha256_text(key + trie_fingerprint(trie))
    if (found := _read(folder, key)) is not None:
        return found
    say(f"prior of training events: the rankers are fitted {NUM_FOLDS} times, each time without a fifth of the users")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    row_N = np.flatnonzero(histories.split_N == 0).astype(np.int64)
    none = np.zeros(0, np.int64)
    parts = [_Block(none, none, none, none)]
    with (folder / "edge_J.bin").open("wb") as edges, (folder / "log_mass_J.bin").open("wb") as masses:
        for rows, bound in tracked(
            cross_fitted(histories, fit, row_N, seed), "prior of training events", total=NUM_FOLDS
        ):
            for start in range(0, len(rows), _ROWS):
                parts.append(_block(bound, trie, rows[start : start + _ROWS], edges, masses))
    num_N = np.zeros(len(histories.split_N), np.int64)
    owner_D = np.concatenate([part.row_D for part in parts])
    num_N += np.bincount(owner_D, minlength=len(num_N))
    # Rows were scored fold by fold; decisions are kept in the order of rows, their edges where they are.
    order_D = np.argsort(owner_D, kind="stable")
    count_D = np.concatenate([part.count_D for part in parts])
    begin_D = np.cumsum(count_D) - count_D
    _write(folder, key, {
        "first_N1": np.concatenate([np.zeros(1, np.int64), np.cumsum(num_N)]),
        "depth_D": np.concatenate([part.depth_D for part in parts])[order_D],
        "begin_D": begin_D[order_D], "count_D": count_D[order_D],
        "taken_D": np.concatenate([part.taken_D for part in parts])[order_D],
    })  # fmt: skip
    found = _read(folder, key)
    assert found is not None
    return found


@dataclass(frozen=True)
class _Block:
    """The decisions of some rows; see `TrainingPrior`."""

    row_D: Int64
    depth_D: Int64
    count_D: Int64
    taken_D: Int64


def _block(bound: BoundStack, trie: Trie, row_Q: Int64, edges: IO[bytes], masses: IO[bytes]) -> _Block:
    """Let a stack score some rows; edges and masses are appended to files."""
    item_Q = bound.histories.item_idx_N[row_Q].astype(np.int64)
    change = change_of(bound.masses(row_Q), SearchedCatalogue(trie, bound.share_I), Pools())
    owner_X, node_X, edge_X = trie.decisions(item_Q)
    stretches = Segments.of_edges(trie, node_X)
    is_new_X = change.is_new(item_Q)[owner_X]
    mass_J = np.zeros(stretches.num_elements)
    for part, pool in enumerate((change.again, change.new)):
        mine_X = is_new_X == bool(part)
        assert pool.prior is not None
        mass_J[stretches.spread(mine_X)] = pool.prior.masses(owner_X[mine_X], node_X[mine_X])
    taken_X = stretches.ptr_X1[:-1] + edge_X - trie.child_ptr_B1[node_X]
    kept_J = mass_J > 0
    kept_J[taken_X] = True
    open_X = stretches.total(kept_J) > 1 if len(node_X) else np.zeros(0, bool)
    kept_J &= stretches.spread(open_X)
    place_J = np.cumsum(kept_J) - 1
    edge_J = stretches.shifted(trie.child_ptr_B1[node_X])
    edge_J[kept_J].astype(np.int32).tofile(edges)
    np.log(np.maximum(mass_J[kept_J], np.finfo(np.float64).tiny)).astype(np.float32).tofile(masses)
    count_X = stretches.total(kept_J)[open_X].astype(np.int64) if len(node_X) else np.zeros(0, np.int64)
    taken_D = place_J[taken_X[open_X]] - (np.cumsum(count_X) - count_X)
    return _Block(row_Q[owner_X[open_X]], trie.depth_B[node_X[open_X]].astype(np.int64), count_X, taken_D)


def trie_fingerprint(trie: Trie) -> str:
    """Of what decisions and their edges depend on."""
    digest = hashlib.sha256()
    for array in (trie.token_P, trie.token_ptr_I1, trie.item_of_row_I):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _write(folder: Path, key: str, arrays: dict[str, NDArray[Any]]) -> None:
    from safetensors.numpy import save_file

    with atomic_path(folder / "decisions.safetensors") as path:
        save_file(arrays, path)
    write_json(folder / "prior.json", {"key": key})  # last: it says that all is there


def _read(folder: Path, key: str) -> TrainingPrior | None:
    """What was written under this key, if all of it is there."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        if read_object(folder / "prior.json").get("key") != key:
            return None
        known: dict[str, Any] = load_file(folder / "decisions.safetensors")
        mapped: dict[str, Any] = {
            name: np.memmap(folder / f"{name}.bin", dtype, "r") if known["count_D"].any() else np.zeros(0, dtype)
            for name, dtype in _ARRAYS.items()
        }
    except (DataError, OSError, ValueError, KeyError, SafetensorError):
        return None
    return TrainingPrior(**known, **mapped, key=key)


def on_top_of(
    config: Config, histories: Histories, trie: Trie, accelerator: Accelerator
) -> tuple[Stack, TrainingPrior]:
    """The stack for validation, and the prior of training events; what is missing is chosen and made."""
    repeats, seed = config.evaluate.repeats, config.seed
    with accelerator.main_process_first():  # one makes them, the others read what it wrote
        recipe = stack_recipe(config, histories, for_training=True)
        key = sha256_text(json.dumps([recipe.identity, histories.data_hash, repeats, seed, __version__]))
        fit = partial(fit_stack, recipe, split="valid", seed=seed, repeats=repeats)
        prior = training_prior(config.run / "priors" / "training", key, histories, trie, fit, seed)
    return fit(histories), prior
