"""The stack: a distribution of the next item by several rankers. It is the prior of the language model.

    p(i) = (1 - g) * again(i) + g * new(i)

`again` gives probability only to items that the user has chosen before, `new` only to the others, and the gate g is the
probability that the next item is a new one, given the user and the time. Each of the two is a log-linear pool (a
product of experts: Hinton, Neural Computation 14(8), 2002) of rankers: p(i) is proportional to exp(sum over rankers of
weight * what it says of i), with weights of at least 0 that are fitted to validation events (`selection`). The log-odds
of the gate are pooled likewise: those of `gate.Gate`, and those that rankers give to all new items together. Where that
is better on validation, there is no gate, and one pool of all items.

A ranker says log p where it is a distribution, and its score where it is not; the weight is then an inverse
temperature. What scores few items says log((1 - e) * share of the score + e * popularity).

A catalogue of at most `WHOLE` items is scored whole. Of a larger one only the items that some ranker names are; the
rest is as popularity has it, to the power of the sum of the weights, so that no item is impossible.

Shapes: Q = questions, I = items, C = what a ranker names, X = pairs of question and item, K = rankers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np

from ..arrays import Bool, Float32, Float64, Int64, ragged
from ..errors import DataError
from ..files import sha256_text
from ..histories import Histories
from ..histories.candidates import EvaluatedSplit, Repeats
from ..histories.questions import num_previous
from .families import FAMILIES
from .gate import Gate, fit_gate
from .popular import log_popular_shares, popular_shares
from .protocol import Dense, Ranker, Sparse
from .settings import BaselineName

WHOLE: Final = 20_000
"""Items of a catalogue that is scored whole: one float64 each for a question."""
_NAMED = 1_000  # of a larger catalogue: how many items of a dense ranker count, the best ones
_POPULAR = 1e-3  # the share of popularity in what a sparse ranker says
SURE: Final = 10.0
"""Log-odds beyond which nothing is believed."""

Part = Literal["again", "new", "gate"]
PARTS: Final[tuple[Part, ...]] = get_args(Part)


@dataclass(frozen=True)
class Says:
    """What a ranker says of Q questions: `dense_QI` of all items; or of C named ones and, with `rest_Q`, of the others.

    `key_C` int64 is question * I + item, ascending, and `log_C` what is said. Of an item that is not named,
    `rest_Q` + log share of popularity is said.
    """

    dense_QI: Float64 | Float32 | None
    key_C: Int64
    log_C: Float64
    rest_Q: Float64
    log_share_I: Float64
    is_log_prob: bool = True

    @classmethod
    def of(cls, answers: Dense | Sparse, row_Q: Int64, log_share_I: Float64, name: str = "") -> Says:
        """The scores of a ranker. Raises DataError: it has no distribution and the catalogue is too large."""
        num_items, none = len(log_share_I), np.zeros(0)
        if isinstance(answers, Sparse):
            scored = answers.scores(row_Q)
            total_Q = np.bincount(scored.query_C, scored.score_C, len(row_Q))
            keeps_Q = np.where(total_Q > 0, _POPULAR, 1.0)
            share_C = scored.score_C / np.maximum(total_Q, np.finfo(float).tiny)[scored.query_C]
            keep_C = keeps_Q[scored.query_C]
            log_C = np.log((1 - keep_C) * share_C + keep_C * np.exp(log_share_I[scored.item_C]))
            key_C = scored.query_C * num_items + scored.item_C
            order_C = np.argsort(key_C, kind="stable")
            return cls(None, key_C[order_C], log_C[order_C], np.log(keeps_Q), log_share_I)
        # A request without past events has no row, for which not every ranker has scores.
        score_QI = answers.scores(row_Q) if len(row_Q) else np.zeros((0, num_items))
        if num_items <= WHOLE:
            return cls(score_QI, np.zeros(0, np.int64), none, none, none, answers.is_log_prob)
        if not answers.is_log_prob:
            raise DataError(
                f"The ranker {name!r} scores without probabilities, which a stack can use for at most {WHOLE:,} items; "
                f"this catalogue has {num_items:,}: leave it out of priors."
            )
        best_QM = np.sort(np.argpartition(score_QI, -_NAMED, axis=1)[:, -_NAMED:], axis=1)
        log_QM = np.take_along_axis(score_QI, best_QM, axis=1).astype(np.float64)
        left_Q = np.log(np.maximum(1 - np.exp(log_QM).sum(axis=1), 1e-9))
        key_QM = np.arange(len(row_Q))[:, None] * num_items + best_QM
        return cls(None, key_QM.ravel(), log_QM.ravel(), left_Q, log_share_I)

    def at(self, query_X: Int64, item_X: Int64) -> Float64:
        """float64 [X]: what is said of one item each."""
        if self.dense_QI is not None:
            return self.dense_QI[query_X, item_X].astype(np.float64)
        rest_X = self.rest_Q[query_X] + self.log_share_I[item_X]
        if not len(self.key_C):
            return rest_X
        key_X = query_X * len(self.log_share_I) + item_X
        at_X = np.minimum(np.searchsorted(self.key_C, key_X), len(self.key_C) - 1)
        return np.where(self.key_C[at_X] == key_X, self.log_C[at_X], rest_X)

    def log_odds_new(self, num_queries: int, query_X: Int64, item_X: Int64) -> Float64:
        """float64 [Q]: log-odds of all items but the given ones of each question, at most `SURE` either way."""
        again_Q = np.bincount(query_X, np.exp(self.at(query_X, item_X)), num_queries).clip(1e-12, 1 - 1e-12)
        odds_Q: Float64 = np.log1p(-again_Q) - np.log(again_Q)
        return odds_Q.clip(-SURE, SURE)


@dataclass(frozen=True)
class PriorMasses:
    """What the stack says of Q questions; all flat, by question.

    `again_query_X`, `again_item_X` int64 and `again_mass_X` float64 are of the items chosen before, the other three of
    new ones; masses of a question are at most 1 in each. `rest_mass_Q` is what a new item that is not named has, times
    its popularity to the power `rest_power`; 0 where all are named. `log_odds_Q` float64 is the gate's.
    """

    again_query_X: Int64
    again_item_X: Int64
    again_mass_X: Float64
    new_query_X: Int64
    new_item_X: Int64
    new_mass_X: Float64
    rest_mass_Q: Float64
    rest_power: float
    log_odds_Q: Float64


@dataclass(frozen=True)
class Member:
    """Settings of a ranker of a stack, and its weight, above 0."""

    settings: Mapping[str, Any]
    weight: float


@dataclass(frozen=True)
class StackRecipe:
    """What a stack is made of: rankers by name, for items chosen before, for new ones, and for the gate between them.

    Without rankers for items chosen before there is no gate: those for new ones are for all. `history_weight` is that
    of the gate's own log-odds, `bias` is added to all.
    """

    again: Mapping[BaselineName, Member]
    new: Mapping[BaselineName, Member]
    gate: Mapping[BaselineName, Member]
    history_weight: float = 1.0
    bias: float = 0.0

    @property
    def gated(self) -> bool:
        """Whether there are two parts."""
        return bool(self.again)

    def members(self, part: Part) -> Mapping[BaselineName, Member]:
        """The rankers of one part."""
        members: Mapping[BaselineName, Member] = getattr(self, part)
        return members

    def as_json(self) -> dict[str, Any]:
        """For a file; see `of_json`."""
        parts: dict[str, Any] = {
            part: {
                name: {"settings": dict(one.settings), "weight": one.weight} for name, one in self.members(part).items()
            }
            for part in PARTS
        }
        return parts | {"history_weight": self.history_weight, "bias": self.bias}

    @classmethod
    def of_json(cls, found: Mapping[str, Any]) -> StackRecipe:
        """What `as_json` gave. Raises KeyError or TypeError for anything else."""
        again, new, gate = ({name: Member(**one) for name, one in found[part].items()} for part in PARTS)
        return cls(again, new, gate, found["history_weight"], found["bias"])

    @property
    def identity(self) -> str:
        """Fingerprint of the recipe; what is fitted by it depends on the data, too."""
        return sha256_text(json.dumps(self.as_json(), sort_keys=True))


@dataclass(frozen=True)
class Stack:
    """A recipe with its rankers, by part and name, and gate, fitted for events of `split`."""

    recipe: StackRecipe
    rankers: Mapping[tuple[Part, BaselineName], Ranker]
    gate: Gate
    split: EvaluatedSplit

    def on(self, histories: Histories, known: Histories | None = None) -> BoundStack:
        """The stack for rows of these histories; see `Ranker.on`."""
        bound: dict[int, Dense | Sparse] = {}
        for ranker in self.rankers.values():  # one ranker may stand in both parts
            if id(ranker) not in bound:
                bound[id(ranker)] = ranker.on(histories, self.split, known)
        answers = {key: bound[id(ranker)] for key, ranker in self.rankers.items()}
        return BoundStack(self, histories, known or histories, answers)


def fit_stack(
    recipe: StackRecipe, histories: Histories, split: EvaluatedSplit, seed: int, repeats: Repeats = "allowed"
) -> Stack:  # fmt: skip
    """Fit rankers and gate for events of `split`. Raises UnfitDataError: the data lacks what a ranker needs."""
    fitted: dict[str, Ranker] = {}
    rankers: dict[tuple[Part, BaselineName], Ranker] = {}
    for part in PARTS:
        for name, member in recipe.members(part).items():
            key = json.dumps([name, dict(member.settings)], sort_keys=True)
            if key not in fitted:
                fitted[key] = FAMILIES[name].ranker(histories, split, member.settings, seed, repeats)
            rankers[part, name] = fitted[key]
    return Stack(recipe, rankers, fit_gate(histories, split, seed), split)


@dataclass(frozen=True)
class BoundStack:
    """A stack that scores rows of some histories."""

    stack: Stack
    histories: Histories
    known: Histories
    answers: Mapping[tuple[Part, BaselineName], Dense | Sparse]

    @property
    def share_I(self) -> Float64:
        """float64 [I]: popularity in earlier splits, above 0."""
        return popular_shares(self.known, self.stack.split)

    def masses(self, row_Q: Int64) -> PriorMasses:
        """What the stack says of some rows, int64 [Q]. Users without an earlier event get what is popular."""
        log_share_I = log_popular_shares(self.known, self.stack.split)
        has_past_Q = num_previous(self.histories)[row_Q] > 0
        query_Q = np.flatnonzero(has_past_Q)
        says = self._says(row_Q[query_Q], log_share_I)
        past_X = past_items(self.histories, row_Q)
        gated = self.stack.recipe.gated
        again_query_X, again_item_X = past_X if gated else (past_X[0][:0], past_X[1][:0])
        named_X = named([says["new", name] for name in self.stack.recipe.new], len(query_Q), len(log_share_I))
        new_query_X, new_item_X = _without(
            query_Q[named_X[0]], named_X[1], again_query_X, again_item_X, len(log_share_I)
        )
        if not has_past_Q.all() and len(log_share_I) <= WHOLE:
            query_X, item_X = np.divmod(np.arange((~has_past_Q).sum() * len(log_share_I)), len(log_share_I))
            new_query_X = np.append(new_query_X, np.flatnonzero(~has_past_Q)[query_X])
            new_item_X = np.append(new_item_X, item_X)
        place_Q = np.cumsum(has_past_Q) - 1
        again_X = self._pooled("again", says, place_Q, has_past_Q, again_query_X, again_item_X, log_share_I)
        new_X = self._pooled("new", says, place_Q, has_past_Q, new_query_X, new_item_X, log_share_I)
        rest_Q, power = self._rest(says, place_Q, has_past_Q)
        again_mass_X, _ = _from_log(again_X, again_query_X, np.full(len(row_Q), -np.inf))
        new_mass_X, rest_mass_Q = _from_log(new_X, new_query_X, rest_Q)
        log_odds_Q = np.full(len(row_Q), np.inf)
        if gated:
            log_odds_Q[query_Q] = self._log_odds(says, row_Q[query_Q], place_Q[past_X[0]], past_X[1])
        return PriorMasses(
            again_query_X, again_item_X, again_mass_X, new_query_X, new_item_X, new_mass_X, rest_mass_Q, power,
            log_odds_Q,
        )  # fmt: skip

    def said(self, row_Q: Int64, item_QM: Int64) -> dict[str, Float64]:
        """What each ranker adds to the logarithm of the masses of M items of each row: float64 [Q, M] by its name.

        That is its weight in the part that the item belongs to, times what it says; with users without an earlier
        event, `popularity` is what decides.
        """
        num_items, (num_queries, num_queried) = self.known.items.height, item_QM.shape
        log_share_I = log_popular_shares(self.known, self.stack.split)
        has_past_Q = num_previous(self.histories)[row_Q] > 0
        says, place_Q = self._says(row_Q[has_past_Q], log_share_I), np.cumsum(has_past_Q) - 1
        query_X, item_X = np.repeat(np.arange(num_queries), num_queried), item_QM.ravel().astype(np.int64)
        past_query_X, past_item_X = past_items(self.histories, row_Q)
        is_again_X = np.isin(query_X * num_items + item_X, past_query_X * num_items + past_item_X)
        parts: dict[Part, Bool] = {"new": ~is_again_X, "again": is_again_X}
        if not self.stack.recipe.gated:
            parts = {"new": np.ones_like(is_again_X)}
        found: dict[str, Float64] = {}
        for part, belongs_X in parts.items():
            own_X = np.flatnonzero(belongs_X & has_past_Q[query_X])
            for name, member in self.stack.recipe.members(part).items():
                added_X = found.setdefault(name, np.zeros(len(item_X)))
                added_X[own_X] += member.weight * says[part, name].at(place_Q[query_X[own_X]], item_X[own_X])
        if not has_past_Q.all():
            fresh_X = np.flatnonzero(~has_past_Q[query_X])
            found.setdefault("popularity", np.zeros(len(item_X)))[fresh_X] = log_share_I[item_X[fresh_X]]
        return {name: added_X.reshape(item_QM.shape) for name, added_X in found.items()}

    def _log_odds(
        self, says: Mapping[tuple[Part, BaselineName], Says], row_Q: Int64, query_X: Int64, item_X: Int64
    ) -> Float64:  # fmt: skip
        """float64 [Q]: the gate's, of rows with a history; X are the items chosen before."""
        recipe = self.stack.recipe
        own_Q = self.stack.gate.log_odds(self.histories, row_Q, self.known)
        odds_Q = recipe.history_weight * own_Q.clip(-SURE, SURE) + recipe.bias
        for name, member in recipe.gate.items():
            odds_Q += member.weight * says["gate", name].log_odds_new(len(row_Q), query_X, item_X)
        return np.where(np.isinf(own_Q), own_Q, odds_Q)

    def _says(self, row_Q: Int64, log_share_I: Float64) -> dict[tuple[Part, BaselineName], Says]:
        """Let every ranker score once."""
        says_of: dict[int, Says] = {}
        for (_, name), answers in self.answers.items():
            if id(answers) not in says_of:
                says_of[id(answers)] = Says.of(answers, row_Q, log_share_I, name)
        return {key: says_of[id(answers)] for key, answers in self.answers.items()}

    def _pooled(
        self, part: Part, says: Mapping[tuple[Part, BaselineName], Says], place_Q: Int64, has_past_Q: Bool,
        query_X: Int64, item_X: Int64, log_share_I: Float64,
    ) -> Float64:  # fmt: skip
        """float64 [X]: the logarithm of the masses of a part, each question's up to a constant."""
        pooled_X = np.zeros(len(query_X))
        known_X = has_past_Q[query_X]
        for name, member in self.stack.recipe.members(part).items():
            pooled_X[known_X] += member.weight * says[part, name].at(place_Q[query_X[known_X]], item_X[known_X])
        pooled_X[~known_X] = log_share_I[item_X[~known_X]]
        return pooled_X

    def _rest(
        self, says: Mapping[tuple[Part, BaselineName], Says], place_Q: Int64, has_past_Q: Bool
    ) -> tuple[Float64, float]:  # fmt: skip
        """float64 [Q] the logarithm of what an item that is not named has, but for popularity, and the power of that;
        -inf where the catalogue is scored whole."""
        if self.known.items.height <= WHOLE:
            return np.full(len(place_Q), -np.inf), 1.0
        rest_Q, power = np.zeros(len(place_Q)), 0.0
        for name, member in self.stack.recipe.new.items():
            power += member.weight
            rest_Q[has_past_Q] += member.weight * says["new", name].rest_Q
        return rest_Q, power


