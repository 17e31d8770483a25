"""Made-up catalogues: as many as requested, distinct, the same for a seed, and longer ones begin with shorter ones."""

import numpy as np
from titles import CENTRE, items, titles


def test_titles_are_distinct_and_as_many_as_requested() -> None:
    found = titles(60_000, seed=1)
    assert len(found) == len(set(found)) == 60_000


def test_titles_of_a_seed_are_the_same_and_of_another_seed_are_not() -> None:
    assert titles(100, seed=1) == titles(100, seed=1)
    assert titles(100, seed=1) != titles(100, seed=2)


def test_smaller_catalogue_is_the_beginning_of_a_larger_one() -> None:
    assert titles(60_000, seed=1)[:500] == titles(500, seed=1)


def test_titles_have_words_numbers_and_letters_beyond_ascii() -> None:
    found = titles(2_000, seed=1)
    assert all(title == " ".join(title.split()) for title in found)
    assert any(not title.isascii() for title in found)
    assert any(letter.isdigit() for title in found for letter in title)


def test_titles_begin_alike_as_often_as_in_a_catalogue_of_shops() -> None:
    first = [title.split()[0] for title in titles(10_000, seed=1)]
    _, counts = np.unique(first, return_counts=True)
    assert counts.max() > 200
    assert len(counts) > 1_000


def test_items_lie_around_the_centre_and_have_a_category_each() -> None:
    frame = items(5_000, seed=1)
    assert frame.columns == ["item_id", "title", "category", "latitude", "longitude"]
    assert frame["item_id"].n_unique() == 5_000
    assert abs(frame["latitude"].mean() - CENTRE[0]) < 0.01
    assert abs(frame["longitude"].mean() - CENTRE[1]) < 0.01
    assert frame["category"].null_count() == 0
