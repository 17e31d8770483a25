"""A stack's members answer as they did when they were chosen."""

from typing import Any, cast

import numpy as np

from whereupon.eval.stacking import _Candidates
from whereupon.rankers.protocol import Dense
from whereupon.rankers.selection import Selected


def _answer(value: float) -> Dense:
    return Dense(lambda row_Q: np.full((len(row_Q), 1), value))


def test_one_pool_of_all_items_has_the_settings_that_its_weights_were_fitted_with() -> None:
    """A ranker may be tuned twice, on all events and on first visits; one of them is chosen, and the same is kept."""
    settings = {
        ("again", "EASE"): {"tuned": "all"},
        ("new", "EASE"): {"tuned": "new"},
        ("new", "ALS"): {"tuned": "new"},
    }
    answers = {("again", "EASE"): _answer(1.0), ("new", "EASE"): _answer(2.0), ("new", "ALS"): _answer(3.0)}
    for order in (1, -1):
        given = [dict(list(some.items())[::order]) for some in (settings, answers)]
        candidates = _Candidates(cast(Any, None), cast(Any, None), cast(Any, given[0]), cast(Any, given[1]))
        answered = {name: one.scores(np.zeros(1, np.int64))[0, 0] for name, one in candidates.of_pool("all").items()}
        members = candidates._members("all", Selected({"EASE": 0.5, "ALS": 0.5}, [], {}, 0.0, 0.0, 1))
        assert answered == {"EASE": 1.0, "ALS": 3.0}
        assert {name: one.settings["tuned"] for name, one in members.items()} == {"EASE": "all", "ALS": "new"}
