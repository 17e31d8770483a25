"""Rankers and prompts that see the future are caught, each in its own way; honest ones are not."""

import dataclasses
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from whereupon.catalogue import Catalogue
from whereupon.cli import app
from whereupon.config import load_config
from whereupon.decode import windows as ranking
from whereupon.eval import FAMILIES, Ranker
from whereupon.eval.guard import check
from whereupon.eval.protocol import Task
from whereupon.histories import Histories, prepare
from whereupon.histories.candidates import Candidates, EvaluatedSplit
from whereupon.prompts import PromptEncoder, PromptSettings
from whereupon.rankers import families, popular, sequences
from whereupon.rankers.counting import Moves
from whereupon.rankers.families import UnfitDataError
from whereupon.rankers.own import OwnEvents
from whereupon.rankers.protocol import Dense

Build = Callable[..., Histories]
Scores = Callable[[Histories, int], NDArray[np.float64]]


@dataclass(frozen=True)
class Scored:
    """Ranks by a function of histories and row; with `fitted`, of the histories that it was made of."""

    score: Scores
    fitted: Histories | None = None

    def on(self, histories: Histories, split: EvaluatedSplit, known: Histories | None = None) -> Dense:
        tie_I = 1e-9 * np.arange(histories.items.height)  # popularity, which would break ties, may know of the future
        return Dense(
            lambda row_Q: np.stack([self.score(self.fitted or histories, row) for row in row_Q.tolist()]) - tie_I
        )


