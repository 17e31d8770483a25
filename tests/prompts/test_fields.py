"""Which fields pay, on planted data: what decides, what is noise, and what the user alone says already."""

from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest

from whereupon.prompts.fields import FieldWorth, field_worths

USERS, EACH = 20, 60


def _words(texts: Sequence[str]) -> list[list[int]]:
    return [list(range(len(text.split()))) for text in texts]


@pytest.fixture(scope="module", name="worths")
def _worths() -> dict[str, FieldWorth]:
    """It rains half of the time. In the rain all go to the cinema, else to a place of their own."""
    rng = np.random.default_rng(3)
    user = np.repeat(np.arange(USERS), EACH)
    rain = rng.random(len(user)) < 0.5
    item = np.where(rain, 0, 1 + user)
    frame = pl.DataFrame({
        "weather": np.where(rain, "cold rain", "warm"), "noise": rng.integers(0, 4, len(user)),
        "home": (user % 5).astype(str), "many": rng.normal(size=len(user)), "constant": ["x"] * len(user),
        "unknown": pl.Series([None] * len(user), dtype=pl.String),
    })  # fmt: skip
    return {one.name: one for one in field_worths(frame, user, item, _words, 0, num_shuffles=39)}


def test_field_that_decides_says_all_that_is_open(worths: dict[str, FieldWorth]) -> None:
    weather = worths["weather"]
    assert weather.bits == pytest.approx(1.0, abs=0.03), "one of two, for each user"
    assert weather.corrected_bits == pytest.approx(1.0, abs=0.05)
    assert weather.p_value == 1 / 40
    assert next(iter(worths)) == "weather", "the most bits a token come first"


@pytest.mark.parametrize("name", ["noise", "many"])
def test_noise_seems_to_say_something_and_does_not(worths: dict[str, FieldWorth], name: str) -> None:
    assert worths[name].bits > 0.02, "of few events"
    assert abs(worths[name].corrected_bits) < 0.02
    assert worths[name].p_value > 0.05


def test_function_of_the_user_says_nothing_more(worths: dict[str, FieldWorth]) -> None:
    home = worths["home"]
    assert (home.bits, home.corrected_bits, home.p_value) == (pytest.approx(0, abs=1e-9), pytest.approx(0, abs=1e-9), 1)


def test_field_of_one_value_is_left_out(worths: dict[str, FieldWorth]) -> None:
    assert set(worths) == {"weather", "noise", "home", "many"}


def test_tokens_are_those_of_a_mean_event(worths: dict[str, FieldWorth]) -> None:
    weather = worths["weather"]
    assert 1.4 < weather.tokens < 1.6, "two words in the rain, else one"
    assert weather.bits_a_token == pytest.approx(weather.corrected_bits / weather.tokens)


def test_order_of_the_events_and_numbers_of_users_change_nothing() -> None:
    rng = np.random.default_rng(0)
    user, item = rng.integers(0, 5, 300), rng.integers(0, 6, 300)
    frame = pl.DataFrame({"field": rng.integers(0, 3, 300), "half": pl.Series([None, 1.5] * 150)})
    order = rng.permutation(300)
    one = field_worths(frame, user, item, _words, 0, num_shuffles=1)
    other = field_worths(frame[order], 1000 - user[order], item[order] * 7, _words, 0, num_shuffles=1)
    assert {w.name: round(w.bits, 9) for w in one} == {w.name: round(w.bits, 9) for w in other}


def test_bits_equal_the_definition_by_hand() -> None:
    """Two users of two events: of one the field determines the item, of the other it does not."""
    frame = pl.DataFrame({"field": ["a", "b", "a", "a"]})
    [one] = field_worths(frame, np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), _words, 0, num_shuffles=1)
    assert one.bits == pytest.approx(0.5)
