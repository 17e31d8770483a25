"""Every event is in exactly one split, and time runs from train to test."""

from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from pydantic import ValidationError

from whereupon.histories import SplitSettings
from whereupon.histories.splitting import split_events


def events(user_ids: list[str]) -> pl.DataFrame:
    return pl.DataFrame({"user_id": user_ids}, schema={"user_id": pl.String})


def test_global_time_cuts_by_order() -> None:
    split = split_events(events(["u"] * 10), SplitSettings(train=0.7, valid=0.1))
    assert split.to_list() == ["train"] * 7 + ["valid"] + ["test"] * 2


@pytest.mark.parametrize(
    ("train", "valid", "num_train", "num_seen"), [(0.29, 0.0, 29, 29), (0.75, 0.05, 75, 80), (0.1, 0.2, 10, 30)]
)
def test_decimal_shares_lose_no_event(train: float, valid: float, num_train: int, num_seen: int) -> None:
    assert int(100 * 0.29) == 28  # what floats would do
    split = split_events(events(["u"] * 100), SplitSettings(train=train, valid=valid))
    assert (split == "train").sum() == num_train
    assert (split != "test").sum() == num_seen


def test_leave_one_out_takes_the_last_two_of_each_user() -> None:
    split = split_events(events(["a", "b", "a", "c", "a", "b"]), SplitSettings(protocol="leave_one_out"))
    assert split.to_list() == ["train", "valid", "valid", "test", "test", "test"]


@limits(deadline=None)
@given(
    st.lists(st.sampled_from("abc"), max_size=60),
    st.integers(1, 100).flatmap(lambda t: st.tuples(st.just(t), st.integers(0, min(99, 100 - t)))),
    st.sampled_from(["global_time", "leave_one_out"]),
)
def test_each_event_has_one_split_and_time_runs_forward(
    users: list[str], percent: tuple[int, int], protocol: str
) -> None:
    settings = SplitSettings.model_validate(
        {"protocol": protocol, "train": percent[0] / 100, "valid": percent[1] / 100}
    )
    split = split_events(events(users), settings).to_list()
    order = {"train": 0, "valid": 1, "test": 2}
    assert len(split) == len(users)
    if protocol == "global_time":
        codes = [order[name] for name in split]
        assert codes == sorted(codes)
        assert codes.count(0) == len(users) * percent[0] // 100
        assert codes.count(2) == len(users) - int(len(users) * Fraction(sum(percent), 100))
    else:
        for user in set(users):
            own = [name for name, other in zip(split, users, strict=True) if other == user]
            assert own == (["train"] * len(own) + ["valid", "test"])[-len(own) :]


def test_shares_beyond_one_are_refused() -> None:
    with pytest.raises(ValidationError, match="together exceed 1"):
        SplitSettings(train=0.8, valid=0.3)
