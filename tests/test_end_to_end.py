"""A planted answer: it rains, so they go to the cinema; it shines, so they go to the park. It must be learnt from the
weather, and must not be where the weather table is shuffled. Everything goes through the command line."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from whereupon.cli import app
from whereupon.decode.adapters import current_adapter
from whereupon.tests.texts import says

pytestmark = pytest.mark.slow  # trains until the answer is known

LEARNT = ["finetune.epochs=5", "finetune.learning_rate=0.01", "finetune.batch_tokens=512"]


def _run(verb: str, config: Path, *options: str, overrides: list[str] | None = None) -> Result:
    sets = [part for override in overrides or [] for part in ("--set", override)]
    return CliRunner().invoke(app, [verb, str(config), *options, *sets])


def _whole(config: Path) -> dict[str, float]:
    """Prepare, train and evaluate; the model's metrics on the test split."""
    for verb in ("prepare", "finetune", "evaluate"):
        result = _run(verb, config, overrides=LEARNT)
        assert result.exit_code == 0, result.output
    summary = json.loads((config.parent / "run" / "evaluation" / "test" / "summary.json").read_text())
    [model] = [entry for entry in summary["results"] if entry["kind"] == "model"]
    assert model["name"] == "fine-tuned model"
    baselines = [entry["metrics"]["recall@1"] for entry in summary["results"] if entry["kind"] == "baseline"]
    metrics: dict[str, float] = model["metrics"]
    return metrics | {"best baseline": max(baselines)}


def _shares(config: Path, overrides: list[str] = LEARNT) -> tuple[dict[str, float], dict[str, float]]:
    """Probability of each title for one person at one hour, in rain and in sunshine."""
    options = [
        "--user",
        "p03",
        "--at",
        "2024-01-21T14:00",
        "--weather",
        "rain, 18 C",
        "--versus",
        "clear, 18 C",
        "--json",
    ]
    result = _run("recommend", config, *options, overrides=overrides)
    assert result.exit_code == 0, result.output
    rain, shine = json.loads(result.stdout)
    return tuple({item["title"]: item["probability"] for item in said["items"]} for said in (rain, shine))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def town(make_town: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    config = make_town(tmp_path_factory.mktemp("town"), people=20, days=20, hidden=64)
    return config, _whole(config)


@pytest.fixture
def copy(town: tuple[Path, dict[str, float]], tmp_path: Path) -> Path:
    """The trained town's configuration, with everything it points to, free to be spoilt."""
    shutil.copytree(town[0].parent, tmp_path / "town")
    return tmp_path / "town" / "town.yaml"


def test_weather_is_learnt_far_beyond_what_counting_knows(town: tuple[Path, dict[str, float]]) -> None:
    _, metrics = town
    # Four in five visits follow the weather; the rest are any of three bars.
    assert metrics["recall@1"] > 0.75
    assert metrics["recall@1"] > metrics["best baseline"] + 0.2


def test_rain_and_shine_flip_the_first_item(town: tuple[Path, dict[str, float]]) -> None:
    rain, shine = _shares(town[0])
    assert max(rain, key=lambda title: rain[title]) == "Old Cinema"
    assert max(shine, key=lambda title: shine[title]) == "City Park"
    assert min(rain["Old Cinema"], shine["City Park"]) > 0.8


def test_weather_is_not_learnt_where_the_table_is_shuffled(make_town: Callable[..., Path], tmp_path: Path) -> None:
    config = make_town(tmp_path, people=20, days=20, hidden=64, shuffled=True)
    metrics = _whole(config)
    assert metrics["recall@1"] < 0.6
    assert metrics["recall@1"] < metrics["best baseline"] + 0.1
    rain, shine = _shares(config)
    assert abs(rain["Old Cinema"] - shine["Old Cinema"]) < 0.3


def _sentence(result: Result) -> str:
    """The one sentence of a user's error."""
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    return result.stderr.splitlines()[-1]


def test_adapter_is_not_evaluated_on_other_data_and_recommends_a_new_item(copy: Path) -> None:
    (copy.parent / "items.csv").write_text((copy.parent / "items.csv").read_text() + "pool,Swimming Pool\n")
    assert _run("prepare", copy).exit_code == 0
    assert re.search(says("other data", "`whereupon finetune`"), _sentence(_run("evaluate", copy, overrides=LEARNT)))
    result = _run("recommend", copy, "--user", "p03", overrides=LEARNT)
    assert result.exit_code == 0, result.output
    assert "Swimming Pool" in result.stdout


@pytest.mark.parametrize(
    ("override", "what"),
    [
        ("prompts.template=checkins", "prompt template"),
        ("prompts.budget_tokens=170", "set of prompt settings"),
        ("model.base=other", "base model"),
    ],
)
def test_adapter_for_another_text_or_model_is_refused(
    copy: Path, monkeypatch: pytest.MonkeyPatch, override: str, what: str
) -> None:
    monkeypatch.chdir(copy.parent)
    shutil.copytree(copy.parent / "model", copy.parent / "other")
    settings = copy.parent / "other" / "config.json"  # a mere copy would be the same model
    settings.write_text(settings.read_text().replace('"rms_norm_eps": ', '"rms_norm_eps": 1'))
    sentence = _sentence(_run("evaluate", copy, overrides=[override]))
    assert re.search(says(f"another {what}", "`whereupon finetune`"), sentence)


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "adapter_config.json", "whereupon.json"])
def test_corrupt_adapter_is_one_sentence(copy: Path, file: str) -> None:
    path = current_adapter(copy.parent / "run") / file
    path.write_bytes(path.read_bytes()[:100])
    assert "is corrupt" in _sentence(_run("recommend", copy, "--user", "p03"))


