"""What the preference stage reads: windows of training events, with the titles that the model ranks highest for each.

The adapter that the training starts from computes them once; they are a data set in the run folder, with the
log-probabilities that it gave. A row is a text with branches behind it (see `preference`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import from_numpy

from .. import __version__
from ..arrays import Float32, Int32, Int64
from ..catalogue import Trie
from ..console import tracked
from ..decode.transformers_engine import TransformersEngine
from ..decode.windows import WindowAnswers, answer_windows, encode_queries, windows_with_targets
from ..errors import DataError
from ..files import sha256_text
from ..histories import Histories
from ..prompts import EncodedWindow, HistoryText, PromptEncoder, Windows
from .branches import branches_of
from .dataset import EXAMPLES, Examples, lists_of, numbers_of, opened, written
from .on_top import trie_fingerprint
from .preference import PreferenceBatch
from .settings import PreferenceSettings

_LISTS: Final = {
    **dict.fromkeys(("tokens", "place", "seen", "branch", "position", "node", "edge", "owner"), "int32"),
    "reference": "float32",
}


@dataclass(frozen=True)
class PreferenceExample:
    """One row: T tokens with their `place_T`, `seen_T` and `branch_T`, P decisions of the candidates `owner_P` (e * G +
    g), and the candidates' log-probabilities at the start, `reference_EG`. See `PreferenceBatch`."""

    tokens_L: Int32
    place_T: Int32
    seen_T: Int32
    branch_T: Int32
    position_P: Int64
    node_P: Int64
    edge_P: Int64
    owner_P: Int64
    reference_EG: Float32
    end: int


@dataclass(frozen=True)
class PreferenceExamples(Examples):
    """As `Examples`, of which a title is an event with its candidates."""

    num_candidates: int = 0

    def __getitem__(self, windows: Int64) -> PreferenceBatch:  # type: ignore[override]
        assert self.trie is not None
        return collate_preferences(self.read(windows), self.trie)

    def read(self, windows: Int64) -> list[PreferenceExample]:  # type: ignore[override]
        columns = lists_of(self.dataset, _LISTS, windows)
        examples = []
        for *row, end in zip(*columns, self.end_W[windows].tolist(), strict=True):
            tokens_L, place_T, seen_T, branch_T, *decisions, reference_X = row
            position_P, node_P, edge_P, owner_P = (part.astype(np.int64) for part in decisions)
            examples.append(PreferenceExample(
                tokens_L, place_T, seen_T, branch_T, position_P, node_P, edge_P, owner_P,
                reference_X.reshape(-1, self.num_candidates), end,
            ))  # fmt: skip
        return examples


def open_preferences(
    run: Path, histories: Histories, encoder: PromptEncoder, engine: TransformersEngine, settings: PreferenceSettings,
    seed: int, key: Any,
) -> PreferenceExamples:  # fmt: skip
    """The rows of a run, written if they are not there; `key` says what the engine's answers follow from, as JSON.

    One process calls it first, see `main_process_first`. Raises DataError for a catalogue of one item, or without
    training events that something comes before.
    """
    trie, query = encoder.catalogue.trie, settings.model_dump(mode="json", exclude={"beta", "orders"})
    what = [__version__, histories.data_hash, trie_fingerprint(trie), query, seed, key]
    folder = run / EXAMPLES / sha256_text(json.dumps(what, sort_keys=True))[:16]
    num = min(settings.negatives, trie.num_items - 1)
    if not num:
        raise DataError("The catalogue has one item, so there is nothing that it could be preferred to.")
    if (dataset := opened(folder)) is None:
        dataset = written(folder, _LISTS, map(_row, make_preferences(histories, encoder, engine, settings, seed)))
    return PreferenceExamples(dataset, *numbers_of(dataset), trie, num_candidates=num + 1)


def make_preferences(
    histories: Histories, encoder: PromptEncoder, engine: TransformersEngine, settings: PreferenceSettings, seed: int
) -> Iterator[PreferenceExample]:  # fmt: skip
    """Windows of training events in random order, as many as hold `settings.events`; each event once.

    Its negatives are the items that the engine gives the highest probability, without the true one.
    """
    text, windows, wanted_N = _query_windows(histories, encoder, settings, seed)
    trie = encoder.catalogue.trie
    num = min(settings.negatives, trie.num_items - 1)
    for w in tracked(range(len(windows)), "ranking what is not preferred"):
        one = windows.select(np.arange(len(windows)) == w)
        (answers,) = answer_windows(engine, text, one, wanted_N, num + 1)
        item_E = text.item_idx_N[answers.event_Q].astype(np.int64)
        item_EG, reference_EG = _candidates(answers, item_E, num)
        (encoded,) = encode_queries(text, one)
        start_E = encoded.title_start_V[answers.event_Q - one.start_W[0]]
        branched = _Branched(encoded, trie, int(one.end_W[0]))
        for some_E in branched.parts(item_EG):
            yield branched.example(start_E[some_E], item_EG[some_E], reference_EG[some_E])


def _query_windows(
    histories: Histories, encoder: PromptEncoder, settings: PreferenceSettings, seed: int
) -> tuple[HistoryText, Windows, NDArray[np.bool_]]:
    """The text of the training events, the chosen windows, and bool [N], which events are learnt from."""
    events = histories.events.filter(histories.events["split"] == "train")
    text = encoder.text(events, len(histories.user_ids))
    wanted_N = np.arange(events.height) > text.offset_U1[events["user_idx"].to_numpy()]
    windows = windows_with_targets(text.windows, wanted_N)
    if not len(windows):
        raise DataError("There are no training events with an earlier one of the same user: see histories.split.")
    count_N1 = np.concatenate([[0], np.cumsum(wanted_N)])
    events_W = count_N1[windows.end_W] - count_N1[windows.target_W]
    order = np.random.default_rng(seed).permutation(len(windows))
    chosen = np.zeros(len(windows), bool)
    chosen[order[np.cumsum(events_W[order]) - events_W[order] < settings.events]] = True
    return text, windows.select(chosen), wanted_N


