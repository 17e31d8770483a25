import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from whereupon.errors import DataError
from whereupon.eval.metrics import per_event
from whereupon.eval.rankings import read_rankings, slug_of, write_rankings
from whereupon.eval.report import compare
from whereupon.tests.eval.report_town import MODEL, STRONGEST, TEST, write_town


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_town(tmp_path_factory.mktemp("compare") / "town")


def _compare(a: str, b: str, **options: object) -> dict[str, Any]:
    return compare(a, b, **({"split": None, "metric": "nDCG@10", "seed": 7, "as_json": False} | options))  # type: ignore[arg-type]


def _values(town: Path, name: str) -> np.ndarray:
    return per_event(read_rankings(town / "evaluation" / "test", slug_of(name))[0].rank_E)["nDCG@10"]


def test_difference_is_that_of_the_means(town: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = _compare(f"{town}:{slug_of(MODEL)}", f"{town}:popularity")
    ours, theirs = _values(town, MODEL), _values(town, "popularity")
    assert (found["a"]["mean"], found["b"]["mean"]) == pytest.approx((ours.mean(), theirs.mean()))
    assert found["difference"]["mean"] == pytest.approx((ours - theirs).mean())
    assert found["difference"]["low"] < found["difference"]["mean"] < found["difference"]["high"]
    assert found["difference"]["p"] < 0.001
    said = capsys.readouterr().out
    assert "A is significantly better than B." in said
    assert f"nDCG@10 on {TEST:,} events" in said


def test_catch_of_the_protocol_is_reported(town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(town, tmp_path / "loo")
    path = tmp_path / "loo" / "histories" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["settings"]["split"]["protocol"] = "leave_one_out"
    path.write_text(json.dumps(manifest))
    found = _compare(f"{tmp_path / 'loo'}:random", f"{tmp_path / 'loo'}:popularity")
    assert "leave_one_out: what is trained has seen" in capsys.readouterr().out
    assert found["caveats"] == list(found["caveats"]) != []


def test_comparison_on_validation_says_that_it_was_chosen_on(
    town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shutil.copytree(town, tmp_path / "copy") / "evaluation"
    shutil.move(path / "test", path / "valid")
    for facts in (path / "valid").glob("*.json"):
        facts.write_text(facts.read_text().replace('"split": "test"', '"split": "valid"'))
    _compare(f"{tmp_path / 'copy'}:random", f"{tmp_path / 'copy'}:popularity")
    assert "judge by those of the test split" in capsys.readouterr().out


def test_swapped_sides_swap_the_sign(town: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = _compare(f"{town}:{slug_of(MODEL)}", f"{town}:{slug_of(STRONGEST)}")
    other = _compare(f"{town}:{slug_of(STRONGEST)}", f"{town}:{slug_of(MODEL)}")
    assert other["difference"]["mean"] == pytest.approx(-one["difference"]["mean"])
    assert other["difference"]["p"] == pytest.approx(one["difference"]["p"])
    assert {event["row"] for event in other["events"]} == {event["row"] for event in one["events"]}


def test_ranker_compared_with_itself_may_be_chance_and_has_no_events(
    town: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = _compare(f"{town}:random", f"{town}:random")
    assert (found["difference"]["mean"], found["difference"]["p"], list(found["events"])) == (0, 1, [])
    assert "The difference may be chance." in capsys.readouterr().out


def test_slices_come_with_their_counts_and_add_up(town: Path) -> None:
    found = _compare(f"{town}:{slug_of(MODEL)}", f"{town}:random")
    dayparts = [one for one in found["slices"] if one["slice"] == "daypart"]
    assert sum(one["difference"]["num_events"] for one in dayparts) == TEST
    whole = sum(one["difference"]["mean"] * one["difference"]["num_events"] for one in dayparts) / TEST
    assert whole == pytest.approx(found["difference"]["mean"])
    ps = [one["difference"]["p"] for one in found["slices"]]
    assert ps == sorted(ps)


def test_slices_of_too_few_events_are_not_tested_and_that_is_said(
    town: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = _compare(f"{town}:{slug_of(MODEL)}", f"{town}:random")
    assert min(one["difference"]["num_events"] for one in found["slices"]) >= 20
    assert found["num_thin_slices"] == 2
    assert "2 slices of fewer than 20 events left out." in capsys.readouterr().out


def test_events_shown_are_those_that_differ_most(town: Path) -> None:
    found = _compare(f"{town}:{slug_of(MODEL)}", f"{town}:{slug_of(STRONGEST)}")
    gap_E = _values(town, MODEL) - _values(town, STRONGEST)
    gaps = [event["difference"] for event in found["events"]]
    assert gaps[:5] == pytest.approx(np.sort(gap_E)[::-1][:5])
    assert gaps[5:] == pytest.approx(np.sort(gap_E)[:5][::-1])
    for event in found["events"]:
        assert 1 in (event["rank_a"], event["rank_b"])  # one of them was right at once, in the worst of cases


def test_files_are_compared_like_runs(town: Path) -> None:
    folder = town / "evaluation" / "test"
    by_file = _compare(str(folder / f"{slug_of(MODEL)}.parquet"), str(folder / "random.json"))
    assert by_file == _compare(f"{town}:{slug_of(MODEL)}", f"{town}:random")


def test_name_of_a_ranker_serves_for_its_slug(town: Path) -> None:
    assert _compare(f"{town}:{MODEL}", f"{town}:own counts")["b"]["name"] == "own counts"


def test_json_holds_the_same_and_nothing_that_json_lacks(town: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = _compare(f"{town}:{slug_of(MODEL)}", f"{town}:random", as_json=True)
    said = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert said["difference"]["mean"] == found["difference"]["mean"]
    assert said["a"]["name"] == MODEL
    assert len(said["slices"]) == len(found["slices"])
    assert said["events"][0]["user_id"] == found["events"][0]["user_id"]


def test_files_far_from_their_run_are_compared_without_slices(town: Path, tmp_path: Path) -> None:
    import polars as pl

    events = pl.read_parquet(town / "histories" / "events.parquet")
    for name in (MODEL, "random"):
        ranked, facts = read_rankings(town / "evaluation" / "test", slug_of(name))
        write_rankings(tmp_path, slug_of(name), ranked, facts, events)
    alone = _compare(str(tmp_path / f"{slug_of(MODEL)}.parquet"), str(tmp_path / "random.parquet"))
    whole = _compare(f"{town}:{slug_of(MODEL)}", f"{town}:random")
    assert (alone["difference"], list(alone["slices"])) == (whole["difference"], [])
    assert [event["user_id"] for event in alone["events"]] == [event["user_id"] for event in whole["events"]]


def test_file_that_does_not_say_whose_events_they_are_is_refused_without_its_run(town: Path, tmp_path: Path) -> None:
    for name in (MODEL, "random"):
        write_rankings(tmp_path, slug_of(name), *read_rankings(town / "evaluation" / "test", slug_of(name)))
    with pytest.raises(DataError, match=r"should say user_id"):
        _compare(str(tmp_path / f"{slug_of(MODEL)}.parquet"), str(tmp_path / "random.parquet"))


def test_rankings_of_other_data_are_refused(town: Path, tmp_path: Path) -> None:
    other = write_town(tmp_path / "village", seed=9, name="village")
    with pytest.raises(DataError, match="should have the same data_hash"):
        _compare(f"{town}:random", f"{other}:random")


def test_rankings_of_other_candidates_are_refused_where_both_are_known(
    town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "town"
    shutil.copytree(town, run)
    folder = run / "evaluation" / "test"
    for slug, repeats in (("random", "excluded"), ("popularity", "allowed")):
        ranked, facts = read_rankings(folder, slug)
        write_rankings(folder, slug, ranked, {**facts, "protocol": {"repeats": repeats}})
    with pytest.raises(DataError, match=r"same evaluate\.repeats, but have excluded and allowed"):
        _compare(f"{run}:random", f"{run}:popularity")
    assert _compare(f"{run}:random", f"{run}:own counts")["difference"]["num_events"] == TEST


def test_events_of_one_side_alone_are_counted(town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "town"
    shutil.copytree(town, run)
    ranked, facts = read_rankings(run / "evaluation" / "test", "random")
    write_rankings(run / "evaluation" / "test", "random", ranked.take(np.arange(0, TEST, 2)), facts)
    found = _compare(f"{run}:popularity", f"{run}:random")
    assert (found["difference"]["num_events"], found["num_left_out"]) == (1000, 1000)
    assert "1,000 events that only one of the two answered are left out." in capsys.readouterr().out


@pytest.mark.parametrize("where", ["nothing", ":random", "town:"])
def test_argument_that_names_no_ranking_is_a_users_error(where: str) -> None:
    with pytest.raises(DataError, match="RUN:ranker"):
        _compare(where, where)


def test_ranker_that_is_not_there_names_those_that_are(town: Path) -> None:
    with pytest.raises(DataError, match=r"holds .*popularity, random"):
        _compare(f"{town}:randon", f"{town}:random")


def test_metric_that_one_lacks_is_refused(town: Path) -> None:
    with pytest.raises(DataError, match="has no log-loss"):
        _compare(f"{town}:{slug_of(MODEL)}", f"{town}:random", metric="log-loss")
