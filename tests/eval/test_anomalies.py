"""Surprising events: what makes a score, that it knows nothing of the future, and that planted ones are found."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from whereupon.catalogue import CatalogueSettings
from whereupon.cli import app
from whereupon.config import load_config
from whereupon.eval.anomalies import FLAG_NATS, MIN_PAST, anomaly_table, score_events
from whereupon.eval.surprise import gaps_s, hour_ratio, item_ratio, speed_excess, speeds_kmh
from whereupon.histories import Histories, build_histories, prepare, read_histories
from whereupon.histories.simulation import TownSettings, simulate

Row = tuple[int, int, int, str]
Build = Callable[[Sequence[Row], int], Histories]
DAY = 86_400


def _routine(build: Build, odd: Sequence[Row] = (), days: int = 40) -> Histories:
    """Two people, each at their own place at 9 and 18 o'clock of every day, and what else there is."""
    rows = [
        (user, 2 * user + at, DAY * day + 3600 * hour, "train")
        for user in range(2)
        for day in range(days)
        for at, hour in enumerate((9, 18))
    ]
    return build([*rows, *odd], 4)


def _row_of(histories: Histories, user: int, time_s: int) -> int:
    return int(np.flatnonzero((histories.user_idx_N == user) & (histories.time_s_N == time_s))[0])


def test_item_of_the_other_person_is_surprising_and_the_own_one_is_not(build: Build) -> None:
    time = 39 * DAY + 14 * 3600
    histories = _routine(build, [(0, 2, time, "train")])
    total_N = score_events(histories, {}).total_N
    odd = _row_of(histories, 0, time)
    assert np.nanargmax(total_N) == odd
    assert total_N[odd] > FLAG_NATS
    usual = _row_of(histories, 0, 38 * DAY + 9 * 3600)
    assert total_N[usual] < 0


def test_night_is_surprising_to_who_comes_by_day(build: Build) -> None:
    time = 39 * DAY + 3 * 3600
    histories = _routine(build, [(0, 0, time, "train")])
    scores = score_events(histories, {})
    odd = _row_of(histories, 0, time)
    assert np.nanargmax(scores.hour_N) == odd
    table = anomaly_table(histories, scores)
    assert "hour 3" in table["reason"][odd]


def test_burst_is_surprising_by_its_pauses(build: Build) -> None:
    start = 39 * DAY + 9 * 3600
    histories = _routine(build, [(0, 0, start + second, "train") for second in (5, 10)])
    gap_N = score_events(histories, {}).gap_N
    assert {int(row) for row in np.argsort(-np.nan_to_num(gap_N, nan=-99.0))[:2]} == {
        _row_of(histories, 0, start + 5), _row_of(histories, 0, start + 10),
    }  # fmt: skip


def test_first_events_are_not_scored(build: Build) -> None:
    table = anomaly_table(histories := _routine(build), score_events(_routine(build), {}))
    scored = table["anomaly_nats"].is_not_null()
    assert scored.sum() == histories.events.height - 2 * MIN_PAST
    assert not table.filter(~scored)["flagged"].any()
    assert table.filter(~scored)["scored_by"].null_count() == 2 * MIN_PAST


def test_score_knows_nothing_of_what_comes_after_the_event(build: Build) -> None:
    rng = np.random.default_rng(3)
    rows = [(int(rng.integers(0, 3)), int(rng.integers(0, 4)), 5_003 * number, "train") for number in range(300)]
    whole = build(rows, 4)
    early = build(rows[:250], 4)
    row_Q = np.flatnonzero(whole.time_s_N < rows[250][2]).astype(np.int64)
    early_Q = np.arange(250, dtype=np.int64)
    for ratio in (lambda histories, row: item_ratio(histories, row)[0], hour_ratio):
        assert ratio(whole, row_Q) == pytest.approx(ratio(early, early_Q))


