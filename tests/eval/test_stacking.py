"""A stack's members answer as they did when they were chosen."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pytest

from whereupon.config import load_config
from whereupon.errors import DataError
from whereupon.eval import stacking
from whereupon.eval.stacking import SLOW, SMALL, _Candidates, _names, is_chosen, run_stack
from whereupon.histories import prepare, read_histories
from whereupon.rankers import saved
from whereupon.rankers.protocol import Dense
from whereupon.rankers.saved import read_stack
from whereupon.rankers.selection import Selected


def _answer(value: float) -> Dense:
    return Dense(lambda row_Q: np.full((len(row_Q), 1), value))


def test_one_pool_of_all_items_has_the_settings_that_its_weights_were_fitted_with() -> None:
    """A ranker may be tuned twice, on all events and on first visits; one of them is chosen, and the same is kept."""
    settings = {
        ("again", "EASE"): {"tuned": "all"},
        ("new", "EASE"): {"tuned": "new"},
        ("new", "ALS"): {"tuned": "new"},
    }
    answers = {("again", "EASE"): _answer(1.0), ("new", "EASE"): _answer(2.0), ("new", "ALS"): _answer(3.0)}
    for order in (1, -1):
        given = [dict(list(some.items())[::order]) for some in (settings, answers)]
        candidates = _Candidates(cast(Any, None), cast(Any, None), cast(Any, given[0]), cast(Any, given[1]))
        answered = {name: one.scores(np.zeros(1, np.int64))[0, 0] for name, one in candidates.of_pool("all").items()}
        members = candidates._members("all", Selected({"EASE": 0.5, "ALS": 0.5}, [], {}, 0.0, 0.0, 1))
        assert answered == {"EASE": 1.0, "ALS": 3.0}
        assert {name: one.settings["tuned"] for name, one in members.items()} == {"EASE": "all", "ALS": "new"}


def test_slow_ranker_is_a_candidate_of_small_catalogues_alone(make_town: Callable[..., Path], tmp_path: Path) -> None:
    config = load_config(make_town(tmp_path))
    prepare(config.histories, config.catalogue, config.run, config.seed)
    histories = read_histories(config.run)
    small = _names(config.model_copy(update={"priors": "auto"}), histories)
    items = pl.concat([histories.items] * (SMALL // histories.items.height + 1), how="vertical")
    large = _names(config.model_copy(update={"priors": "auto"}), replace(histories, items=items))
    assert all(SLOW in names for names in small.values())
    assert {pool: set(names) for pool, names in large.items()} == {
        pool: set(names) - {SLOW} for pool, names in small.items()
    }
    named = _names(config.model_copy(update={"priors": [SLOW]}), replace(histories, items=items))
    assert all(list(names) == [SLOW] for names in named.values())


def test_without_a_validation_event_it_is_said_that_nothing_is_chosen(
    make_town: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = ["priors=[popularity]", "histories.split.train=0.8", "histories.split.valid=0"]
    config = load_config(make_town(tmp_path), changes)
    prepare(config.histories, config.catalogue, config.run, config.seed)
    recipe = stacking.stack_recipe(config, read_histories(config.run))
    assert set(recipe.members("again")) == set(recipe.members("new")) == {"popularity"}
    said = " ".join("".join(capsys.readouterr()).split())
    assert "no validation event to choose rankers by" in said
    assert "histories.split.valid" in said
    assert "nan" not in said


def test_rankers_that_learn_something_else_now_are_chosen_and_fitted_again(
    make_town: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an earlier version of the program has saved may have weights of other features."""
    config = load_config(make_town(tmp_path), ["priors=[popularity]"])
    prepare(config.histories, config.catalogue, config.run, config.seed)
    histories = read_histories(config.run)
    for module in (saved, stacking):
        monkeypatch.setattr(module, "FORMAT", saved.FORMAT - 1)
    run_stack(config, histories, "test")
    assert is_chosen(config, histories)
    monkeypatch.undo()
    assert not is_chosen(config, histories)
    with pytest.raises(DataError, match="another version"):
        read_stack(config.run / "priors" / "stack", histories)
    run_stack(config, histories, "test")
    assert read_stack(config.run / "priors" / "stack", histories).recipe.members("new")
