"""The verbs of evaluation: what ranks is measured, calibrated, compared, reported and exchanged with other tools."""

from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .verbs import ConfigFile, Debug, Overrides, one_sentence, record, verb

if TYPE_CHECKING:
    from .config import Config

eval_app = typer.Typer()

PredictedSplit = Annotated[
    Literal["valid", "test"] | None, typer.Option(help="Split whose events to predict; default: evaluate.split.")
]
PredictedLimit = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Use only N events; default: evaluate.limit.")
]
Baselines = Annotated[
    list[str] | None,
    typer.Option("--baseline", metavar="NAME", help="Use only this baseline; may be given several times."),
]
Split = Annotated[
    str | None,
    typer.Option("--split", metavar="NAME", help="Folder in evaluation/; default: test, or the only one."),
]
MetricName = Annotated[str, typer.Option("--metric", metavar="NAME", help="Metric to sort and slice rankers by.")]
StatisticsSeed = Annotated[int, typer.Option("--seed", min=0, help="Seed of intervals, tests and drawn examples.")]


@eval_app.command()
def calibrate(
    config: ConfigFile,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Use only N validation events; default: all.")
    ] = None,
    set_: Overrides = None,
    debug: Debug = False,
) -> None:
    """Fit the weights of model and priors. Uses the validation split."""
    with verb("calibrate", config, set_, debug) as settings:
        from .eval.stacking import calibrate_run

        record("calibrate", settings)
        calibrate_run(settings, limit)


@eval_app.command()
def priors(config: ConfigFile, set_: Overrides = None, debug: Debug = False) -> None:
    """Choose and fit the rankers of `priors`. Uses the validation split."""
    with verb("priors", config, set_, debug) as settings:
        from .eval.stacking import choose_priors

        record("priors", settings)
        choose_priors(settings)


@eval_app.command()
def evaluate(
    config: ConfigFile,
    split: PredictedSplit = None,
    no_adapter: Annotated[
        bool, typer.Option("--no-adapter", help="Evaluate the base model without its adapter.")
    ] = False,
    limit: PredictedLimit = None,
    baselines_only: Annotated[
        bool, typer.Option("--baselines-only", help="Run no model: baselines, and the stack that `priors` chose.")
    ] = False,
    baseline: Baselines = None,
    set_: Overrides = None,
    debug: Debug = False,
) -> None:
    """Rank events by the model and by tuned baselines. Measures recall@k, nDCG@k and log-loss."""
    if baselines_only and no_adapter:
        raise typer.BadParameter("--baselines-only runs no model; leave --no-adapter out")
    with verb("evaluate", config, _with_baselines(set_, baseline), debug) as settings:
        from .eval.run import evaluate

        record("evaluate", settings)
        events = _events(settings, split, limit)
        evaluate(settings, **events, use_adapter=not no_adapter, baselines_only=baselines_only)


@eval_app.command()
def report(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Run folders or configurations that were evaluated.")
    ],
    out: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The HTML file to write.")] = Path(
        "report.html"
    ),
    split: Split = None,
    metric: MetricName = "nDCG@10",
    seed: StatisticsSeed = 7,
    debug: Debug = False,
) -> None:
    """Write one HTML file with all results. Has leaderboard, curves, slices, map and examples; needs no network."""
    with one_sentence(debug):
        from .eval.report import report

        report([Path(_run_of(run)) for run in runs], out, metric=metric, split=split, seed=seed)
        print(out)


@eval_app.command()
def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="RUN:RANKER, or a rankings file (.parquet).")],
    b: Annotated[str, typer.Argument(metavar="B", help="What to compare A with, in the same form.")],
    split: Split = None,
    metric: MetricName = "nDCG@10",
    seed: StatisticsSeed = 7,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
    debug: Debug = False,
) -> None:
    """Test whether one ranker is better than another. Shows paired differences and the events that differ most."""
    with one_sentence(debug):
        from .eval.report import compare

        compare(_run_of(a), _run_of(b), split=split, metric=metric, seed=seed, as_json=json)


@eval_app.command()
def export(
    config: ConfigFile,
    out: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="The folder to write to.")],
    format: Annotated[Literal["trec", "parquet"], typer.Option(help="Run files and qrels, or tables.")] = "trec",
    of: Annotated[
        list[str] | None,
        typer.Option("--of", metavar="NAME", help="Export only this ranker; may be given several times."),
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Instead: adapter and base model in one, a transformers checkpoint.")
    ] = False,
    adapter: Annotated[bool, typer.Option("--adapter", help="Instead: the adapter alone, a PEFT folder.")] = False,
    split: PredictedSplit = None,
    limit: PredictedLimit = None,
    set_: Overrides = None,
    debug: Debug = False,
) -> None:
    """Write rankings for other tools, or the trained model. Rankings come with the true items."""
    if merge and adapter:
        raise typer.BadParameter("give either --merge or --adapter")
    if (merge or adapter) and (of or split or limit):
        raise typer.BadParameter("--of, --split and --limit are for rankings; leave them out with --merge or --adapter")
    with verb("export", config, set_, debug) as settings:
        if merge or adapter:
            from .decode.adapters import current_adapter
            from .decode.export import export_adapter, export_merged

            found = current_adapter(settings.run)
            export_merged(settings.model, found, out) if merge else export_adapter(found, out)
            return
        from .eval.exchange import export

        export(settings, out, format=format, **_events(settings, split, limit), names=of or ())


