import numpy as np
import pytest
from pydantic import ValidationError

from whereupon.catalogue import build_trie
from whereupon.decode import PriorSettings
from whereupon.decode.reweighting import ItemPrior
from whereupon.rankers.reweighter import own_masses, popularity_prior

FLAT = build_trie([[3, 0], [1, 0], [2, 0]])  # one node; its edges lead to items 1, 2 and 0
ROOT = np.zeros(1, np.int64)


def _shares(prior: ItemPrior) -> np.ndarray:
    """float64 [N] by item index: each item's share of the prior, for question 0."""
    mass_E = prior.masses(ROOT, ROOT)
    return (mass_E / mass_E.sum())[[2, 0, 1]]


def test_popularity_is_the_smoothed_share_of_training() -> None:
    prior = popularity_prior(FLAT, np.array([5, 0, 1]), PriorSettings(popularity_smoothing=2))
    assert _shares(prior) == pytest.approx([7 / 12, 2 / 12, 3 / 12])


def test_own_events_count_against_so_many_of_what_is_popular() -> None:
    """Two own events of item 1 and one of item 2, against four of popularity: (own + 4 share) / (3 + 4)."""
    settings = PriorSettings(popularity_smoothing=2, own_smoothing=4)
    popularity = popularity_prior(FLAT, np.array([5, 0, 1]), settings)
    personal = popularity.with_own([own_masses(np.array([1, 2, 1]), settings)])
    expected = [(0 + 4 * 7 / 12) / 7, (2 + 4 * 2 / 12) / 7, (1 + 4 * 3 / 12) / 7]
    assert _shares(personal) == pytest.approx(expected)


def test_nobody_without_a_past_is_given_one() -> None:
    settings = PriorSettings()
    prior = popularity_prior(FLAT, np.array([5, 0, 1]), settings)
    nothing = own_masses(np.zeros(0, np.int64), settings)
    assert _shares(prior.with_own([nothing])).tolist() == _shares(prior).tolist()


def test_counts_of_other_items_and_negative_ones_are_refused() -> None:
    with pytest.raises(ValueError, match="a count of at least 0 for each of 3 items, not 1 to 2 for 2"):
        popularity_prior(FLAT, np.array([1, 2]), PriorSettings())
    with pytest.raises(ValueError, match="not -1 to 2 for 3"):
        popularity_prior(FLAT, np.array([1, 2, -1]), PriorSettings())


@pytest.mark.parametrize("name", ["popularity_smoothing", "own_smoothing"])
def test_smoothing_by_nothing_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="greater than 0"):
        PriorSettings(**{name: 0})