def test_counted_probability_is_that_of_a_count_by_hand(build: Build) -> None:
    # One user, items 0 0 1: after three events on two items, 2 / (3 + 2) of the mass is of all users' choices.
    histories = build([(0, item, at * 7 * DAY, "train") for at, item in enumerate((0, 0, 1, 0))], 2)
    _, prob_Q = item_ratio(histories, np.array([3]))
    popular = (2 + 10 * 3 / 5) / (3 + 10)  # 2 of 3 at this hour, and ten events of any hour, of counts 2 + 1 and 1 + 1
    first, second, third = np.exp(-np.array([14, 7, 0]) / 30)  # weights fall by e in 30 days
    own = (first + second) / (first + second + third)
    assert prob_Q[0] == pytest.approx(0.6 * own + 0.4 * popular)


def test_speed_beyond_an_airliner_counts(build: Build) -> None:
    histories = build([(0, 0, 0, "train"), (0, 1, 3600, "train"), (0, 0, 3600 + 36_000, "train")], 2)
    places = pl.DataFrame({"latitude": [0.0, 20.0, 0.0], "longitude": [0.0, 0.0, 0.0]})
    histories = build_histories(
        pl.concat([histories.events, places], how="horizontal"), histories.items, histories.manifest
    )
    speed_N = speeds_kmh(histories)
    assert np.isnan(speed_N[0])
    assert speed_N[1:] == pytest.approx([2223.9, 222.39], rel=1e-3)
    assert speed_excess(speed_N) == pytest.approx([0.0, np.log(2.2239), 0.0], abs=1e-3)
    assert np.isnan(gaps_s(histories)[0])


@pytest.fixture(scope="module")
def planted_town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small town in which 5 % of the events are by other people: its configuration, prepared."""
    folder = tmp_path_factory.mktemp("planted") / "town"
    simulate(TownSettings(people=30, days=60, anomalies=0.05), folder)
    config = load_config(folder / "town.yaml")
    prepare(config.histories, CatalogueSettings(), config.run, config.seed)
    return folder / "town.yaml"


def _area(score: pl.Series, is_true: pl.Series) -> float:
    pairs = score.filter(is_true).to_numpy()[:, None] - score.filter(~is_true).to_numpy()
    return float((pairs > 0).mean() + (pairs == 0).mean() / 2)


def test_events_of_other_people_are_found_and_the_table_is_one_of_events(planted_town: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["anomalies", str(planted_town), "--num", "3"])
    assert result.exit_code == 0, result.output
    config = load_config(planted_town)
    table = pl.read_parquet(config.run / "anomalies.parquet")
    truth = pl.read_parquet(planted_town.parent / "truth_events.parquet").cast({"time": table.schema["time"]})
    judged = table.join(truth.select("user_id", "item_id", "time", "is_anomaly"), on=["user_id", "item_id", "time"])
    assert judged.height == table.height == truth.height
    scored = judged.drop_nulls("anomaly_nats")
    assert _area(scored["anomaly_nats"], scored["is_anomaly"]) > 0.85
    flagged = scored.filter("flagged")
    assert flagged["is_anomaly"].mean() > 5 * scored["is_anomaly"].mean()
    assert table["user_id"][0] in result.stdout or "most surprising" in result.stdout
    again = load_config(planted_town, [
        f"run={tmp_path}", f"histories.events.path={config.run / 'anomalies.parquet'}",
        "histories.context_columns=[last_flagged]",
    ])  # fmt: skip
    prepare(again.histories, CatalogueSettings(), again.run, again.seed)
    events = read_histories(again.run).events
    assert events["last_flagged"].sum() == table["last_flagged"].sum()
    assert events["local_time"].to_list() == read_histories(config.run).events["local_time"].to_list()


def test_table_without_a_scored_event_says_so_in_a_whole_sentence(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("user_id,item_id,time\nu1,a,2024-01-01T10:00:00Z\n", encoding="utf-8")
    (tmp_path / "c.yaml").write_text("run: run\nhistories: {events: {path: events.csv}}\n", encoding="utf-8")
    for verb in ("prepare", "anomalies"):
        result = CliRunner().invoke(app, [verb, str(tmp_path / "c.yaml")])
        assert result.exit_code == 0, result.output
    assert "0 of 1 events scored" in result.stderr
    assert f"flagged (above {FLAG_NATS:g} nats)\n" in result.stderr