@dataclass(frozen=True)
class StackRanker:
    """A stack without a language model, as a ranker: log-probabilities over a catalogue that is scored whole."""

    stack: Stack

    def on(self, histories: Histories, split: EvaluatedSplit, known: Histories | None = None) -> Dense:
        """See `Ranker.on`."""
        bound, num_items = self.stack.on(histories, known), histories.items.height

        def scores_of(row_Q: Int64) -> Float64:
            masses = bound.masses(row_Q)
            shape = (len(row_Q), num_items)
            log_QI = np.full(shape, np.finfo(np.float32).min, np.float64)
            log_share_Q2 = np.stack([-np.logaddexp(0, sign * masses.log_odds_Q) for sign in (1, -1)], axis=1)
            for part, (query_X, item_X, mass_X) in enumerate((
                (masses.again_query_X, masses.again_item_X, masses.again_mass_X),
                (masses.new_query_X, masses.new_item_X, masses.new_mass_X),
            )):  # fmt: skip
                total_Q = np.bincount(query_X, mass_X, len(row_Q))
                log_X = np.log(mass_X) - np.log(total_Q[query_X]) + log_share_Q2[query_X, part]
                log_QI[query_X, item_X] = np.maximum(log_X, np.finfo(np.float32).min)
            return log_QI

        return Dense(scores_of, is_log_prob=True)