def _candidates(answers: WindowAnswers, item_E: Int64, num: int) -> tuple[Int64, Float32]:
    """int64 and float32 [E, G]: the true items and their `num` negatives, and the log-probabilities of all."""
    item_EK = np.stack([one.item_idx_K for one in answers.results])
    log_prob_EK = np.stack([one.log_prob_K for one in answers.results])
    # The true item goes to the end of its row, where it is in it; the last of the others goes where it is not.
    order_EK = np.argsort(item_EK == item_E[:, None], axis=1, kind="stable")[:, :num]
    found_EK, said_EK = (np.take_along_axis(of, order_EK, 1) for of in (item_EK, log_prob_EK))
    both = np.column_stack([item_E, found_EK]), np.column_stack([answers.log_prob_Q, said_EK])
    return both[0].astype(np.int64), both[1].astype(np.float32)


@dataclass(frozen=True)
class _Branched:
    """Makes the rows of one window."""

    window: EncodedWindow
    trie: Trie
    end: int

    def parts(self, item_EG: Int64) -> list[Int64]:
        """Which events make a row together: their branches have no more tokens than the text, or it is one event."""
        taken_E = self._depth(item_EG[:, 1:].ravel()).reshape(len(item_EG), -1).sum(1)
        part_E = (np.cumsum(taken_E) - 1) // max(1, len(self.window.tokens_L))
        return [np.flatnonzero(part_E == part) for part in np.unique(part_E).tolist()]

    def _depth(self, item_X: Int64) -> Int64:
        """int64 [X]: tokens of each title before its last decision."""
        owner_P, node_P, _ = self.trie.decisions(item_X)
        depth_X = np.zeros(len(item_X), np.int64)
        np.maximum.at(depth_X, owner_P, self.trie.depth_B[node_P])
        return depth_X

    def example(self, start_E: Int64, item_EG: Int64, reference_EG: Float32) -> PreferenceExample:
        """A row of some events, whose titles begin at the tokens `start_E`."""
        trie, length, num = self.trie, len(self.window.tokens_L), item_EG.shape[1]
        owner_P, node_P, edge_P = trie.decisions(item_EG.ravel())
        depth_X = self._depth(item_EG.ravel())
        depth_X[::num] = 0  # true items stand in the text
        start_X = np.repeat(start_E, num)
        begin_X = length + np.cumsum(depth_X) - depth_X
        owner_T = np.repeat(np.arange(len(depth_X)), depth_X)
        within_T = length + np.arange(len(owner_T)) - begin_X[owner_T]
        tokens_T = trie.tokens_at(trie.row_of_item_I[item_EG.ravel()[owner_T]], within_T)
        text = np.arange(length)
        # The first token of a title is predicted by the text's last one, and others by those before them.
        depth_P = trie.depth_B[node_P].astype(np.int64)
        in_text_P = (owner_P % num == 0) | (depth_P == 0)
        position_P = np.where(in_text_P, start_X[owner_P], begin_X[owner_P]) + depth_P - 1
        return PreferenceExample(
            np.concatenate([self.window.tokens_L, tokens_T]).astype(np.int32),
            np.concatenate([text, start_X[owner_T] + within_T]).astype(np.int32),
            np.concatenate([text + 1, start_X[owner_T]]).astype(np.int32),
            np.concatenate([np.zeros(length, np.int64), owner_T + 1]).astype(np.int32),
            position_P, node_P, edge_P, owner_P, reference_EG, self.end,
        )  # fmt: skip


def collate_preferences(examples: list[PreferenceExample], trie: Trie) -> PreferenceBatch:
    """Pad on the right; events are numbered through. All tensors are on the CPU."""
    length_R = np.array([len(one.tokens_L) for one in examples])
    width, is_there = int(length_R.max()), np.arange(int(length_R.max())) < length_R[:, None]

    def padded(parts: list[Int32], pad: int) -> Int64:
        whole = np.full(is_there.shape, pad, np.int64)
        whole[is_there] = np.concatenate(parts)
        return whole

    before_R = np.cumsum([0, *(one.reference_EG.size for one in examples)])
    owner_P = np.concatenate([before + one.owner_P for before, one in zip(before_R, examples, strict=False)])
    node_P, edge_P = (np.concatenate([getattr(one, name) for one in examples]) for name in ("node_P", "edge_P"))
    reference_EG = np.concatenate([one.reference_EG for one in examples])
    return PreferenceBatch(
        from_numpy(padded([one.tokens_L for one in examples], 0)),
        from_numpy(padded([one.place_T for one in examples], 0)),
        from_numpy(padded([one.seen_T for one in examples], 0)),
        from_numpy(padded([one.branch_T for one in examples], -1)),
        from_numpy(np.concatenate([row * width + one.position_P for row, one in enumerate(examples)])),
        from_numpy(owner_P),
        branches_of(trie, node_P, edge_P),
        from_numpy(reference_EG),
        len(reference_EG),
    )


def _row(one: PreferenceExample) -> dict[str, Any]:
    return {
        "tokens": one.tokens_L, "place": one.place_T, "seen": one.seen_T, "branch": one.branch_T,
        "position": one.position_P, "node": one.node_P, "edge": one.edge_P, "owner": one.owner_P,
        "reference": one.reference_EG.ravel(), "num_tokens": len(one.tokens_L), "num_decisions": len(one.position_P),
        "titles": len(one.reference_EG), "end": one.end,
    }  # fmt: skip
