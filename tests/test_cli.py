import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from whereupon.cli import app
from whereupon.errors import DataError
from whereupon.files import write_json
from whereupon.rankers.settings import QUICK
from whereupon.recommend import RequestContext, RequestFilters
from whereupon.tests.texts import says

VERBS = ["prepare", "prompt show", "finetune", "evaluate", "recommend"]
USER = ["--user", "Ada"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "toy.yaml").write_text("run: runs/toy\nseed: 3\nhistories:\n  recipe: nycflights13\n")
    return tmp_path / "toy.yaml"


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The stages' functions replaced by one that notes its call; `stages.does` may be set to raise or return."""
    stages = SimpleNamespace(calls=[], does=lambda: None)

    def stand_in(name: str) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            stages.calls.append((name, args, kwargs))
            return stages.does()

        return called

    def stage(**functions: Callable[..., Any]) -> Any:
        return SimpleNamespace(**functions)

    monkeypatch.setattr("whereupon.histories.prepare", stand_in("prepare"))
    page = stage(write_cleaning_page=lambda report: report.page)
    monkeypatch.setitem(sys.modules, "whereupon.eval.cleaning_page", page)
    monkeypatch.setitem(sys.modules, "whereupon.eval.run", stage(evaluate=stand_in("evaluate")))
    exchange = stage(export=stand_in("export"), import_run=stand_in("import-run"))
    monkeypatch.setitem(sys.modules, "whereupon.eval.exchange", exchange)
    monkeypatch.setitem(sys.modules, "whereupon.finetune.train", stage(finetune=stand_in("finetune")))
    recommend = stage(recommend_verb=stand_in("recommend"), show_prompt=stand_in("prompt show"))
    monkeypatch.setitem(sys.modules, "whereupon.recommend.shown", recommend)
    monkeypatch.setitem(sys.modules, "whereupon.serve.launcher.launch", stage(serve_verb=stand_in("serve")))
    monkeypatch.setitem(sys.modules, "whereupon.serve.doctor.verb", stage(doctor=stand_in("doctor")))
    return stages


def _run(verb: str, config: Path, *options: str) -> Result:
    user = USER if verb in ("prompt show", "recommend") else []
    return CliRunner().invoke(app, [*verb.split(), str(config), *user, *options])


def _raising(error: BaseException) -> Callable[[], None]:
    def raise_it() -> None:
        raise error

    return raise_it


EVALUATION = ["calibrate", "report", "compare", "export", "import-run", "ablate", "guard"]


@pytest.mark.parametrize("verb", ["", "prompt", "model", "model fetch", "catalogue add", "serve", *VERBS, *EVALUATION])
def test_help_of_every_verb_exits_0(verb: str) -> None:
    result = CliRunner().invoke(app, [*verb.split(), "--help"])
    assert (result.exit_code, result.stderr) == (0, "")
    assert "Usage:" in result.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_verb_calls_its_stage_with_the_configuration_and_says_so_on_stderr(
    verb: str, config: Path, stages: SimpleNamespace
) -> None:
    stages.does = lambda: SimpleNamespace(lines=lambda: ["10 events"], steps=list, page="run/cleaning.html")
    result = _run(verb, config, "--set", "decode.k=4")
    assert result.exit_code == 0, result.stderr
    [(name, args, _)] = stages.calls
    assert name == verb
    seed = args[3] if verb == "prepare" else args[0].seed
    assert seed == 3
    assert re.match(rf"whereupon \S+ {verb} .*toy\.yaml\n  run: ", result.stderr)
    assert "  decode.k: 4\n" in result.stderr
    said = "10 events\nwhat was cleaned: run/cleaning.html\n"
    assert result.stdout == (said if verb == "prepare" else "")


def test_evaluate_flags_come_before_the_configuration_and_default_to_it(config: Path, stages: SimpleNamespace) -> None:
    _run("evaluate", config, "--set", "evaluate.split=valid", "--set", "evaluate.limit=50")
    _run("evaluate", config, "--split", "test", "--limit", "9", "--baselines-only")
    _run("evaluate", config, "--no-adapter")
    _run("evaluate", config, "--baseline", "own counts", "--baseline", "popularity", "--set", "evaluate.baselines=[]")
    assert [kwargs for _, _, kwargs in stages.calls] == [
        {"split": "valid", "use_adapter": True, "limit": 50, "baselines_only": False},
        {"split": "test", "use_adapter": True, "limit": 9, "baselines_only": True},
        {"split": "test", "use_adapter": False, "limit": None, "baselines_only": False},
        {"split": "test", "use_adapter": True, "limit": None, "baselines_only": False},
    ]
    chosen = [args[0].evaluate.baselines for _, args, _ in stages.calls]
    assert chosen == [list(QUICK), list(QUICK), list(QUICK), ["own counts", "popularity"]]


