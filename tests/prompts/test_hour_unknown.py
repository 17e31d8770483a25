"""Days without an hour: neither prompt nor profile shows one, and rankers use the day."""

from datetime import datetime

import numpy as np
import polars as pl

from whereupon.prompts.context import context_frame, hours_unknown
from whereupon.prompts.profile import profile_frame
from whereupon.rankers.clock import local_seconds

LOCAL = [datetime(2024, 5, 1), datetime(2024, 5, 2, 19, 30)]
EVENTS = pl.DataFrame({"user_idx": [0, 0], "local_time": LOCAL, "hour_known": [False, True]})


def test_hour_is_empty_where_it_is_unknown() -> None:
    frame = context_frame(EVENTS, "outcome")
    assert frame.select("weekday", "hour", "hour12", "daypart").rows() == [
        ("Wednesday", None, None, ""), ("Thursday", 19, 7, "evening"),
    ]  # fmt: skip
    assert "hour_known" not in frame.columns
    assert hours_unknown(EVENTS)
    assert not hours_unknown(EVENTS.drop("hour_known"))


def test_profile_counts_known_hours_only() -> None:
    first, start = np.array([0]), np.array([2])
    items = np.array([3, 3])
    for known, hours in (([False, True], "evening 7"), ([False, False], "")):
        frame = profile_frame(items, EVENTS["local_time"], first, start, hour_known=pl.Series(known))
        assert frame.select("count", "hours").row(0) == (2, hours)


def test_rankers_go_by_the_day() -> None:
    assert (local_seconds(EVENTS) % 86_400 == 0).all()
    assert local_seconds(EVENTS.drop("hour_known"))[1] % 86_400 > 0
