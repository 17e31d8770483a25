import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from whereupon.errors import DataError
from whereupon.eval.rankings import Rankings, ablated_folder, read_rankings, slug_of, write_rankings
from whereupon.eval.report.ablation import ablations
from whereupon.eval.report.runs import read_datasets, recorded
from whereupon.tests.eval.report_town import MODEL, STRONGEST, TEST, write_town


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_town(tmp_path_factory.mktemp("runs") / "town")


@pytest.fixture
def copy(town: Path, tmp_path: Path) -> Path:
    """A run folder to be spoilt."""
    shutil.copytree(town, tmp_path / "copy")
    return tmp_path / "copy"


def _facts(run: Path, name: str, **changes: object) -> None:
    path = run / "evaluation" / "test" / f"{slug_of(name)}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_rankers_come_best_first_and_ablations_apart(town: Path) -> None:
    [dataset] = read_datasets([town])
    assert [ranker.name for ranker in dataset.rankers] == [MODEL, STRONGEST, "own counts", "popularity", "random"]
    assert {ranker.name for ranker in dataset.ablations} == {
        f"{MODEL}, time removed", f"{MODEL}, weather removed", f"{MODEL}, weather shuffled"
    }  # fmt: skip
    assert (dataset.contender.name, dataset.reference.name) == (MODEL, STRONGEST)
    assert dataset.opponent is dataset.reference
    assert (dataset.name, dataset.split, dataset.part, len(dataset.row_E)) == ("town", "test", "test", TEST)


def test_order_is_by_the_metric_requested_and_those_without_it_are_reported(town: Path) -> None:
    [dataset] = read_datasets([town], "log-loss")
    assert [ranker.name for ranker in dataset.rankers] == [MODEL]
    assert "random in town has no log-loss, which needs log-probabilities, and is left out." in dataset.notes


def test_stack_of_priors_is_ours_and_no_baseline(copy: Path) -> None:
    _facts(copy, STRONGEST, kind="stack")
    [dataset] = read_datasets([copy])
    assert (dataset.contender.name, dataset.reference.name) == (MODEL, "own counts")
    for path in copy.glob(f"evaluation/test/{slug_of(MODEL)}*"):
        path.unlink()
    [dataset] = read_datasets([copy])
    assert (dataset.contender.name, dataset.reference.name) == (STRONGEST, "own counts")


def test_baselines_alone_have_the_best_as_contender_and_the_second_as_opponent(copy: Path) -> None:
    for path in copy.glob(f"evaluation/test/{slug_of(MODEL)}*"):
        path.unlink()
    [dataset] = read_datasets([copy])
    assert dataset.contender is dataset.reference
    assert dataset.opponent is not None
    assert dataset.opponent.name == "own counts"


def test_two_runs_of_the_same_data_share_a_section_and_what_is_the_same_is_shown_once(town: Path, copy: Path) -> None:
    folder = copy / "evaluation" / "test"
    ranked, facts = read_rankings(folder, slug_of(MODEL))
    worse = type(ranked)(ranked.row_E, ranked.rank_E + 1, ranked.item_EK, ranked.score_EK, ranked.log_prob_E)
    write_rankings(folder, slug_of(MODEL), worse, facts)
    [dataset] = read_datasets([town, copy])
    assert [ranker.name for ranker in dataset.rankers].count("random") == 1
    assert {MODEL, f"{MODEL} (copy)"} <= {ranker.name for ranker in dataset.rankers}
    assert "random is the same in town and copy, and is shown once." in dataset.notes
    assert dataset.runs == [town, copy]


def test_runs_of_different_data_have_a_section_each(town: Path, tmp_path: Path) -> None:
    other = write_town(tmp_path / "village", seed=9, name="village")
    assert [dataset.name for dataset in read_datasets([town, other, town])] == ["town", "village"]


def test_rankers_of_different_events_are_judged_on_those_in_common(copy: Path) -> None:
    folder = copy / "evaluation" / "test"
    ranked, facts = read_rankings(folder, "random")
    write_rankings(folder, "random", ranked.take(np.arange(500, TEST)), facts)
    [dataset] = read_datasets([copy])
    assert {len(ranker.value_E["nDCG@10"]) for ranker in dataset.rankers} == {1500}
    assert np.array_equal(dataset.row_E, ranked.row_E[500:])
    assert any("judged on the 1,500" in note for note in dataset.notes)


def test_rankings_of_other_data_than_the_run_holds_now_are_left_out(copy: Path) -> None:
    _facts(copy, "random", data_hash="of yesterday")
    [dataset] = read_datasets([copy])
    assert "random" not in {ranker.name for ranker in dataset.rankers}
    assert any(note.startswith("random in copy was ranked on other data") for note in dataset.notes)


def test_rankings_of_another_task_are_left_out(copy: Path) -> None:
    for name in (MODEL, STRONGEST, "own counts", "popularity"):
        _facts(copy, name, task="a")
    _facts(copy, "random", task="b")
    [dataset] = read_datasets([copy])
    assert "random" not in {ranker.name for ranker in dataset.rankers}
    assert "Left out, as they ranked other events or candidates: random." in dataset.notes


def test_run_without_rankings_is_refused(town: Path, tmp_path: Path) -> None:
    shutil.copytree(town / "histories", tmp_path / "histories")
    with pytest.raises(DataError, match="run `whereupon evaluate`"):
        read_datasets([tmp_path])


