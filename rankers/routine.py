"""What the user does at this hour: own counts by hour of the week.

Three distributions, each backed off to the next as a Dirichlet prior does it: events of the same kind of day around the
same hour; all own events; popularity. It scores by the logarithm of the first and looks at own events alone otherwise.

Shapes: Q = queries, I = items, X = past events of all queries, flattened.
"""

from dataclasses import asdict, dataclass
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..histories import Histories
from ..histories.questions import Task
from .clock import local_hours
from .dense import rank_dense
from .pasts import Weigh, each_one, past_sums
from .popular import popular_shares
from .protocol import Family
from .rankings import Rankings
from .unfitted import Unfitted

__all__ = ["FAMILIES", "OwnHours"]

_WEEKEND_FROM = 5 * 24  # hours since Monday 00:00


@dataclass(frozen=True)
class OwnHours:
    """p(i) = (h_i + b o_i) / (h + b), and o_i = (n_i + a s_i) / (n + a).

    n counts own events; h weighs them by a Gaussian over the distance between the times of day, and by the kind of day;
    s are the shares of all users' events in earlier splits.

    Attributes:
        sigma_hours: standard deviation of that Gaussian.
        other_kind: factor for a working day's event at a weekend and the reverse.
        backoff_events: b, how many events the own counts of any time weigh.
        popular_events: a, how many own events popularity weighs.
    """

    sigma_hours: float
    other_kind: float
    backoff_events: float
    popular_events: float

    def rank(self, task: Task, k: int) -> Rankings:
        """See `Ranker.rank`."""
        histories = task.histories
        share_I, weigh = popular_shares(histories, task.split), self.weigh(histories)

        def scores_of(row_Q: NDArray[np.int64]) -> NDArray[np.float64]:
            any_QI = past_sums(histories, row_Q, each_one)
            any_QI = _backed_off(any_QI, share_I, self.popular_events)
            return np.log(_backed_off(past_sums(histories, row_Q, weigh), any_QI, self.backoff_events))

        return rank_dense(task, scores_of, k, log_probs=True)

    def weigh(self, histories: Histories) -> Weigh:
        """What a past event counts for another moment, at most 1."""
        hour_N = local_hours(histories)
        day_hour_N, weekend_N = hour_N % 24, hour_N >= _WEEKEND_FROM

        def weight(row_X: NDArray[np.int64], past_X: NDArray[np.int64]) -> NDArray[np.float64]:
            apart_X = np.abs(day_hour_N[row_X] - day_hour_N[past_X])
            apart_X = np.minimum(apart_X, 24 - apart_X)
            kind_X = np.where(weekend_N[row_X] == weekend_N[past_X], 1.0, self.other_kind)
            weight_X: NDArray[np.float64] = kind_X * np.exp(-0.5 * (apart_X / self.sigma_hours) ** 2)
            return weight_X

        return weight


def _backed_off(sum_QI: NDArray[np.float64], prior: NDArray[np.float64], events: float) -> NDArray[np.float64]:
    """(sum + events * prior) / (total + events): float64 [Q, I], rows adding up to 1 if those of `prior` do."""
    share_QI: NDArray[np.float64] = (sum_QI + events * prior) / (sum_QI.sum(axis=1, keepdims=True) + events)
    return share_QI


_GRID: Final = tuple(
    asdict(OwnHours(*values))
    for values in product((0.1, 0.25, 0.5, 1.0, 2.0), (0.3, 1.0), (0.3, 1.0, 3.0, 10.0, 100.0), (1.0, 10.0, 100.0))
)

FAMILIES: Final[tuple[Family, ...]] = (Unfitted("own counts by hour of week", OwnHours, _GRID),)
