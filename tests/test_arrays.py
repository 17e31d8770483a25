import numpy as np

from whereupon.arrays import ragged


def test_ragged_ranges_flatten_in_order_and_skip_empty_ones() -> None:
    query_X, position_X = ragged(np.array([5, 9, 0]), np.array([2, 0, 3]))
    assert query_X.tolist() == [0, 0, 2, 2, 2]
    assert position_X.tolist() == [5, 6, 0, 1, 2]


def test_no_ranges_are_nothing() -> None:
    assert [len(each) for each in ragged(np.array([], np.int64), np.array([], np.int64))] == [0, 0]