def test_export_and_import_pass_on_what_and_where(config: Path, stages: SimpleNamespace) -> None:
    assert _run("export", config, "-o", "out", "--of", "a", "--format", "parquet").exit_code == 0
    assert _run("import-run", config, "their.run", "--name", "theirs", "--split", "valid").exit_code == 0
    assert [(name, args[1], kwargs) for name, args, kwargs in stages.calls] == [
        ("export", Path("out"), {"format": "parquet", "split": "test", "limit": None, "names": ["a"]}),
        ("import-run", Path("their.run"), {"name": "theirs", "split": "valid", "limit": None}),
    ]


def test_baseline_that_does_not_exist_is_one_sentence_with_those_that_do(config: Path) -> None:
    result = _run("evaluate", config, "--baseline", "popular")
    assert result.exit_code == 1
    assert re.search(says("'popular'", *(f"'{name}'" for name in QUICK)), result.stderr.splitlines()[-1])


def test_recommend_passes_the_context_on_even_if_it_starts_with_a_minus(config: Path, stages: SimpleNamespace) -> None:
    options = ["--at", "2013-01-05T08:00", "--weather", "-3 C", "--place", "-33.9,151.2"]
    assert _run("recommend", config, *options, "-k", "3", "--versus", "rain", "--json").exit_code == 0
    assert _run("prompt show", config, *options).exit_code == 0
    context = RequestContext("2013-01-05T08:00", "-3 C", "-33.9,151.2")
    assert [(args[1:], kwargs) for _, args, kwargs in stages.calls] == [
        (("Ada", context, RequestFilters()), {"k": 3, "versus": "rain", "why": False, "as_json": True}),
        (("Ada", context), {"ids": False}),
    ]


def test_recommend_passes_on_what_the_answer_should_be(config: Path, stages: SimpleNamespace) -> None:
    wanted = ["--near", "1.5", "--category", "Bar", "--category", "Café, Tea", "--unseen", "--open-now"]
    assert _run("recommend", config, *wanted).exit_code == 0
    [(_, args, _)] = stages.calls
    assert args[3] == RequestFilters(1.5, ("Bar", "Café, Tea"), unseen=True, open_now=True)


def test_recommend_passes_on_that_reasons_are_wanted(config: Path, stages: SimpleNamespace) -> None:
    assert _run("recommend", config, "--why").exit_code == 0
    [(_, _, kwargs)] = stages.calls
    assert kwargs["why"] is True


@pytest.mark.parametrize("code", [0, 1])
def test_doctor_exits_with_what_it_found(config: Path, stages: SimpleNamespace, code: int) -> None:
    stages.does = lambda: code
    assert _run("doctor", config, "--json").exit_code == code
    [(name, _, kwargs)] = stages.calls
    assert (name, kwargs) == ("doctor", {"json": True})


def test_serve_passes_on_how_and_exits_with_what_it_is_reported(config: Path, stages: SimpleNamespace) -> None:
    stages.does = lambda: 7
    result = _run("serve", config, "--then", "make visit", "--verbose", "--json", "--set", "serve.port=0")
    assert result.exit_code == 7
    [(name, (settings,), kwargs)] = stages.calls
    assert (name, settings.serve.port) == ("serve", 0)
    assert kwargs == {"verbose": True, "as_json": True, "then": "make visit"}
    record = json.loads((config.parent / "runs" / "toy" / "run.json").read_text())
    assert record["serve"]["config"]["serve"]["port"] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["prepare"],
        ["recommend", "toy.yaml"],
        ["evaluate", "toy.yaml", "--split", "train"],
        ["evaluate", "toy.yaml", "--baselines-only", "--no-adapter"],
        ["recommend", "toy.yaml", "--user", "Ada", "--near", "here"],
        ["recommendd"],
        [],
    ],
)
def test_wrong_usage_exits_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2


def test_users_error_is_one_sentence_on_stderr_and_exit_1(config: Path, stages: SimpleNamespace) -> None:
    stages.does = _raising(DataError("No user Ada; the nearest is [Adam]."))
    result = _run("recommend", config)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.endswith("\nNo user Ada; the nearest is [Adam].\n")
    assert "Traceback" not in result.stderr


