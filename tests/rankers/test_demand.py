"""The baseline of demand forecasts: what is wanted at this hour, by what was known at midnight."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from whereupon.histories import Histories
from whereupon.rankers.families import FAMILIES
from whereupon.rankers.protocol import Fitted, UnfitDataError

Build = Callable[[Sequence[tuple[int, int, int, str]], int], Histories]
HOUR, DAY = 3_600, 86_400
SETTINGS = {"most": 20, "least_events": 20, "popular": 0.05}
NAME = "demand forecast"


def rows() -> list[tuple[int, int, int, str]]:
    """Four weeks: three events at item 0 at nine each day, three at item 1 at twenty; item 2 once a day at noon."""
    each = [
        (user, item, day * DAY + hour * HOUR, "train" if day < 21 else "valid" if day < 24 else "test")
        for day in range(28)
        for hour, item, num in ((9, 0, 3), (12, 2, 1), (20, 1, 3))
        for user in range(num)
    ]
    return each


def scores(ranker: Fitted, histories: Histories, when_s: int) -> np.ndarray[Any, Any]:
    row = int(np.flatnonzero(histories.time_s_N == when_s)[0])
    found = ranker.on(histories, "test").scores(np.array([row]))
    assert isinstance(found, np.ndarray)
    return found[0]


@pytest.fixture(autouse=True)
def _installed() -> None:
    pytest.importorskip("statsforecast", reason="forecasts need statsforecast: pip install 'whereupon[forecast]'")


@pytest.fixture
def fitted(build: Build) -> tuple[Fitted, Histories]:
    histories = build(rows(), 3)
    return FAMILIES[NAME].ranker(histories, "test", SETTINGS, 0), histories


def test_item_that_is_wanted_at_this_hour_stands_first(fitted: tuple[Fitted, Histories]) -> None:
    ranker, histories = fitted
    best = [int(scores(ranker, histories, 26 * DAY + hour * HOUR).argmax()) for hour in (9, 12, 20)]
    assert best == [0, 2, 1]
    p_I = np.exp(scores(ranker, histories, 26 * DAY + 9 * HOUR))
    assert p_I.sum() == pytest.approx(1.0)
    assert p_I[0] > 0.9


def test_nothing_since_midnight_counts_and_yesterday_does(fitted: tuple[Fitted, Histories], build: Build) -> None:
    ranker, histories = fitted
    at = 26 * DAY + 20 * HOUR
    before = scores(ranker, histories, at)
    today = build([*rows(), *((9, 2, 26 * DAY + hour * HOUR + 1, "test") for hour in range(20))], 3)
    assert scores(ranker, today, at).tolist() == pytest.approx(before.tolist())
    later = build([*rows(), *((9, 2, 27 * DAY + hour * HOUR + 1, "test") for hour in range(20))], 3)
    assert scores(ranker, later, at).tolist() == before.tolist()
    changed = [row for row in rows() if not (row[1] == 1 and 21 * DAY < row[2] < 26 * DAY)]
    assert scores(ranker, build(changed, 3), at)[1] < before[1] - 0.01


def test_without_enough_hours_it_ranks_by_shares(build: Build) -> None:
    histories = build([(0, 0, 1, "train"), (0, 1, HOUR, "train"), (1, 0, 2 * HOUR, "train"), (1, 1, DAY, "test")], 2)
    ranker = FAMILIES[NAME].ranker(histories, "test", SETTINGS, 0)
    assert np.exp(scores(ranker, histories, DAY)).tolist() == pytest.approx([3 / 5, 2 / 5])
    assert ranker.arrays() == {}


def test_missing_package_leaves_the_family_out(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UnfitDataError, match=r"'demand forecast'.*statsforecast.*whereupon\[forecast\]"):
        FAMILIES[NAME].ranker(build(rows(), 3), "test", SETTINGS, 0)
