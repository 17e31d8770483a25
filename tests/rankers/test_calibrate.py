import json
import shutil
from collections.abc import Callable

import polars as pl
import pytest

from whereupon.config import Config
from whereupon.decode.adapters import current_adapter
from whereupon.errors import DataError, ModelError
from whereupon.eval import stacking
from whereupon.eval.run import evaluate
from whereupon.eval.stacking import calibrate_run
from whereupon.rankers import calibrate
from whereupon.rankers.fitting import Calibration

Town = Callable[..., Config]
PRIORS = "priors=[popularity, own counts, transitions]"


def _of_all(fitted: dict[str, Calibration]) -> float:
    """Log-loss of all events; known where the stack has one pool."""
    assert list(fitted) == ["new"]
    return fitted["new"].nll_after


def test_temperature_alone_is_fitted_where_there_are_no_priors(
    town_copy: Town, capsys: pytest.CaptureFixture[str]
) -> None:
    config = town_copy()
    capsys.readouterr()
    fitted = calibrate_run(config)
    assert list(fitted) == ["new"]
    assert fitted["new"].weight == 0
    assert fitted["new"].nll_after <= fitted["new"].nll_before
    written = json.loads((current_adapter(config.run) / "pools.json").read_text())
    assert written["priors"] == "none"
    assert written["pools"]["new"] == {"temperature": fitted["new"].temperature, "weight": 0}
    assert "all items" in capsys.readouterr().out


def test_parts_that_are_fitted_are_no_worse_than_as_trained(on_top_copy: Town) -> None:
    config = on_top_copy()
    for one in calibrate_run(config).values():
        assert one.nll_after <= one.nll_before


@pytest.mark.parametrize("priors", ["none", "[popularity]"])
def test_evaluation_finds_the_log_loss_that_the_fit_promised(town_copy: Town, priors: str) -> None:
    config = town_copy(f"priors={priors}", "evaluate.baselines=[]")
    promised = _of_all(calibrate_run(config))
    result = evaluate(config, split="valid")[-1]
    assert result.metrics["log-loss"] == pytest.approx(promised, rel=1e-4)


def test_pools_of_another_stack_are_fitted_again_and_their_log_loss_is_lower(town_copy: Town) -> None:
    with_one, with_more = (
        _of_all(calibrate_run(town_copy(f"priors={priors}"))) for priors in ("none", "[popularity, transitions]")
    )
    assert with_more < with_one, "a model that has hardly learnt anything gains by what counting knows"


def test_calibration_needs_an_adapter_and_validation_events(town_copy: Town) -> None:
    config = town_copy()
    adapters = config.run / "adapters"
    shutil.move(adapters, config.run / "kept")
    with pytest.raises(ModelError, match=r"^There is no trained adapter"):
        calibrate_run(config)
    shutil.move(config.run / "kept", adapters)
    events = config.run / "histories" / "events.parquet"
    pl.read_parquet(events).with_columns(split=pl.lit("train")).write_parquet(events)
    with pytest.raises(DataError, match=r"^The valid split should have events"):
        calibrate_run(config)


def test_part_with_few_events_stays_as_it_was_trained(on_top_copy: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacking, "GATE_GAIN", -1e9)  # a gate and two parts in any case
    monkeypatch.setattr(calibrate, "_LEAST_EVENTS", 10**6)
    config = on_top_copy("priors=[own counts, transitions]")
    assert list(calibrate_run(config)) == ["again", "new"]
    written = json.loads((current_adapter(config.run) / "pools.json").read_text())
    assert written["pools"] == {part: {"temperature": 1, "weight": 1} for part in ("again", "new")}
    assert written["fitted"]["new"]["nll_after"] is None