@pytest.mark.parametrize("verb", ["finetune", "evaluate", "recommend", "prompt"])
def test_unprepared_run_is_one_sentence(copy: Path, verb: str) -> None:
    shutil.rmtree(copy.parent / "run")
    user = ["--user", "p03"] if verb in ("recommend", "prompt") else []
    verbs = ["prompt", "show"] if verb == "prompt" else [verb]
    result = CliRunner().invoke(app, [*verbs, str(copy), *user])
    assert _sentence(result).endswith("holds no prepared histories; run `whereupon prepare` first.")


def test_missing_file_is_one_sentence(copy: Path) -> None:
    (copy.parent / "weather.csv").unlink()
    assert "weather.csv should be the file of weather but does not exist" in _sentence(_run("prepare", copy))


def test_misspelt_column_is_one_sentence(copy: Path) -> None:
    text = (copy.parent / "events.csv").read_text()
    (copy.parent / "events.csv").write_text(text.replace("item_id", "itemid", 1))
    assert "should have a column 'item_id'" in _sentence(_run("prepare", copy))
    assert "(did you mean 'itemid'?)" in _sentence(_run("prepare", copy))


def test_unknown_user_is_one_sentence(copy: Path) -> None:
    assert _sentence(_run("recommend", copy, "--user", "p3")).startswith(
        "There is no user 'p3' among 20; did you mean p"
    )


def test_title_longer_than_the_budget_is_one_sentence(copy: Path) -> None:
    text = (copy.parent / "items.csv").read_text()
    (copy.parent / "items.csv").write_text(text.replace("Old Cinema", "Old Cinema " * 80))
    assert _run("prepare", copy).exit_code == 0
    result = _run("finetune", copy, overrides=["prompts.budget_tokens=100"])
    assert "1 of 5 titles have more than 64 tokens and are cut" in result.output
    assert "does not fit into prompts.budget_tokens=100" in _sentence(result)


def test_baselines_are_evaluated_without_a_model(copy: Path) -> None:
    result = _run("evaluate", copy, "--baselines-only", "--split", "valid", overrides=["model.base=/nowhere"])
    assert result.exit_code == 0, result.output
    assert "own counts" in result.stdout
    assert "fine-tuned" not in result.stdout