def test_users_error_with_debug_is_raised(config: Path, stages: SimpleNamespace) -> None:
    stages.does = _raising(DataError("No user Ada."))
    assert isinstance(_run("recommend", config, "--debug").exception, DataError)


@pytest.mark.parametrize(
    ("error", "code", "facts"),
    [
        (KeyboardInterrupt(), 130, ["interrupted", "kept"]),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/runs/a"), 1, ["full", "/runs/a", "free"]),
        (RuntimeError("I/O error: No space left on device (os error 28)"), 1, ["full", "free"]),
        (PermissionError(errno.EACCES, "denied", "/runs/a"), 1, ["permission", "/runs/a"]),
        (OSError(errno.EROFS, os.strerror(errno.EROFS), "/runs/a"), 1, ["read-only", "/runs/a", "--set run="]),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "/runs/a"), 1, ["not a directory", "/runs/a", "--debug"]),
    ],
)
def test_trouble_of_the_machine_is_one_sentence(
    config: Path, stages: SimpleNamespace, error: BaseException, code: int, facts: list[str]
) -> None:
    stages.does = _raising(error)
    result = _run("finetune", config)
    assert result.exit_code == code
    assert re.search(says(*facts), result.stderr.splitlines()[-1])


def test_defect_of_the_program_is_raised_as_it_is(config: Path, stages: SimpleNamespace) -> None:
    stages.does = _raising(ZeroDivisionError())
    assert isinstance(_run("finetune", config).exception, ZeroDivisionError)


def test_run_json_keeps_what_each_verb_started_with(config: Path, stages: SimpleNamespace) -> None:
    _run("finetune", config)
    _run("evaluate", config)
    _run("finetune", config, "--set", "seed=4")
    record = json.loads((config.parent / "runs" / "toy" / "run.json").read_text())
    assert {verb: entry["seed"] for verb, entry in record.items()} == {"finetune": 4, "evaluate": 3}
    assert record["finetune"]["config"]["seed"] == 4
    assert record["finetune"]["config"]["decode"]["k"] == 10
    assert record["finetune"]["versions"]["python"]


@pytest.mark.parametrize("verb", ["recommend", "prompt show"])
def test_verbs_that_only_read_leave_no_trace(verb: str, config: Path, stages: SimpleNamespace) -> None:
    assert _run(verb, config).exit_code == 0
    assert sorted(path.name for path in config.parent.rglob("*")) == ["toy.yaml"]


def test_second_process_of_a_launch_neither_speaks_nor_writes(
    config: Path, stages: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    result = _run("finetune", config)
    assert (result.exit_code, result.stderr, len(stages.calls)) == (0, "", 1)
    assert not (config.parent / "runs").exists()


def test_model_fetch_prints_the_directory_on_stdout(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetched(name: str, progress: object, source: str) -> Path:
        return Path("/cache") / f"{name}-{source}"

    monkeypatch.setattr("whereupon.decode.base_models.fetch_base_model", fetched)
    result = CliRunner().invoke(app, ["model", "fetch", "smollm2-135m"])
    assert (result.exit_code, result.stdout) == (0, "/cache/smollm2-135m-auto\n")


def test_installed_command_shows_a_missing_configuration_without_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "whereupon.cli", "prepare", "none.yaml"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 1
    assert re.search(says("none.yaml", "not exist", "examples/"), result.stderr)


def test_adapters_are_listed_on_stdout_and_chosen(config: Path) -> None:
    for name, score in (("0001", 0.5), ("0002", 0.25)):
        card = {"temperature": 1.0, "step": 3, "validation": {"nDCG@10": score}, "complete": True}
        folder = config.parent / "runs" / "toy" / "adapters" / name
        write_json(folder / "whereupon.json", card)
        for weights in ("adapter_config.json", "adapter_model.safetensors"):
            (folder / weights).write_text(name)
    listed = _run("adapters", config)
    assert (listed.exit_code, "current" in listed.stdout) == (0, False)
    chosen = _run("adapters", config, "--use", "0002").stdout.splitlines()
    assert ["current" in line for line in chosen] == [False, True]
    assert "0.2500" in chosen[1]
    wrong = _run("adapters", config, "--use", "0007")
    assert (wrong.exit_code, wrong.stdout) == (1, "")
    assert re.search(says("0007", "0001", "0002"), wrong.stderr.splitlines()[-1])
