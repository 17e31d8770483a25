import numpy as np

from whereupon.histories import Histories
from whereupon.rankers.counting import Moves, Visits, popularity_order


def test_popularity_counts_events_of_earlier_splits_and_breaks_ties_by_item_idx(town: Histories) -> None:
    assert popularity_order(town, "test").tolist() == [0, 1, 2, 3, 4]  # A 3, B 3, C 2, D 0, E 0
    assert popularity_order(town, "valid").tolist() == [0, 1, 2, 3, 4]


def test_visits_are_numbered_in_the_order_of_the_first(town: Histories) -> None:
    visits = Visits.of(town)  # Ann A B A B, Bob B C C, Cyd A B C D, Dan C A
    assert visits.number_N.tolist() == [0, 1, 0, 1, 0, 1, 1, 0, 1, 2, 3, 0, 1]
    assert visits.num_known_N.tolist() == [0, 1, 2, 2, 0, 1, 2, 0, 1, 2, 3, 0, 1]
    assert visits.item_P.tolist() == [0, 1, 1, 2, 0, 1, 2, 3, 2, 0]
    assert visits.number(np.array([3, 1]), np.array([0, 2])).tolist() == [1, 1]


def test_item_that_is_never_visited_has_a_number_beyond_all(town: Histories) -> None:
    assert (Visits.of(town).number(np.array([0, 3]), np.array([2, 4])) > 5).all()


def test_moves_count_only_what_arrived_strictly_earlier(town: Histories) -> None:
    moves = Moves.of(town)
    dan_goes_to_a = np.array([24])  # moves out of C so far: Bob to C at 21, Cyd to D at 22
    _, item_X, count_X = moves.before_time(dan_goes_to_a, np.array([2]))
    assert (item_X.tolist(), count_X.tolist()) == ([2, 3], [1, 1])
    cyd_goes_to_d = np.array([22])  # her own move to D must not count
    _, item_X, count_X = moves.before_time(cyd_goes_to_d, np.array([2]))
    assert (item_X.tolist(), count_X.tolist()) == ([2], [1])
