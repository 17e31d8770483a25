"""A request gets what the same event gets among the histories of all users, whatever the family."""

import gc
import importlib.util
import weakref
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from whereupon.histories import Histories, build_histories
from whereupon.histories.questions import evaluated_events
from whereupon.rankers import families
from whereupon.rankers.cached import cached
from whereupon.rankers.clock import Stream, stream_of
from whereupon.rankers.counting import moves_of
from whereupon.rankers.families import FAMILIES, Family
from whereupon.rankers.popular import log_popular_shares
from whereupon.rankers.protocol import Dense, Fitted, Sparse
from whereupon.rankers.queries import query_histories
from whereupon.rankers.stack import Says
from whereupon.rankers.transitions import FactorisedTransitions
from whereupon.recommend.context import RequestContext, open_question

NUM_ITEMS, NUM_USERS = 12, 6
PACKAGES: Final = {
    "ALS": "implicit", "boosted own events": "lightgbm", "boosted two-stage": "lightgbm",
    "demand forecast": "statsforecast", "spatial KNN": "scipy",
}  # fmt: skip
NAMES: Final = [name for name in FAMILIES if name not in PACKAGES or importlib.util.find_spec(PACKAGES[name])]
TINY: Final = {"hidden": 8, "layers": 1, "max_epochs": 2, "epochs_unwatched": 2}
pytestmark = pytest.mark.usefixtures("one_thread")


def everybody(location: str = "context", protocol: str = "global_time") -> Histories:
    """Six people with thirty events each, at places with clocks of their own, some of them at the same second."""
    random = np.random.default_rng(3)
    num = 30 * NUM_USERS
    user_N = np.repeat(np.arange(NUM_USERS), 30)
    hour_N = np.sort(random.integers(0, 24 * 40, (NUM_USERS, 30)), axis=1).ravel()
    item_N = random.integers(0, NUM_ITEMS, num)
    time_N = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=int(hour)) for hour in hour_N]
    split_N = np.where(hour_N < 24 * 24, "train", np.where(hour_N < 24 * 32, "valid", "test")).astype(object)
    if protocol == "user_cold_start":
        split_N[user_N == 5] = np.where(hour_N[user_N == 5] < 24 * 32, "history", "test")
    where_N2 = random.integers(0, 3, (num, 2)) / 10
    items = pl.DataFrame(
        {
            "item_id": [f"i{i:02}" for i in range(NUM_ITEMS)], "title": [f"Item {i}" for i in range(NUM_ITEMS)],
            "category": [f"kind {i % 3}" for i in range(NUM_ITEMS)],
            "latitude": [None, *(40 + 0.1 * (i % 4) for i in range(1, NUM_ITEMS))],
            "longitude": [None, *(-74 + 0.1 * (i % 3) for i in range(1, NUM_ITEMS))],
        }
    )  # fmt: skip
    events = pl.DataFrame(
        {
            "user_id": [f"p{user}" for user in user_N], "item_id": items["item_id"].gather(item_N),
            "user_idx": pl.Series(user_N, dtype=pl.Int32), "item_idx": pl.Series(item_N, dtype=pl.Int32),
            "time": pl.Series(time_N, dtype=pl.Datetime("us", "UTC")),
            "local_time": pl.Series([time.replace(tzinfo=None) - timedelta(hours=5) for time in time_N]),
            "split": split_N,
            "latitude": pl.Series(np.where(random.random(num) < 0.1, np.nan, 40 + where_N2[:, 0])).fill_nan(None),
            "longitude": pl.Series(-74 + where_N2[:, 1]),
        }
    )  # fmt: skip
    if location == "outcome":
        events = events.with_columns(items[name].gather(item_N).alias(name) for name in ("latitude", "longitude"))
    manifest = {
        "location": location, "data_hash": f"{location} {protocol}", "catalogue_hash": "", "context_columns": [],
        "settings": {"split": {"protocol": protocol}},
    }  # fmt: skip
    return build_histories(events, items, manifest)


@pytest.fixture(scope="module", params=["context", "outcome", "user_cold_start"])
def full(request: pytest.FixtureRequest) -> Histories:
    return everybody(protocol=request.param) if request.param == "user_cold_start" else everybody(request.param)


