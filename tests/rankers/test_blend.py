"""Model and stack in one: what is said where the two were pooled by an earlier version."""

from collections.abc import Callable
from pathlib import Path

import pytest

from whereupon.histories import Histories
from whereupon.rankers import blend
from whereupon.rankers.blend import read_pools, write_pools
from whereupon.rankers.pooling import Pools
from whereupon.rankers.stack import Member, StackRecipe, fit_stack


def test_pools_of_rankers_that_an_earlier_version_fitted_are_to_be_fitted_again(
    build: Callable[..., Histories], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(0, 0, 10, "train"), (0, 1, 20, "valid"), (1, 1, 15, "train"), (1, 2, 30, "test")]
    recipe = StackRecipe({}, {"popularity": Member({}, 1.0)}, {})
    stack, card = fit_stack(recipe, build(rows, 3), "test", 0), {"priors": recipe.identity}
    write_pools(tmp_path, recipe, Pools(), {})
    assert read_pools(card, tmp_path, stack) == Pools()
    assert "calibrate" not in capsys.readouterr().err
    monkeypatch.setattr(blend, "FORMAT", blend.FORMAT + 1)
    assert read_pools(card, tmp_path, stack) == Pools()
    said = capsys.readouterr().err
    assert "an earlier version of whereupon" in said
    assert "run `whereupon calibrate`" in said
    write_pools(tmp_path, None, Pools(), {})
    read_pools({}, tmp_path, None)
    assert "calibrate" not in capsys.readouterr().err
