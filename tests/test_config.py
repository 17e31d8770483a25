import re
from pathlib import Path

import pytest

from whereupon.config import Config, load_config
from whereupon.errors import ConfigError
from whereupon.tests.texts import says

MINIMAL = "run: runs/toy\nhistories:\n  recipe: nycflights13\n"


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A minimal configuration; the run folder on line 1, histories from line 2."""
    return _write(tmp_path, MINIMAL)


def _write(folder: Path, text: str) -> Path:
    (folder / "toy.yaml").write_text(text)
    return folder / "toy.yaml"


def _complaint(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as error:
        load_config(path, list(overrides))
    assert "\n" not in str(error.value), "one sentence"
    return str(error.value)


def test_minimal_file_has_defaults_for_the_rest(written: Path) -> None:
    config = load_config(written, [])
    assert (config.seed, config.decode.k, config.model.base) == (7, 10, "smollm2-135m")


def test_in_brief_is_what_differs_from_the_defaults(written: Path) -> None:
    assert list(load_config(written, ["decode.k=3"]).changed_settings()) == [
        f"run: {written.parent / 'runs/toy'}",
        "histories.recipe: nycflights13",
        "decode.k: 3",
    ]


def test_every_setting_is_frozen_and_refuses_unknown_keys() -> None:
    sections = [field.annotation for field in Config.model_fields.values() if hasattr(field.annotation, "model_config")]
    assert len(sections) == 10
    for model in [Config, *sections]:
        assert model.model_config["frozen"], model
        assert model.model_config["extra"] == "forbid", model


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("run: x\nhistorys:\n  recipe: tables\n", ["line 2", "unknown key historys", "histories"]),
        (MINIMAL + "  reciqe: tables\n", ["line 4", "unknown key histories.reciqe", "recipe"]),
        (MINIMAL + "  split: {trian: 0.5}\n", ["line 4", "unknown key histories.split.trian", "train"]),
        (MINIMAL + "  events:\n    path: e.csv\n    colums: {}\n", ["line 6", "histories.events.colums", "columns"]),
        (MINIMAL + "decode:\n  qqq: 1\n", ["line 5", "unknown key decode.qqq", "k, max_"]),
    ],
)
def test_unknown_key_names_line_and_nearest(tmp_path: Path, text: str, facts: list[str]) -> None:
    assert re.search(says("toy.yaml", *facts), _complaint(_write(tmp_path, text)))


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        (MINIMAL + "seed: many\n", ["line 4", "seed", "integer", "'many'"]),
        (MINIMAL + "decode: {k: 0}\n", ["line 4", "decode.k", "greater than or equal to 1", "found 0"]),
        (MINIMAL + "model: {dtype: int8}\n", ["line 4", "model.dtype", "'float32'", "'int8'"]),
        (MINIMAL + "  split: {train: 0.9, valid: 0.2}\n", ["line 4", "histories.split", "0.9", "0.2", "exceed 1"]),
        (MINIMAL + "  events: {}\n", ["line 4", "histories.events.path", "missing"]),
        (MINIMAL + "  carriers: [UA, [x]]\n", ["line 4", "histories.carriers.1", "string"]),
        ("histories: {}\n", ["run", "missing"]),
        ("", ["run", "missing", "2 such errors"]),
        ("- a\n- b\n", ["key: value", "a list"]),
        ("run: [\n", ["line 2", "not valid YAML"]),
        ("run: a\n\trun: b\n", ["line 2", "not valid YAML"]),
        ("run: \x07\n", ["not valid YAML"]),
        (MINIMAL + "seed: 1\nseed: 2\n", ["line 5", "seed", "line 4"]),
    ],
)
def test_wrong_file_says_line_expected_and_found(tmp_path: Path, text: str, facts: list[str]) -> None:
    assert re.search(says("toy.yaml", *facts), _complaint(_write(tmp_path, text)))


def test_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    assert re.search(says("none.yaml", "not exist"), _complaint(tmp_path / "none.yaml"))
    assert re.search(says(str(tmp_path), "folder"), _complaint(tmp_path))
    (tmp_path / "latin.yaml").write_bytes("run: caf\xe9\n".encode("latin-1"))
    assert re.search(says("latin.yaml", "UTF-8", "byte 8"), _complaint(tmp_path / "latin.yaml"))


def test_overrides_are_laid_over_the_file_in_order(written: Path) -> None:
    config = load_config(
        written, ["seed=8", "seed=9", "histories.split.train=0.5", "decode.max_expansions=null", "model.base=a=b"]
    )
    assert (config.seed, config.histories.split.train, config.decode.max_expansions) == (9, 0.5, None)
    assert config.model.base == "a=b"


@pytest.mark.parametrize(
    ("override", "facts"),
    [
        ("sede=8", ["unknown key sede", "seed"]),
        ("fintune.epochs=1", ["unknown key fintune", "finetune"]),
        ("decode.k=few", ["integer", "'few'"]),
        ("histories.split.train=2", ["less than", "found 2"]),
        ("seed", ["section.key=value"]),
        ("=8", ["section.key=value"]),
        ("decode..k=8", ["section.key=value"]),
        ("run.deep=8", ["run is a value"]),
        ("seed=[", ["not valid YAML"]),
        ("serve.explain_seconds=121", ["below request_timeout_s", "121 and 120", "lower the first"]),
        ("serve.request_timeout_s=10", ["below request_timeout_s", "10 and 10", "raise the second"]),
    ],
)
def test_wrong_override_is_quoted(written: Path, override: str, facts: list[str]) -> None:
    assert re.search(says(f"--set {override}", *facts), _complaint(written, override))


def test_paths_are_relative_to_the_file_and_overridden_ones_to_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    path = _write(tmp_path / "there", "run: ../out\nhistories:\n  events: {path: data/e.csv}\n")
    config = load_config(path, [])
    assert config.run == tmp_path / "out"
    assert config.histories.events is not None
    assert config.histories.events.path == tmp_path / "there" / "data" / "e.csv"
    assert load_config(path, ["run=out"]).run == tmp_path / "here" / "out"


def test_paths_expand_home_and_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("DATA", "/data")
    monkeypatch.setenv("PART", "b")
    path = _write(tmp_path, "run: ~/runs\nhistories:\n  path: $DATA/a-${PART}/c\n")
    config = load_config(path, [])
    assert (config.run, config.histories.path) == (Path("/home/ada/runs"), Path("/data/a-b/c"))


FOLDERS = "run: x\nhistories: {}\nmodel:\n  base: %s\nprompts:\n  template: %s\n"


@pytest.mark.parametrize(
    "spelt", ["./own", "own", "../there/own", "own/", "$OWN", "${OWN}/", "~/there/own", "deep/../own"]
)
def test_folders_of_model_and_templates_are_found_as_other_paths_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelt: str
) -> None:
    own = tmp_path / "there" / "own"
    own.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OWN", str(own))
    monkeypatch.setenv("HOME", str(tmp_path))
    config = load_config(_write(tmp_path / "there", FOLDERS % (spelt, spelt)))
    assert (config.model.base, config.prompts.template) == (str(own), str(own))
    here = load_config(_write(tmp_path / "there", FOLDERS % ("x/y", "plain")), ["model.base=there/own"])
    assert here.model.base == str(own)


def test_names_stay_names_even_beside_folders_of_that_name(tmp_path: Path) -> None:
    for name in ("smollm2-135m", "plain"):
        (tmp_path / name).mkdir()
    config = load_config(_write(tmp_path, FOLDERS % ("smollm2-135m", "plain")))
    assert (config.model.base, config.prompts.template) == ("smollm2-135m", "plain")
    config = load_config(_write(tmp_path, FOLDERS % ("some/model", "mine")))
    assert (config.model.base, config.prompts.template) == ("some/model", str(tmp_path / "mine"))
    unset = _write(tmp_path, FOLDERS % ("${NOWHERE}/m", "plain"))
    assert re.search(says("model.base", "${NOWHERE}/m", "environment variable NOWHERE"), _complaint(unset))


def test_path_with_unset_variable_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOWHERE", raising=False)
    path = _write(tmp_path, "run: x\nhistories:\n  path: ${NOWHERE}/a\n")
    assert re.search(says("histories.path", "${NOWHERE}/a", "environment variable NOWHERE"), _complaint(path))


def test_shipped_examples_all_load_and_open_with_what_they_do(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = sorted((root / "examples").glob("*.yaml"))
    assert examples
    for example in examples:
        text = example.read_text(encoding="utf-8")
        for name in re.findall(r"\$\{?(\w+)", text):
            monkeypatch.setenv(name, "/somewhere")
        assert text.startswith("# "), f"{example.name} should open with what it does, how long it takes, what to expect"
        assert load_config(example, []).run.is_absolute()


@pytest.mark.parametrize(
    ("events", "shown"),
    [
        ("postgresql://ada:s3cret@db:5432/shop", "postgresql://***@db:5432/shop"),
        ("postgresql://ada:s3/cr@t@db/shop", "postgresql://***@db/shop"),
        ("postgresql://db/shop?password=s3cret&sslmode=require", "postgresql://db/shop?password=***&sslmode=require"),
        ("/data/a@b/events.sqlite", "/data/a@b/events.sqlite"),
    ],
)
def test_password_of_a_database_is_neither_reported_nor_recorded(written: Path, events: str, shown: str) -> None:
    config = load_config(written, [f"serve.events='{events}'"])
    assert str(config.serve.events) == events
    assert f"serve.events: {shown}" in list(config.changed_settings())
    assert config.shown()["serve"]["events"] == shown


def test_file_of_events_is_found_from_the_configuration_and_a_url_is_left_alone(written: Path) -> None:
    text = written.read_text(encoding="utf-8")
    written.write_text(f"{text}\nserve: {{events: kept/events.sqlite}}\n", encoding="utf-8")
    assert load_config(written).serve.events == written.parent / "kept" / "events.sqlite"
    url = "postgresql://ada@db/shop"
    assert load_config(written, [f"serve.events={url}"]).serve.events == url


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("run: t.yaml\nhistories: {recipe: nycflights13}\n", ["run", "folder", "is a file"]),
        ("run: r\nhistories:\n  events: {path: e.csv, time_format: %Y}\n", ["line 3", "quotes"]),
        ("run: r\nhistories:\n\tevents: {path: e.csv}\n", ["line 3", "spaces"]),
        ('run: r\nhistories:\n  events: {path: "C:\\data\\e.csv"}\n', ["line 3", "single quotes"]),
        ("run: r\nhistories:\n  events: e.csv\n", ["line 3", "histories.events", "key: value"]),
        ("run: r\nhistories:\n  events: {path: e.csv, columns: {user_id: 0}}\n", ["line 3", "counted from 1"]),
    ],
)
def test_common_mistakes_say_what_to_do(tmp_path: Path, text: str, facts: list[str]) -> None:
    (tmp_path / "t.yaml").write_text(text)
    with pytest.raises(ConfigError, match=says(*facts)):
        load_config(tmp_path / "t.yaml")