def _count(histories: Histories, of_N: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.bincount(histories.item_idx_N[of_N], minlength=histories.items.height).astype(float)


def strictly_earlier(histories: Histories, row: int) -> NDArray[np.float64]:
    return _count(histories, histories.time_s_N < histories.time_s_N[row])


def own_past(histories: Histories, row: int) -> NDArray[np.float64]:
    rows = np.arange(len(histories.user_idx_N))
    return _count(histories, (histories.user_idx_N == histories.user_idx_N[row]) & (rows < row))


def not_later(histories: Histories, row: int) -> NDArray[np.float64]:
    mine = histories.user_idx_N == histories.user_idx_N[row]
    return _count(histories, ~mine & (histories.time_s_N <= histories.time_s_N[row]))


def everything(histories: Histories, row: int) -> NDArray[np.float64]:
    return _count(histories, np.ones(len(histories.user_idx_N), bool))


def the_truth(histories: Histories, row: int) -> NDArray[np.float64]:
    return 1e-3 * _count(histories, np.arange(len(histories.user_idx_N)) == row)


def the_next_one(histories: Histories, row: int) -> NDArray[np.float64]:
    rows = np.arange(len(histories.user_idx_N))
    return _count(histories, (histories.user_idx_N == histories.user_idx_N[row]) & (rows == row + 1))


def trained(histories: Histories, row: int) -> NDArray[np.float64]:
    return _count(histories, histories.split_N < 2)


def trained_on_history_too(histories: Histories, row: int) -> NDArray[np.float64]:
    return _count(histories, histories.split_N != 2)


def how_many_events(histories: Histories, row: int) -> NDArray[np.float64]:
    return np.full(histories.items.height, float(len(histories.user_idx_N)))


def _random_task(build: Build, protocol: str, splits: Callable[[int], Sequence[str]]) -> Task:
    """Eight users of six events each at random on 12 items somewhere in New England; `splits` are those of a user."""
    random = np.random.default_rng(3)
    rows = [(u, int(random.integers(12)), 10 * n + u, splits(u)[n]) for u in range(8) for n in range(6)]
    histories = build(rows, 12)
    places = pl.DataFrame({"latitude": random.uniform(42, 43, 12), "longitude": random.uniform(-73, -72, 12)})
    histories = dataclasses.replace(
        histories,
        items=histories.items.hstack(places),
        events=histories.events.hstack(places[histories.item_idx_N.tolist()]),
        manifest=histories.manifest | {"settings": {"split": {"protocol": protocol}}},
    )
    row_E = np.flatnonzero(histories.split_N == 2).astype(np.int64)
    return Task(histories, "test", row_E, Candidates.of(histories))


@pytest.fixture(scope="module")
def task(build: Build) -> Task:
    """Each user's last two events are predicted; the one before is history."""
    return _random_task(build, "global_time", lambda user: ["train", "train", "train", "history", "test", "test"])


@pytest.fixture(scope="module")
def cold_task(build: Build) -> Task:
    """Three of the users are held out and predicted in the end, one for validation; what others do then is history."""
    splits = {
        **dict.fromkeys(range(3), ["history"] * 4 + ["test"] * 2),
        3: ["history"] * 3 + ["valid"] + ["history"] * 2,
        **dict.fromkeys(range(4, 8), ["train"] * 3 + ["history"] * 3),
    }
    return _random_task(build, "user_cold_start", splits.__getitem__)


@pytest.mark.parametrize("score", [strictly_earlier, own_past, trained])
def test_ranker_of_the_past_is_found_so(task: Task, score: Scores) -> None:
    report = check(Scored(score), task, num=10, seed=1, name="honest")
    assert report.violations == []
    assert (report.name, report.num_events, len(report.checks)) == ("honest", 10, 20)
    assert report.num_changed > 1


@pytest.mark.parametrize("score", [not_later, everything, the_truth, the_next_one])
def test_ranker_of_the_future_is_caught(task: Task, score: Scores) -> None:
    report = check(Scored(score), task, num=10, seed=1)
    assert report.violations
    assert {violation.row for violation in report.violations} <= set(task.row_E.tolist())


def test_score_alone_betrays_and_is_reported(task: Task) -> None:
    report = check(Scored(how_many_events), task, num=1, seed=1)
    [violation] = report.violations
    assert violation.variant == "later events deleted"
    assert re.match(r"^the score at rank 1 is \d+, not 48$", violation.what)
    assert str(violation) == f"row {violation.row}, later events deleted: {violation.what}"


def test_truth_on_the_first_place_is_reported_with_both_items(task: Task) -> None:
    report = check(Scored(the_truth), task, num=1, seed=1)
    assert len(report.violations) == 2  # the item of the event is exchanged in both variants
    assert re.match(r"^rank 1 is of item item-\d+, not of item-\d+$", report.violations[0].what)


def test_fitting_on_the_future_is_caught_only_by_fitting_again(task: Task) -> None:
    assert check(Scored(everything, fitted=task.histories), task, num=5).violations == []
    report = check(lambda histories: Scored(everything, fitted=histories), task, num=5)
    assert {violation.variant for violation in report.violations} == {"fitted on other events"}
    assert check(lambda histories: Scored(trained, fitted=histories), task, num=5).violations == []


def test_history_events_are_not_to_be_fitted_on(task: Task) -> None:
    report = check(lambda histories: Scored(trained_on_history_too, fitted=histories), task, num=5)
    assert {violation.variant for violation in report.violations} == {"fitted on other events"}


def test_held_out_users_count_for_no_other(cold_task: Task) -> None:
    def shared(histories: Histories, row: int) -> NDArray[np.float64]:
        return _count(histories, histories.shared_N & (histories.time_s_N < histories.time_s_N[row]))

    report = check(Scored(strictly_earlier), cold_task, num=6)
    assert {violation.variant for violation in report.violations} == {"held-out users changed"}
    report = check(Scored(shared), cold_task, num=6)
    assert report.violations == []
    assert len(report.checks) == 18


def test_equal_time_of_another_user_is_not_the_past(build: Build) -> None:
    """No two events of the original share a second: the altered futures make some that do."""
    rows = [(u, u % 3, 7 * n + u, "train" if n < 2 else "test") for u in range(4) for n in range(3)]
    histories = build(rows, 3)
    assert len(set(histories.time_s_N.tolist())) == len(rows)
    task = Task(histories, "test", np.flatnonzero(histories.split_N == 2).astype(np.int64), Candidates.of(histories))
    assert check(Scored(not_later), task, num=4).violations


def test_excluded_repeats_are_excluded_by_the_past_alone(task: Task) -> None:
    def seen(histories: Histories, row: int) -> NDArray[np.float64]:
        return Candidates.of(histories, "excluded").allowed(np.array([row]))[0].astype(float)

    excluded = dataclasses.replace(task, candidates=Candidates.of(task.histories, "excluded"))
    assert check(Scored(seen), excluded, num=10).violations == []


QUICK = sorted(name for name, family in FAMILIES.items() if family not in families.NETWORKS)


@pytest.mark.parametrize("name", QUICK)
def test_each_quick_baseline_sees_only_the_past(task: Task, cold_task: Task, name: str) -> None:
    family = FAMILIES[name]
    for asked, settings in itertools.product((task, cold_task), (family.grid()[0], family.grid()[-1])):

        def make(histories: Histories, settings: Mapping[str, Any] = settings) -> Ranker:
            return family.ranker(histories, "test", settings, 0)

        try:
            report = check(make, asked, num=4, name=name)
        except UnfitDataError as error:  # a package that is not installed
            pytest.skip(str(error))
        assert report.violations == []


@pytest.fixture
def _one_thread() -> Iterator[None]:
    """Tiny networks are slower on several threads, and sums in another order are another answer."""
    torch = pytest.importorskip("torch")
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


def _network(name: str) -> Callable[[Histories], Ranker]:
    family = FAMILIES[name]
    settings = {**family.grid()[0], "hidden": 4, "layers": 1, "max_epochs": 2, "epochs_unwatched": 2}
    if family in families.SEQUENTIAL:
        settings["length"] = 6
    return lambda histories: family.ranker(histories, "test", settings, 0)


@pytest.mark.usefixtures("_one_thread")
@pytest.mark.parametrize("name", sorted({*FAMILIES} - {*QUICK}))
def test_each_network_sees_only_the_past(task: Task, name: str) -> None:
    report = check(_network(name), task, num=4, name=name)
    assert report.violations == []
    assert report.num_changed > 1


@pytest.mark.usefixtures("_one_thread")
def test_network_that_reads_the_event_itself_is_caught(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    def before(histories: Histories, row_Q: NDArray[np.int64], length: int) -> sequences.Windows:
        found = honest(histories, row_Q, length)
        return dataclasses.replace(found, row_WL=found.row_WL + found.real_WL)

    honest = sequences.windows_before
    monkeypatch.setattr("whereupon.rankers.sequences_networks.windows_before", before)
    report = check(_network("SASRec"), task, num=4)
    assert "later events changed" in {violation.variant for violation in report.violations}


def test_popularity_that_counts_the_predicted_split_is_caught(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    def of_all(histories: Histories, split: str) -> NDArray[np.float64]:
        count_I = _count(histories, np.ones(len(histories.user_idx_N), bool)) + 1.0
        return count_I / count_I.sum()

    def make(histories: Histories) -> Ranker:
        return FAMILIES["popularity"].ranker(histories, "test", {}, 0)

    assert check(make, task, num=5).violations == []
    monkeypatch.setattr(popular, "popular_shares", of_all)
    assert check(make, task, num=5).violations


def test_leak_of_leave_one_out_shows(build: Build) -> None:
    """Counting what was trained on counts the future there, which the split's documentation says."""
    rows = [(0, 0, 1, "train"), (0, 1, 2, "test"), (1, 2, 3, "train"), (1, 2, 4, "train"), (1, 0, 5, "test")]
    histories = build(rows, 3)
    task = Task(histories, "test", np.array([1]), Candidates.of(histories))
    assert check(Scored(trained), task).violations
    assert check(FAMILIES["popularity"].ranker(histories, "test", {}, 0), task).violations
    assert check(Scored(strictly_earlier), task).violations == []


class Words:
    """A tokenizer of whole words."""

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        return [[self.ids.setdefault(w, len(self.ids)) for w in re.findall(r"\n| ?[^\s:]+|:", t)] for t in texts]


class Leaky(PromptEncoder):
    """Offers its templates what was chosen, and what comes next."""

    def context(self, events: pl.DataFrame) -> pl.DataFrame:
        following = pl.col("item_id").shift(-1).over("user_idx")
        return super().context(events).hstack(events.select(pl.col("item_id").alias("choice"), following.alias("next")))


@pytest.fixture(scope="module")
def encoder_of(task: Task, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., PromptEncoder]:
    def encoder_of(kind: type[PromptEncoder], context: str, **settings: int) -> PromptEncoder:
        folder = tmp_path_factory.mktemp("templates")
        for name, text in (("context", context), ("profile", "x{{ count }}:"), ("preamble", "Log.")):
            (folder / f"{name}.j2").write_text(text, encoding="utf-8")
        words = Words()
        catalogue = Catalogue.build(task.histories.items, words)
        chosen = PromptSettings.model_validate({"template": str(folder), **settings})
        return kind.build(chosen, catalogue, words, "outcome")

    return encoder_of


SMALL = {"budget_tokens": 26, "profile_tokens": 6}  # two or three events a window, and a profile of those before


def test_prompt_of_the_past_is_found_so(task: Task, encoder_of: Callable[..., PromptEncoder]) -> None:
    report = check(encoder_of(Leaky, "{{ weekday }} {{ hour }}:", **SMALL), task, num=10, seed=1, name="prompts")
    assert report.violations == []
    assert (report.num_events, len(report.checks)) == (10, 20)


def test_filling_up_says_nothing_of_later_questions(
    task: Task, encoder_of: Callable[..., PromptEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Filled up to the last question of a window, prompts would reveal how long the titles until then are."""
    settings = {"budget_tokens": 60, "profile_tokens": 6, "align_tokens": 8}
    encoder = encoder_of(PromptEncoder, "{{ weekday }} {{ hour }}:", **settings)
    assert check(encoder, task, num=10, seed=1).violations == []
    monkeypatch.setattr(ranking, "encode_queries", lambda text, windows: text.encode_windows(windows))
    report = check(encoder, task, num=10, seed=1)
    assert report.violations
    assert all(re.match(r"^the prompt has \d+ tokens, not \d+$", one.what) for one in report.violations)


@pytest.mark.parametrize("context", ["{{ choice }}:", "{{ next }}:"])
def test_leaky_template_is_caught(task: Task, encoder_of: Callable[..., PromptEncoder], context: str) -> None:
    report = check(encoder_of(Leaky, context), task, num=10, seed=1)
    assert len({violation.row for violation in report.violations}) >= 5
    assert re.match(
        r"^(token \d+ of \d+ is another one|the prompt has \d+ tokens, not \d+)$", report.violations[0].what
    )


@pytest.fixture(scope="module")
def town(make_town: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = make_town(tmp_path_factory.mktemp("town"), people=4, days=10)
    config = load_config(path)
    prepare(config.histories, config.catalogue, config.run)
    return path


def test_verb_prints_a_table_and_ends_well(town: Path) -> None:
    done = CliRunner().invoke(app, ["guard", str(town), "--num", "2", "--baseline", "own counts + transitions"])
    assert done.exit_code == 0, done.output
    assert re.search(r"own counts \+ transitions\s+2\s+6\s+\d+\s+0", done.stdout)
    assert re.search(r"prompts\s+2\s+4\s+\d+\s+0", done.stdout)


def _count_moves_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    def before_time(self: Moves, time_s_Q: NDArray[np.int64], item_Q: NDArray[np.int64]) -> object:
        return honest(self, np.full_like(time_s_Q, 2**40), item_Q)  # as if all had happened

    honest = Moves.before_time
    monkeypatch.setattr(Moves, "before_time", before_time)


def test_verb_names_what_leaks_and_fails(town: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _count_moves_to_come(monkeypatch)
    options = ["--num", "20", "--baselines-only", "--baseline", "own counts + transitions"]
    done = CliRunner().invoke(app, ["guard", str(town), *options])
    assert done.exit_code == 1
    assert "own counts + transitions: row " in done.stderr
    assert "later events" in done.stderr


STACK = ["--num", "10", "--baseline", "popularity", "--set", "priors=[popularity, own counts + transitions]"]


def test_stack_is_checked_too(town: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = CliRunner().invoke(app, ["guard", str(town), *STACK])
    assert done.exit_code == 0, done.output
    assert re.search(r"stack of priors\s+10\s+30\s+\d+\s+0", done.stdout)

    _count_moves_to_come(monkeypatch)
    done = CliRunner().invoke(app, ["guard", str(town), *STACK])
    assert done.exit_code == 1
    assert "stack of priors: row " in done.stderr


def test_stack_that_looks_at_the_event_itself_is_caught(town: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ranker of the stack that knows the answer, though it is fitted honestly."""

    def on(self: OwnEvents, histories: Histories, split: EvaluatedSplit, known: Histories | None = None) -> Dense:
        item_N, num_items = histories.item_idx_N, histories.items.height
        return Dense(lambda row_Q: np.log(0.9 * np.eye(num_items)[item_N[row_Q]] + 0.1 / num_items), True)

    monkeypatch.setattr(OwnEvents, "on", on)
    done = CliRunner().invoke(app, ["guard", str(town), *STACK])
    assert done.exit_code == 1
    assert "stack of priors: row " in done.stderr
    assert "popularity: row " not in done.stderr
