from typing import get_args

import pytest
from pydantic import ValidationError

from whereupon.eval import FAMILIES, EvaluateSettings
from whereupon.rankers.settings import QUICK, BaselineName


def test_every_baseline_has_a_name_in_the_settings_and_the_reverse() -> None:
    assert list(FAMILIES) == list(get_args(BaselineName))
    assert all(family.name == name for name, family in FAMILIES.items())


def test_quick_baselines_run_by_default_in_the_order_of_the_registry() -> None:
    assert EvaluateSettings().baselines == [name for name in FAMILIES if name in QUICK]


def test_no_baselines_is_a_choice() -> None:
    assert EvaluateSettings(baselines=[]).baselines == []


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("split", "train", "'valid' or 'test'"),
        ("limit", 0, "greater than or equal to 1"),
        ("k", 5, "greater than or equal to 10"),
        ("baselines", ["popular"], "'popularity', 'recent popularity'"),
        ("baselines", ["popularity", "popularity"], "more than once"),
        ("repeats", "never", "'allowed' or 'excluded'"),
        ("cutoff", 10, "not permitted"),
    ],
)
def test_unfit_setting_is_refused(setting: str, value: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        EvaluateSettings.model_validate({setting: value})


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        EvaluateSettings().k = 20  # type: ignore[misc]