def some_settings(family: Family) -> Mapping[str, Any]:
    grid = family.grid()
    one = grid[len(grid) // 2]
    if family in families.NETWORKS:
        return {**one, **TINY, **({"length": 6} if family in families.SEQUENTIAL else {})}
    half_lives = {"half_life_days": 7.0, "half_life_events": 3.0}
    changes: dict[str, Any] = {"elsewhere": 0.1, "epochs": 2, "own": 3.0, **half_lives}
    return one | {name: value for name, value in changes.items() if name in one}


def fitted(name: str, histories: Histories) -> Fitted:
    return FAMILIES[name].ranker(histories, "test", some_settings(FAMILIES[name]), seed=4)


def scores_of(answers: Dense | Sparse, row: int, num_items: int = NUM_ITEMS) -> NDArray[np.floating]:
    """Scores of all items, [1, I] or [2, I]: of a sparse answer, the order of equal ones, too."""
    found = answers.scores(np.array([row], np.int64))
    if isinstance(answers, Dense):
        assert isinstance(found, np.ndarray)
        return found
    assert not isinstance(found, np.ndarray)
    both_2I = np.full((2, num_items), -1.0)
    both_2I[:, found.item_C] = found.score_C, found.order_C
    return both_2I


def request_of(histories: Histories, row: int) -> pl.DataFrame:
    """What is known of the user before the event in a row, and the row with no item."""
    own = histories.events[int(histories.offset_U1[histories.user_idx_N[row]]) : row + 1]
    is_last = pl.int_range(pl.len()) == pl.len() - 1
    return own.with_columns(item_idx=pl.when(is_last).then(pl.lit(-1, pl.Int32)).otherwise("item_idx"))


@pytest.mark.parametrize("name", NAMES)
class TestConformance:
    """What holds for every family."""

    def test_request_is_answered_as_the_same_row_among_everybody(self, full: Histories, name: str) -> None:
        ranker = fitted(name, full)
        answers = ranker.on(full, "test")
        for row in evaluated_events(full, "test")[::3].tolist():
            query = query_histories(full, request_of(full, row))
            assert query.user_idx_N.tolist() == [0] * len(query.user_idx_N)
            found = scores_of(ranker.on(query, "test", full), len(query.item_idx_N) - 1)
            assert found == pytest.approx(scores_of(answers, row), rel=1e-6, abs=1e-7)

    def test_item_of_the_query_row_says_nothing(self, full: Histories, name: str) -> None:
        ranker, row = fitted(name, full), int(evaluated_events(full, "test")[-1])
        query = query_histories(full, request_of(full, row))
        last = len(query.item_idx_N) - 1
        other_N = query.item_idx_N.copy()
        other_N[last] = NUM_ITEMS - 1
        other = replace(query, item_idx_N=other_N)
        found = [scores_of(ranker.on(one, "test", full), last) for one in (query, other)]
        assert found[0].tolist() == found[1].tolist()

    def test_several_users_at_once_are_answered_as_each_alone(self, full: Histories, name: str) -> None:
        ranker = fitted(name, full)
        requests = [request_of(full, int(full.offset_U1[user + 1]) - 1) for user in (4, 1)]
        both, alone = query_histories(full, pl.concat(requests)), [query_histories(full, one) for one in requests]
        for user, one in enumerate(alone):
            expected = scores_of(ranker.on(one, "test", full), int(one.offset_U1[1]) - 1)
            found = scores_of(ranker.on(both, "test", full), int(both.offset_U1[user + 1]) - 1)
            assert found == pytest.approx(expected, rel=1e-6, abs=1e-7)

    def test_histories_of_one_user_in_frames_of_their_own_are_answered_as_each_alone(
        self, full: Histories, name: str
    ) -> None:
        """As in an explanation: the same query with other histories."""
        ranker, request = fitted(name, full), request_of(full, int(full.offset_U1[2]) - 1)
        shortened = [request, request[3:], request[-1:]]
        together = query_histories(full, shortened)
        for user, past in enumerate(shortened):
            alone = query_histories(full, past)
            expected = scores_of(ranker.on(alone, "test", full), past.height - 1)
            found = scores_of(ranker.on(together, "test", full), int(together.offset_U1[user + 1]) - 1)
            assert found == pytest.approx(expected, rel=1e-6, abs=1e-7)

    def test_stack_may_ask_about_no_row(self, full: Histories, name: str) -> None:
        """No user of the request has a history."""
        answers = fitted(name, full).on(query_histories(full, request_of(full, 40)[-1]), "test", full)
        none, log_share_I = np.zeros(0, np.int64), log_popular_shares(full, "test")
        assert len(Says.of(answers, none, log_share_I, name).at(none, none)) == 0


@pytest.mark.parametrize("name", NAMES)
def test_row_without_a_past_gets_what_can_be_said_of_anybody(full: Histories, name: str) -> None:
    ranker, request = fitted(name, full), request_of(full, 40)
    stranger = request[-1].with_columns(user_id=pl.lit("stranger"))
    alone, behind = query_histories(full, stranger), query_histories(full, pl.concat([request, stranger]))
    one, other = (scores_of(ranker.on(query, "test", full), len(query.user_idx_N) - 1) for query in (alone, behind))
    assert np.isfinite(one).all()
    assert one == pytest.approx(other, rel=1e-6, abs=1e-7)
    item = replace(alone, item_idx_N=np.array([5], np.int32))
    assert scores_of(ranker.on(item, "test", full), 0).tolist() == one.tolist()


def test_request_of_somebody_unknown_has_their_own_events(full: Histories) -> None:
    row = int(full.offset_U1[1]) - 1
    stranger = request_of(full, row).with_columns(user_id=pl.lit("somebody else"))
    query = query_histories(full, stranger.drop("split"))
    assert query.user_ids == ["somebody else"]
    assert set(query.split_N.tolist()) == {3}
    ranker = fitted("factorised transitions (FPMC)", full)
    assert isinstance(ranker, FactorisedTransitions)
    nobody = replace(ranker.factors, user_UR=np.zeros_like(ranker.factors.user_UR))
    expected = replace(ranker, factors=nobody).on(full, "test")
    found = scores_of(ranker.on(query, "test", full), len(query.item_idx_N) - 1)
    assert found == pytest.approx(scores_of(expected, row))


@pytest.mark.parametrize("name", NAMES)
def test_open_question_of_the_recommender_is_a_request(full: Histories, name: str) -> None:
    row = int(np.flatnonzero(full.events["latitude"].is_not_null().to_numpy() & (full.user_idx_N == 2))[-1])
    latitude, longitude, at = (full.events[column][row] for column in ("latitude", "longitude", "local_time"))
    context = RequestContext(at=at.isoformat())
    if full.location == "context":
        context = replace(context, place=f"{latitude},{longitude}")
    query = query_histories(full, open_question(full, request_of(full, row)[:-1], context))
    ranker = fitted(name, full)
    found = scores_of(ranker.on(query, "test", full), len(query.item_idx_N) - 1)
    assert found == pytest.approx(scores_of(ranker.on(full, "test"), row), rel=1e-6, abs=1e-7)


def test_past_events_of_items_added_since_are_left_out(full: Histories) -> None:
    request = request_of(full, 10)
    added = request[3].with_columns(item_idx=pl.lit(NUM_ITEMS, pl.Int32))
    query = query_histories(full, pl.concat([request[:4], added, request[4:]]))
    assert query.offset_U1.tolist() == [0, 11]
    assert query.item_idx_N[:-1].tolist() == full.item_idx_N[:10].tolist()


def test_what_everybody_did_is_counted_once_and_goes_with_the_histories(monkeypatch: pytest.MonkeyPatch) -> None:
    histories = everybody()
    assert stream_of(histories) is stream_of(histories)
    assert stream_of(everybody()) is not stream_of(histories)
    for name in ("transitions", "popularity by hour of week", "nearest"):
        fitted(name, histories).on(histories, "test")
    monkeypatch.setattr(Stream, "of", None)  # would fail if it were counted again
    fitted("popularity by hour of week", histories).on(histories, "test")
    gone, moves = weakref.ref(histories), weakref.ref(moves_of(histories))
    del histories
    gc.collect()
    assert gone() is None
    assert moves() is None


def test_what_is_kept_depends_on_further_arguments_and_cannot_be_written_to() -> None:
    counts = cached(lambda histories, item: np.flatnonzero(histories.item_idx_N == item))
    histories = everybody()
    assert counts(histories, 1) is counts(histories, 1)
    assert counts(histories, 2).tolist() != counts(histories, 1).tolist()
    with pytest.raises(ValueError, match="read-only"):
        counts(histories, 1)[0] = 3
