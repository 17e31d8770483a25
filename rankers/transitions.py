"""Where people go from the last item: counted moves, and a factorisation of them that knows the user.

Shapes: Q = queries, I = items, X = entries of a ragged list over queries, flattened, M = moves that are learnt from.
"""

import bisect
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ..arrays import Int64
from ..histories import Histories
from ..histories.candidates import EvaluatedSplit
from ..histories.questions import SPLIT_CODES, num_previous
from .counting import moves_of
from .factors import Factors, FactorSettings, fit_factors
from .popular import popular_shares
from .protocol import Arrays, Counting, Dense, Family, Fitting, Floats, grid_of
from .user_history import Weigh, last_items, past_sums


@dataclass(frozen=True)
class Transitions(Counting):
    """A Markov chain of first order: p(i | l) = (m_li + w o_li + b s_i) / (their sum over all items).

    m_li counts all users' moves from the last item l to i that had arrived strictly earlier than the predicted event,
    o_li those of the user (again), s are the shares of items in earlier splits; w is `own`, b `backoff_events`. It
    scores by log p.
    """

    own: float
    backoff_events: float

    def on(self, histories: Histories, split: EvaluatedSplit, known: Histories | None = None) -> Dense:
        num_items = histories.items.height
        share_I, moves = popular_shares(known or histories, split), moves_of(known or histories)
        weigh = _same_previous(histories)

        def scores_of(row_Q: Int64) -> Floats:
            query_X, to_X, count_X = moves.before_time(histories.time_s_N[row_Q], last_items(histories, row_Q))
            sum_X = np.bincount(query_X * num_items + to_X, weights=count_X, minlength=len(row_Q) * num_items)
            sum_QI = sum_X.reshape(len(row_Q), num_items) + self.backoff_events * share_I
            if self.own:
                sum_QI += self.own * past_sums(histories, row_Q, weigh)
            score_QI: Floats = np.log(sum_QI / sum_QI.sum(axis=1, keepdims=True))
            return score_QI

        return Dense(scores_of, is_log_prob=True)


@dataclass(frozen=True)
class FactorisedTransitions:
    """FPMC, see `factors`: p(i | user, last item) of a low-rank model of the moves in earlier splits.

    It knows of later events no more than the last one; its scores are log-probabilities. `user_ids` are those of the
    users of the factors; of others, nothing was learnt.
    """

    factors: Factors
    user_ids: list[str]

    def on(self, histories: Histories, split: EvaluatedSplit, known: Histories | None = None) -> Dense:
        number_U = self._numbers(histories.user_ids)

        def scores_of(row_Q: Int64) -> Floats:
            return self.factors.log_probs(number_U[histories.user_idx_N[row_Q]], last_items(histories, row_Q))

        return Dense(scores_of, is_log_prob=True)

    def arrays(self) -> Arrays:
        """The fields of `Factors`."""
        return dict(vars(self.factors))

    def _numbers(self, user_ids: list[str]) -> Int64:
        """The number of each user among those of the factors, -1 for others: int64 [U]."""
        if user_ids is self.user_ids or user_ids == self.user_ids:
            return np.arange(len(user_ids))
        at_U = [bisect.bisect_left(self.user_ids, user_id) for user_id in user_ids]  # ids of histories are sorted
        pairs = zip(at_U, user_ids, strict=True)
        return np.array([at if self.user_ids[at : at + 1] == [one] else -1 for at, one in pairs], np.int64)


def _same_previous(histories: Histories) -> Weigh:
    """1 for a past event that came after the same item as the query, else 0."""
    item_N = histories.item_idx_N
    from_N = np.where(num_previous(histories) > 0, np.roll(item_N, 1), -1)
    return lambda row_X, past_X: (from_N[past_X] == item_N[row_X - 1]).astype(np.float64)


def _factorised(fitting: Fitting) -> FactorisedTransitions:
    """Learns from the moves within earlier splits."""
    histories = fitting.histories
    earlier_N = histories.split_N < SPLIT_CODES[fitting.split]  # both ends: history events may come before valid ones
    row_M = np.flatnonzero((num_previous(histories) > 0) & earlier_N & np.roll(earlier_N, 1))
    user_M, item_N = histories.user_idx_N[row_M], histories.item_idx_N
    sizes, settings = (len(histories.user_ids), histories.items.height), FactorSettings(**fitting.settings)
    factors = fit_factors(user_M, item_N[row_M - 1], item_N[row_M], sizes, settings, fitting.seed)
    return FactorisedTransitions(factors, histories.user_ids)


def _restored(settings: Any, arrays: Arrays, known: Histories, split: EvaluatedSplit) -> FactorisedTransitions:
    return FactorisedTransitions(Factors(**arrays), known.user_ids)


_GRID: Final = grid_of(Transitions, (0.0, 1.0, 3.0, 10.0, 30.0, 100.0), (1.0, 10.0, 30.0))
_FACTOR_GRID: Final = grid_of(FactorSettings, (16, 64), (0.03, 0.1, 0.3), (10,))

FAMILIES: Final = (
    Family.counting("transitions", _GRID, Transitions),
    Family("factorised transitions (FPMC)", _FACTOR_GRID, _factorised, _restored),
)
