"""Sections of the report by themselves, on numbers worked out by hand."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whereupon.eval.ablation_table import MEANINGS
from whereupon.eval.rankings import slug_of
from whereupon.eval.report.ablation import COUNTED, ablations
from whereupon.eval.report.runs import Dataset, Ranked
from whereupon.eval.report.sections import leaderboard, over_time, recall, recall_curves, reliability, slicing
from whereupon.eval.report.statistics import cells_of, differences, estimates
from whereupon.eval.significance import compare as significance_compare
from whereupon.eval.significance import paired
from whereupon.eval.slices import first_visits, slices_of
from whereupon.eval.wording import count, duration, p_value, plain, share, signed, span
from whereupon.histories import build_histories
from whereupon.tests.eval.report_town import MODEL, STRONGEST, TEST


@pytest.mark.parametrize(
    ("form", "value", "expected"),
    [
        (plain, 0.5424, "0.542"), (plain, -0.0004, "0.000"), (plain, -1.5, "−1.500"), (plain, None, "–"),  # noqa: RUF001
        (plain, float("inf"), "∞"), (signed, 0.012, "+0.012"), (signed, -0.012, "−0.012"), (signed, 0.0001, "0.000"),  # noqa: RUF001
        (p_value, 0.0004, "< 0.001"), (p_value, 0.04, "0.040"), (p_value, float("nan"), "–"), (count, 4113, "4,113"),  # noqa: RUF001
        (duration, 0.042, "0.04 s"), (duration, 62.0, "62 s"), (duration, 812.0, "14 min"),
        (duration, 11520.0, "3.2 h"), (share, 0.1234, "12.3\u202f%"),
    ],
)  # fmt: skip
def test_number_is_worded(form: Callable[[float | None], str], value: float | None, expected: str) -> None:
    assert form(value) == expected


def test_interval_is_in_words_so_that_no_dash_meets_a_minus() -> None:
    assert span(-0.01, 0.02, sign=True) == "−0.010 to +0.020"  # noqa: RUF001


def test_differences_agree_with_the_comparison_of_the_suite(dataset: Dataset) -> None:
    values = {ranker.name: {"nDCG@10": ranker.value_E["nDCG@10"]} for ranker in dataset.rankers}
    theirs = significance_compare(values, dataset.user_E, baseline=dataset.reference.name, seed=7)
    ours = {row.ranker.name: row.against for row in leaderboard(dataset, 7).rows if row.against}
    assert set(ours) == set(theirs["ranker"])
    for row in theirs.iter_rows(named=True):
        one = ours[row["ranker"]]
        expected = [row[name] for name in ("difference", "low", "high", "p", "p_holm")]
        assert [one.mean, one.low, one.high, one.p, one.p_holm] == pytest.approx(expected)


def test_first_visits_and_repeats_stand_beside_the_metric(dataset: Dataset) -> None:
    board, is_first_E = leaderboard(dataset, 7), first_visits(dataset.histories)[dataset.row_E]
    assert board.columns[:2] == ["nDCG@10 first visits", "nDCG@10 repeats"]
    for row in board.rows:
        value_E = row.ranker.value_E["nDCG@10"]
        for name, mask_E in zip(board.columns[:2], (is_first_E, ~is_first_E), strict=True):
            one = row.metrics[name]
            assert one is not None
            assert (one.mean, one.num_events) == (pytest.approx(value_E[mask_E].mean()), mask_E.sum())
            assert one.low < one.mean < one.high


def test_leaderboard_of_repeats_alone_has_no_column_for_them(dataset: Dataset) -> None:
    kept_E = np.flatnonzero(~first_visits(dataset.histories)[dataset.row_E])
    rankers = [replace(one, rankings=one.rankings.take(kept_E), value_E={m: v[kept_E] for m, v in one.value_E.items()})
               for one in dataset.rankers]  # fmt: skip
    only = replace(dataset, row_E=dataset.row_E[kept_E], rankers=rankers)
    assert not [name for name in leaderboard(only, 7).columns if "repeats" in name or "visits" in name]


def test_infinite_values_are_not_tested() -> None:
    infinite = np.array([np.inf, 1.0, 1.0, 1.0])
    assert paired(infinite, infinite).tolist() == [np.inf, 0, 0, 0]
    [one] = differences("x", lambda _: paired(infinite, np.ones(4)), np.arange(4), seed=0).values()
    assert (np.isnan(one.p), one.sign, one.has_interval) == (True, 0, False)


def test_no_columns_give_no_estimates() -> None:
    assert estimates([], lambda key: np.ones(3), np.arange(3), seed=0) == {}


@given(st.lists(st.integers(0, 12), min_size=1, max_size=30), st.integers(1, 10))
def test_recall_curve_is_recall_at_each_depth(ranks: list[int], depth: int) -> None:
    expected = [np.mean([1 <= rank <= k for rank in ranks]) for k in range(1, depth + 1)]
    assert recall(np.array(ranks, np.int64), depth) == pytest.approx(expected)


def test_curves_name_every_ranker_wide_and_number_it_narrow(dataset: Dataset) -> None:
    wide, narrow = re.findall(r"<svg.*?</svg>", recall_curves(dataset)["picture"], re.DOTALL)
    for place, ranker in enumerate(dataset.rankers, start=1):
        assert f">{place}  {ranker.name}</text>" in wide
        assert f">{place}</text>" in narrow
        assert ranker.name not in "".join(re.findall(r"<text.*?</text>", narrow))


def test_slices_of_one_property_add_up_to_all_events(dataset: Dataset) -> None:
    found = slicing(dataset, 7)
    assert found is not None
    titles = [panel["title"] for panel in found["panels"]]
    assert {"Time of day", "Weather", "Kind of day", "Distance from the last event", "Visit"} <= set(titles)
    frame = slices_of(dataset.histories, "test", dataset.row_E)
    counts = [num for name in frame.columns for num in frame[name].value_counts()["count"].to_list()]
    thin = [num for num in counts if num < 20]
    shown = [ours.num_events for panel in found["panels"] for _, ours, _, _ in panel["slices"]]
    assert sum(shown) + sum(thin) == TEST * len(found["panels"])
    assert min(shown) >= 20
    assert (found["num_tests"], found["num_thin"]) == (len(shown), len(thin))
    assert thin


def test_slices_of_too_few_events_are_counted_and_left_out_before_the_tests() -> None:
    kind = pl.Enum(["dry", "wet", "unknown"])
    frame = pl.DataFrame({
        "weather": pl.Series(["wet"] * 20 + ["unknown"] * 19 + ["dry"] * 21, dtype=kind),
        "user": pl.Series(["unknown"] * 60, dtype=kind),
    })  # fmt: skip
    assert cells_of(frame) == ([("weather", "dry"), ("weather", "wet")], 1)


def test_slice_of_a_daypart_has_the_mean_of_its_events(dataset: Dataset) -> None:
    hour_E = dataset.histories.events["local_time"].gather(dataset.row_E).dt.hour().to_numpy()
    expected = dataset.contender.value_E["nDCG@10"][hour_E // 6 == 1].mean()
    found = slicing(dataset, 7)
    assert found is not None
    [panel] = [panel for panel in found["panels"] if panel["title"] == "Time of day"]
    [(ours, theirs, against)] = [each for label, *each in panel["slices"] if label == "morning"]
    assert ours.mean == pytest.approx(expected)
    assert against.mean == pytest.approx(ours.mean - theirs.mean)


def test_days_have_the_means_of_their_events(dataset: Dataset) -> None:
    found = over_time(dataset, 7)
    assert found is not None
    assert found["unit"] == "day"
    day_E = dataset.histories.events["local_time"].gather(dataset.row_E).dt.date().to_list()
    start, num_events, each = found["steps"][2]
    mask_E = np.array([day == start for day in day_E])
    assert num_events == mask_E.sum()
    assert each[MODEL].mean == pytest.approx(dataset.contender.value_E["nDCG@10"][mask_E].mean())
    assert sum(num for _, num, _ in found["steps"]) == TEST


def test_long_test_periods_are_reported_by_week_beginning_on_monday(dataset: Dataset) -> None:
    events = dataset.histories.events
    slow = events["local_time"].min() + (events["local_time"] - events["local_time"].min()) * 6  # type: ignore[operator]
    histories = replace(dataset.histories, events=events.with_columns(slow.cast(pl.Datetime("us")).alias("local_time")))
    found = over_time(replace(dataset, histories=histories), 7)
    assert found is not None
    assert found["unit"] == "week"
    assert {start.weekday() for start, _, _ in found["steps"]} == {0}


def test_one_day_is_no_course_of_time(dataset: Dataset) -> None:
    day = pl.lit(date(2024, 1, 1)).cast(pl.Datetime("us")).alias("local_time")
    histories = replace(dataset.histories, events=dataset.histories.events.with_columns(day))
    assert over_time(replace(dataset, histories=histories), 7) is None


def test_ablations_stand_in_the_order_of_kinds_with_the_share_of_lines_that_changed(dataset: Dataset) -> None:
    [group], notes = ablations(dataset, 7)
    assert notes == []
    said = [(one["what"], one["how"], one["changed_share"]) for one in group["variants"]]
    assert said == [("time", "removed", None), ("weather", "removed", 0.41), ("weather", "shuffled", 0.41)]
    assert group["has_changed_shares"]
    assert group["ways"] == {how: meaning for how, meaning in MEANINGS.items() if how != "retrained"}
    differing = dataset.ablations[0].value_E["nDCG@10"] - dataset.contender.value_E["nDCG@10"]
    [first] = [one for one in group["variants"] if one["ranker"] is dataset.ablations[0]]
    assert first["against"].mean == pytest.approx(differing.mean())


def test_ablation_of_a_baseline_speaks_of_no_prompts_and_one_without_its_ranker_is_reported(dataset: Dataset) -> None:
    one, other, _ = dataset.ablations
    counted = replace(one, facts={**one.facts, "of": slug_of(STRONGEST)})
    lost = replace(other, facts={**other.facts, "of": "nobody"})
    [group], notes = ablations(replace(dataset, ablations=[counted, lost]), 7)
    assert group["whole"].name == STRONGEST
    assert set(group["ways"].values()) == {COUNTED}
    assert notes == [f"{other.name} is an ablation of nobody, which is not among the rankers."]


@pytest.mark.parametrize(("then", "now", "is_shown"), [
    ("a", "b", False), ("a", "a", True), (None, "b", True), ("a", None, True),
])  # fmt: skip
def test_ablation_of_a_model_that_was_trained_again_is_left_out_and_reported(
    dataset: Dataset, then: str | None, now: str | None, is_shown: bool
) -> None:
    first, *others = dataset.ablations
    wholes = [replace(one, facts={**one.facts, "key": now}) for one in dataset.rankers]
    earlier = replace(first, facts={**first.facts, "of_key": then})
    [group], notes = ablations(replace(dataset, rankers=wholes, ablations=[earlier, *others]), 7)
    assert (earlier in [one["ranker"] for one in group["variants"]]) == is_shown
    assert notes == ([] if is_shown else [f"{first.name} is an ablation of an earlier {MODEL}, and is left out."])


def test_calibration_is_shown_of_rankers_with_probabilities_alone(dataset: Dataset) -> None:
    [one] = reliability(dataset, 7)
    assert one["ranker"] is dataset.contender
    assert sum(right.num_events for _, right in one["bins"]) == TEST
    assert one["first"].confidence > one["first"].accuracy + 0.05  # made to be too sure of itself
    assert "too sure by" in one["picture"]


def test_bins_of_a_reliability_curve_have_intervals_over_users(dataset: Dataset) -> None:
    """Twice the same events of every user are worth as much as once: intervals over events would be narrower."""
    contender, rankings = dataset.contender, dataset.contender.rankings
    [once] = reliability(replace(dataset, rankers=[contender]), 7)
    assert [right.mean for _, right in once["bins"]] == pytest.approx(once["first"].equal_mass.accuracy_B)
    assert [right.num_events for _, right in once["bins"]] == once["first"].equal_mass.count_B.tolist()
    again_E = np.repeat(np.arange(TEST), 2)
    doubled = replace(
        rankings, row_E=np.arange(2 * TEST), rank_E=rankings.rank_E[again_E], item_EK=rankings.item_EK[again_E],
        score_EK=rankings.score_EK[again_E], log_prob_E=rankings.log_prob_E[again_E],  # type: ignore[index]
    )  # fmt: skip
    twice = replace(dataset, rankers=[replace(contender, rankings=doubled)], row_E=dataset.row_E[again_E])
    [other] = reliability(twice, 7)
    bounds = [[(right.low, right.high) for _, right in one["bins"]] for one in (once, other)]
    assert np.array(bounds[0]) == pytest.approx(np.array(bounds[1]))


def test_dataset_of_one_ranker_has_a_whole_report(dataset: Dataset) -> None:
    """Nothing to compare with, no weather, no places, one user: what is not known is left out, and nothing fails."""
    from whereupon.eval.report.page import render, section_of

    histories = dataset.histories
    mine = histories.user_idx_N[dataset.row_E] == histories.user_idx_N[dataset.row_E[0]]
    bare = build_histories(
        histories.events.drop("temperature_c", "precipitation_mm", "latitude", "longitude"),
        histories.items.drop("latitude", "longitude", "category"), histories.manifest,
    )  # fmt: skip
    only: Ranked = dataset.rankers[-1]
    few = replace(only, rankings=only.rankings.take(mine), value_E={n: v[mine] for n, v in only.value_E.items()})
    alone = Dataset("bare", "test", bare, dataset.row_E[mine], "nDCG@10", [few])
    html = render([section_of(alone, "data-1", 7)], "nDCG@10", 7)
    assert "there is nothing to compare it with." in html
    assert "data-1-map" not in html
    assert not re.search(r"\bnan\b", html, re.IGNORECASE)