def test_split_that_is_not_there_names_those_that_are(copy: Path) -> None:
    shutil.copytree(copy / "evaluation" / "test", copy / "evaluation" / "valid")
    with pytest.raises(DataError, match="should hold the split 'test-50' but holds test, valid"):
        read_datasets([copy], split="test-50")
    assert read_datasets([copy], split="valid")[0].part == "valid"


def test_only_split_is_taken_and_of_several_without_test_one_must_be_chosen(copy: Path) -> None:
    (copy / "evaluation" / "test").rename(copy / "evaluation" / "test-2000")
    assert read_datasets([copy])[0].split == "test-2000"
    shutil.copytree(copy / "evaluation" / "test-2000", copy / "evaluation" / "valid")
    with pytest.raises(DataError, match="several splits, none of them test: test-2000, valid"):
        read_datasets([copy])


def test_no_event_in_common_is_refused(copy: Path) -> None:
    folder = copy / "evaluation" / "test"
    for name, part in (("random", slice(0, 10)), ("popularity", slice(10, 20))):
        ranked, facts = read_rankings(folder, name)
        write_rankings(folder, name, ranked.take(np.arange(TEST)[part]), facts)
    with pytest.raises(DataError, match="no event in common"):
        read_datasets([copy])


def test_files_of_the_summary_are_no_rankers(copy: Path) -> None:
    (copy / "evaluation" / "test" / "summary.json").write_text("{}")
    assert len(read_datasets([copy])[0].rankers) == 5
    assert "summary" not in {ranker.slug for ranker in read_datasets([copy])[0].rankers}


def test_facts_without_rankings_are_reported(copy: Path) -> None:
    (copy / "evaluation" / "test" / "random.parquet").unlink()
    [dataset] = read_datasets([copy])
    assert "random" not in {ranker.name for ranker in dataset.rankers}
    assert "The rankings 'random' in copy have lost their Parquet file, and are left out." in dataset.notes


@pytest.mark.parametrize("text", ["{", "[]", '{"evaluate": null, "ablate": 3}'])
def test_damaged_record_of_verbs_is_none(copy: Path, text: str) -> None:
    (copy / "run.json").write_text(text)
    assert recorded(copy) == {}


def test_lists_that_are_too_short_for_a_metric_do_not_have_it(copy: Path) -> None:
    folder = copy / "evaluation" / "test"
    ranked, facts = read_rankings(folder, "random")
    rank_E = np.where(ranked.rank_E > 5, 0, ranked.rank_E)
    write_rankings(
        folder, "random", Rankings(ranked.row_E, rank_E, ranked.item_EK[:, :5], ranked.score_EK[:, :5]), facts
    )
    [dataset] = read_datasets([copy])
    note = "random in copy has no nDCG@10, as 5 items of each ranking were kept (`evaluate.k`), and is left out."
    assert note in dataset.notes
    [shallow] = [one for one in read_datasets([copy], "recall@5")[0].rankers if one.name == "random"]
    assert set(shallow.value_E) == {"recall@1", "recall@5"}


def _sample(run: Path, limit: int) -> Path:
    """Rankings of the first `limit` events in a folder of their own, as `ablate --limit` leaves them."""
    whole, folder = run / "evaluation" / "test", run / "evaluation" / f"test-{limit}"
    events = read_datasets([run], split="test")[0].histories.events
    for slug in (slug_of(MODEL), *(path.stem for path in whole.glob("*removed.json"))):
        ranked, facts = read_rankings(whole, slug)
        parts = [None if one is None else one[:limit] for one in vars(ranked).values()]
        write_rankings(folder, slug, Rankings(*parts), facts, events)
    (folder / "ablation.json").write_text("{}")
    return folder


def test_ablation_of_a_sample_is_shown_as_one_where_the_whole_split_has_none(copy: Path) -> None:
    folder = copy / "evaluation" / "test"
    for limit in (20, 60):
        _sample(copy, limit)
    (copy / "evaluation" / "test-latest").mkdir()
    (copy / "evaluation" / "test-latest" / "ablation.json").write_text("{}")
    assert ablated_folder(folder) == (folder.with_name("test-60"), 60)
    for path in folder.glob("*removed.*"):
        path.unlink()
    for path in folder.glob("*shuffled.*"):
        path.unlink()
    [dataset] = read_datasets([copy])
    [group], notes = ablations(dataset, 7)
    assert (notes, [one["what"] for one in group["variants"]]) == ([], ["time", "weather"])
    assert group["sample"] == (60, len(np.unique(dataset.user_E[:60])))
    assert group["estimate"].mean == pytest.approx(dataset.contender.value_E["nDCG@10"][:60].mean())

    (folder / "ablation.json").write_text("{}")
    assert ablated_folder(folder) == (folder, None)


def test_ablation_of_a_sample_of_other_data_is_not_shown(copy: Path) -> None:
    sample = _sample(copy, 60)
    for path in (copy / "evaluation" / "test").glob("*[rs][eh]*ed.*"):
        path.unlink()
    for path in sample.glob("*.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"data_hash": "another"}))
    [dataset] = read_datasets([copy])
    assert not dataset.ablations
    assert ablations(dataset, 7) == ([], [])


def test_nothing_ablated_has_no_folder(tmp_path: Path) -> None:
    assert ablated_folder(tmp_path / "evaluation" / "test") is None