@eval_app.command("import-run")
def import_run(
    config: ConfigFile,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A TREC run file, gzip allowed; `export` writes the query ids.")
    ],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Name of the model in tables and reports.")],
    split: PredictedSplit = None,
    limit: PredictedLimit = None,
    set_: Overrides = None,
    debug: Debug = False,
) -> None:
    """Import the TREC run file of another model."""
    with verb("import-run", config, set_, debug) as settings:
        from .eval.exchange import import_run

        record("import-run", settings)
        import_run(settings, file, name=name, **_events(settings, split, limit))


@eval_app.command()
def ablate(
    config: ConfigFile,
    split: PredictedSplit = None,
    limit: PredictedLimit = None,
    retrained: Annotated[
        list[str] | None,
        typer.Option(
            "--retrained",
            metavar="KIND=RUN",
            help="Add a run whose adapter was trained with prompts.leave_out=[KIND]; may be given several times.",
        ),
    ] = None,
    set_: Overrides = None,
    debug: Debug = False,
) -> None:
    """Measure what time, place and weather contribute. Evaluates the model with each one removed or shuffled."""
    with verb("ablate", config, set_, debug) as settings:
        from .eval.ablation import ablate

        record("ablate", settings)
        ablate(settings, **_events(settings, split, limit), retrained=retrained or ())


@eval_app.command()
def forecast(
    config: ConfigFile,
    by: Annotated[Literal["category", "area", "item"], typer.Option(help="What gets a series of its own.")] = "item",
    every: Annotated[Literal["hour", "day"], typer.Option(help="How long a step is.")] = "hour",
    horizon: Annotated[str, typer.Option(metavar="TIME", help="How far ahead, such as 48h or 7d.")] = "48h",
    series: Annotated[
        int, typer.Option(min=1, max=500, metavar="N", help="Forecast the N largest groups; pool all others.")
    ] = 20,
    map_: Annotated[
        str | None,
        typer.Option(
            "--map", metavar="FIELD",
            help="Instead, draw where a field changes what is chosen: weekend, distance or a column of the weather.",
        ),
    ] = None,
    set_: Overrides = None,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Forecast the number of events by ARIMA. Has 80 % intervals, and needs the extra `forecast`."""
    with verb("forecast", config, set_, debug) as settings:
        from .eval.forecast import forecast_run
        from .eval.forecast_map import map_run

        record("forecast", settings)
        if map_ is not None:
            print(map_run(settings.run, map_, groups=series))
            return
        print(forecast_run(settings.run, by=by, every=every, horizon=horizon, series=series))


@eval_app.command()
def guard(
    config: ConfigFile,
    split: PredictedSplit = None,
    num: Annotated[int, typer.Option("--num", min=1, metavar="N", help="How many predicted events to check.")] = 20,
    baselines_only: Annotated[bool, typer.Option("--baselines-only", help="Skip the prompt check.")] = False,
    baseline: Baselines = None,
    set_: Overrides = None,
    debug: Debug = False,
) -> None:
    """Check for data leakage.

    Future events are changed; predictions must stay the same. The exit code is 1 if they do not.
    """
    with verb("guard", config, _with_baselines(set_, baseline), debug) as settings:
        from .eval.guard import guard

        reports = guard(settings, split=split or settings.evaluate.split, num=num, baselines_only=baselines_only)
        if any(report.violations for report in reports):
            raise typer.Exit(1)


def _events(settings: "Config", split: str | None, limit: int | None) -> dict[str, Any]:
    return {"split": split or settings.evaluate.split, "limit": limit or settings.evaluate.limit}


def _with_baselines(overrides: list[str] | None, names: list[str] | None) -> list[str]:
    return [*(overrides or ()), *([f"evaluate.baselines={dumps(names)}"] if names else ())]


def _run_of(argument: str) -> str:
    """A run folder for a configuration, alone or before `:RANKER`; anything else as it is."""
    path, colon, ranker = argument.rpartition(":") if ":" in argument else (argument, "", "")
    if not path.endswith((".yaml", ".yml")):
        return argument
    from .config import load_config

    return f"{load_config(path).run}{colon}{ranker}"
