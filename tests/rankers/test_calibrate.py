import json
import shutil
from collections.abc import Callable

import polars as pl
import pytest

from whereupon.config import Config
from whereupon.errors import ConfigError, DataError, ModelError
from whereupon.eval.run import evaluate
from whereupon.histories import read_histories
from whereupon.rankers.calibrate import calibrate
from whereupon.rankers.context_prior import Pasts

KINDS = ["temperature", "popularity", "own counts", "context"]
Town = Callable[..., Config]


def test_every_kind_is_fitted_written_and_no_worse_than_the_model(
    town_copy: Town, capsys: pytest.CaptureFixture[str]
) -> None:
    config = town_copy()
    fitted = calibrate(config)
    assert list(fitted) == KINDS
    for one in fitted.values():
        assert one.nll_after <= one.nll_before
    assert fitted["temperature"].weight == 0
    assert fitted["popularity"].nll_after < fitted["temperature"].nll_after
    written = json.loads((config.run / "calibration.json").read_text())
    assert written["fitted"]["own counts"] == vars(fitted["own counts"])
    said = capsys.readouterr()
    best = min(fitted, key=lambda name: fitted[name].nll_after)
    assert said.err.rstrip().endswith(f"set decode.calibration: {best}")
    assert all(kind in said.out for kind in KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_finds_the_log_loss_that_the_fit_promised(town_copy: Town, kind: str) -> None:
    promised = calibrate(town_copy())
    config = town_copy(f"decode.calibration={kind}", "evaluate.baselines=[]")
    [result] = evaluate(config, split="valid")
    assert result.name.endswith(f", {kind}")
    assert result.metrics["log-loss"] == pytest.approx(promised[kind].nll_after, rel=1e-4)  # type: ignore[index]
    facts = config.run / "evaluation" / "valid" / f"fine-tuned-{kind.replace(' ', '-')}.json"
    told, fitted = json.loads(facts.read_text()), promised[kind]  # type: ignore[index]
    assert told["exact_share"] == 1
    assert told["calibration"] == {"temperature": fitted.temperature, "weight": fitted.weight}


def test_past_of_a_question_ends_right_before_it(town_copy: Town) -> None:
    histories = read_histories(town_copy().run)
    pasts = Pasts.of(histories)
    for row in range(histories.events.height):
        past, begin = pasts.before(row), histories.offset_U1[histories.user_idx_N[row]]
        assert past.item_M.tolist() == histories.item_idx_N[begin:row].tolist()
        assert past.time_s_M.tolist() == histories.time_s_N[begin:row].tolist()
        assert (past.time_s, past.local_s) == (histories.time_s_N[row], histories.time_s_N[row])  # the town is at UTC


def test_calibration_that_was_not_fitted_is_one_sentence(town_copy: Town) -> None:
    with pytest.raises(ConfigError, match=r"^There is no calibration in .*: run `whereupon calibrate` first, or set "):
        evaluate(town_copy("decode.calibration=temperature"), split="valid")


@pytest.mark.parametrize(
    "change", ["decode.prior.own_smoothing=3", "decode.prior.context.age_days=3", "model.dtype=bfloat16"]
)
def test_calibration_of_something_else_is_refused(town_copy: Town, change: str) -> None:
    calibrate(town_copy())
    with pytest.raises(ConfigError, match=r"is that of another model, adapter or prior: run `whereupon calibrate`"):
        evaluate(town_copy("decode.calibration=own counts", change), split="valid")


def test_base_model_is_evaluated_without_calibration_and_says_so(
    town_copy: Town, capsys: pytest.CaptureFixture[str]
) -> None:
    config = town_copy("decode.calibration=popularity", "evaluate.baselines=[]")
    [result] = evaluate(config, split="valid", use_adapter=False)
    assert result.name == "zero-shot model"
    assert "decode.calibration: popularity is left out" in capsys.readouterr().err


def test_calibration_needs_an_adapter_and_validation_events(town_copy: Town) -> None:
    config = town_copy()
    shutil.rmtree(config.run / "adapters")
    with pytest.raises(ModelError, match=r"^There is no trained adapter"):
        calibrate(config)
    events = config.run / "histories" / "events.parquet"
    pl.read_parquet(events).with_columns(split=pl.lit("train")).write_parquet(events)
    with pytest.raises(DataError, match=r"^The valid split should have events"):
        calibrate(config)