def past_items(histories: Histories, row_Q: Int64) -> tuple[Int64, Int64]:
    """The distinct items that the user of each row chose before it: question and item, int64 [X], both ascending."""
    num_items = histories.items.height
    begin_Q = histories.offset_U1[histories.user_idx_N[row_Q]]
    query_X, past_X = ragged(begin_Q, row_Q - begin_Q)
    return np.divmod(np.unique(query_X * num_items + histories.item_idx_N[past_X]), num_items)


def named(says: Sequence[Says], num_queries: int, num_items: int) -> tuple[Int64, Int64]:
    """All items of a catalogue that is scored whole, else those that a ranker names: question and item, int64 [X]."""
    if num_items <= WHOLE:
        return np.divmod(np.arange(num_queries * num_items), num_items)
    keys = [one.key_C for one in says]
    return np.divmod(np.unique(np.concatenate([np.zeros(0, np.int64), *keys])), num_items)


def _without(
    query_X: Int64, item_X: Int64, past_query_X: Int64, past_item_X: Int64, num_items: int
) -> tuple[Int64, Int64]:  # fmt: skip
    past_X = past_query_X * num_items + past_item_X
    key_X = query_X * num_items + item_X
    at_X = np.minimum(np.searchsorted(past_X, key_X), max(len(past_X) - 1, 0))
    kept_X = past_X[at_X] != key_X if len(past_X) else np.ones(len(key_X), bool)
    return query_X[kept_X], item_X[kept_X]


def _from_log(log_X: Float64, query_X: Int64, rest_Q: Float64) -> tuple[Float64, Float64]:
    """Masses, of which the largest of each question is 1: of named items and, but for popularity, of the rest."""
    top_Q = np.where(np.isfinite(rest_Q), rest_Q, -np.inf)
    np.maximum.at(top_Q, query_X, log_X)
    top_Q = np.where(np.isfinite(top_Q), top_Q, 0.0)
    # A mass that rounds to nothing would make an item impossible.
    floor = np.finfo(np.float64).eps ** 2
    return np.maximum(np.exp(log_X - top_Q[query_X]), floor), np.exp(rest_Q - top_Q)
