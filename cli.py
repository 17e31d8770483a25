"""The command line: `whereupon VERB CONFIG [--set a.b=c]`. Each verb loads the configuration and calls one room."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from . import __version__
from .console import bar, say
from .errors import DataError, WhereuponError
from .files import read_object, versions, write_json

if TYPE_CHECKING:
    from .config import Config

__all__ = ["app", "main"]

app = typer.Typer(
    name="whereupon",
    help="Recommends what comes next for a person, given where they are, when it is and what the weather does.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
prompt_app = typer.Typer(no_args_is_help=True, help="Look at the text that the model reads.")
model_app = typer.Typer(no_args_is_help=True, help="Get base models.")
catalogue_app = typer.Typer(no_args_is_help=True, help="Change what may be recommended, without training.")
app.add_typer(prompt_app, name="prompt")
app.add_typer(model_app, name="model")
app.add_typer(catalogue_app, name="catalogue")

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML configuration; examples/ holds some.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override a setting; may be given several times.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
User = Annotated[str, typer.Option("--user", metavar="U", help="The user_id.")]
At = Annotated[
    str | None, typer.Option("--at", metavar="TIME", help="Moment of asking, ISO 8601; default: after the last event.")
]
Weather = Annotated[str | None, typer.Option("--weather", metavar="TEXT", help='Weather then, such as "snow, -3 C".')]
Place = Annotated[str | None, typer.Option("--place", metavar="LAT,LON", help="Where the user is, in degrees.")]

PredictedSplit = Annotated[
    Literal["valid", "test"] | None, typer.Option(help="Whose events are predicted; default: evaluate.split.")
]
PredictedLimit = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="The evaluation of only N events; default: evaluate.limit.")
]


@app.command()
def prepare(config: ConfigFile, set_: Overrides = None, debug: Debug = False) -> None:
    """Read, clean, join and split the data into the run folder."""
    with _verb("prepare", config, set_, debug) as settings:
        from .histories import prepare

        _record("prepare", settings)
        report = prepare(settings.histories, settings.catalogue, settings.run, settings.seed)
        print("\n".join(report.lines()))


@prompt_app.command("show")
def show(
    config: ConfigFile,
    user: User,
    at: At = None,
    weather: Weather = None,
    place: Place = None,
    set_: Overrides = None,
    debug: Debug = False,
) -> None:
    """Print exactly what the model will read, with token counts."""
    with _verb("prompt show", config, set_, debug) as settings:
        from .recommend.shown import show_prompt

        show_prompt(settings, user=user, at=at, weather=weather, place=place)


@app.command()
def finetune(config: ConfigFile, set_: Overrides = None, debug: Debug = False) -> None:
    """Train an adapter on the prepared histories."""
    with _verb("finetune", config, set_, debug) as settings:
        from .finetune.train import finetune

        _record("finetune", settings)
        finetune(settings)


@app.command()
def calibrate(
    config: ConfigFile,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only N validation events; default: all.")
    ] = None,
    set_: Overrides = None,
    debug: Debug = False,
) -> None:
    """Fit a temperature, and the weight of a prior by counting, on the validation split."""
    with _verb("calibrate", config, set_, debug) as settings:
        from .rankers.calibrate import calibrate

        _record("calibrate", settings)
        calibrate(settings, limit)


@app.command()
def evaluate(
    config: ConfigFile,
    split: Annotated[
        Literal["valid", "test"] | None, typer.Option(help="Events to predict; default: evaluate.split.")
    ] = None,
    no_adapter: Annotated[
        bool, typer.Option("--no-adapter", help="The base model as it is, without training.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only N events; default: evaluate.limit.")
    ] = None,
    baselines_only: Annotated[bool, typer.Option("--baselines-only", help="No model, only what it must beat.")] = False,
    baseline: Annotated[
        list[str] | None,
        typer.Option("--baseline", metavar="NAME", help="Only this one; may be given several times."),
    ] = None,
    set_: Overrides = None,
    debug: Debug = False,
) -> None:
    """Rank each event's candidates by the model and by tuned baselines, and measure recall@k, nDCG@k and log-loss."""
    if baselines_only and no_adapter:
        raise typer.BadParameter("--baselines-only asks no model, so leave --no-adapter out")
    chosen = [f"evaluate.baselines={dumps(baseline)}"] if baseline else []
    with _verb("evaluate", config, [*(set_ or ()), *chosen], debug) as settings:
        from .eval.run import evaluate

        _record("evaluate", settings)
        evaluate(
            settings,
            split=split or settings.evaluate.split,
            use_adapter=not no_adapter,
            limit=limit or settings.evaluate.limit,
            baselines_only=baselines_only,
        )


Split = Annotated[
    str | None,
    typer.Option("--split", metavar="NAME", help="Folder in evaluation/; default: test, or the only one there is."),
]
MetricName = Annotated[str, typer.Option("--metric", metavar="NAME", help="What rankers are ordered by, and sliced.")]
StatisticsSeed = Annotated[int, typer.Option("--seed", min=0, help="Of intervals, tests and drawn examples.")]


@app.command()
def report(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Run folders or configurations, evaluated before.")
    ],
    out: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The HTML file to write.")] = Path(
        "report.html"
    ),
    split: Split = None,
    metric: MetricName = "nDCG@10",
    seed: StatisticsSeed = 7,
    debug: Debug = False,
) -> None:
    """Write one HTML file of what was evaluated: leaderboard, curves, slices, map, examples; it needs no network."""
    with _one_sentence(debug):
        from .eval.report import report

        report([Path(_run_of(run)) for run in runs], out, metric=metric, split=split, seed=seed)
        print(out)


@app.command()
def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="RUN:RANKER, or a rankings file (.parquet).")],
    b: Annotated[str, typer.Argument(metavar="B", help="The same for what A is compared with.")],
    split: Split = None,
    metric: MetricName = "nDCG@10",
    seed: StatisticsSeed = 7,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
    debug: Debug = False,
) -> None:
    """Tell whether one ranker is better than another: paired difference, where, and on which events most of all."""
    with _one_sentence(debug):
        from .eval.report import compare

        compare(_run_of(a), _run_of(b), split=split, metric=metric, seed=seed, as_json=json)


@app.command()
def fuse(
    config: ConfigFile,
    of: Annotated[
        list[str],
        typer.Option("--of", metavar="NAME", help="A ranker, by its name or that of its files; 2 to 6 of them."),
    ],
    method: Annotated[
        Literal["rrf", "log-prob", "min-max", "z"],
        typer.Option(help="Reciprocal ranks, log-probabilities, or scores scaled to 0..1 or to mean 0."),
    ] = "log-prob",
    split: PredictedSplit = None,
    limit: PredictedLimit = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Of the fusion; default: its parts'.")
    ] = None,
    set_: Overrides = None,
    debug: Debug = False,
) -> None:
    """Fuse finished rankings into one, with weights fitted on the validation split."""
    with _verb("fuse", config, set_, debug) as settings:
        from .eval.fuse import fuse

        _record("fuse", settings)
        fuse(
            settings,
            of,
            method=method,
            split=split or settings.evaluate.split,
            limit=limit or settings.evaluate.limit,
            as_name=name,
        )


@app.command()
def export(
    config: ConfigFile,
    out: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="The folder to write to.")],
    format: Annotated[Literal["trec", "parquet"], typer.Option(help="Run files and qrels, or tables.")] = "trec",
    of: Annotated[
        list[str] | None, typer.Option("--of", metavar="NAME", help="Only this ranker; may be given several times.")
    ] = None,
    split: PredictedSplit = None,
    limit: PredictedLimit = None,
    set_: Overrides = None,
    debug: Debug = False,
) -> None:
    """Write finished rankings, and what was to be predicted, for other tools."""
    with _verb("export", config, set_, debug) as settings:
        from .eval.exchange import export

        split, limit = split or settings.evaluate.split, limit or settings.evaluate.limit
        export(settings, out, format=format, split=split, limit=limit, names=of or ())


@app.command("import-run")
def import_run(
    config: ConfigFile,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A TREC run file, may be gzip; `export` names queries.")],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Of the model, as it shall be shown.")],
    split: PredictedSplit = None,
    limit: PredictedLimit = None,
    set_: Overrides = None,
    debug: Debug = False,
) -> None:
    """Let the rankings of an external model into the leaderboard."""
    with _verb("import-run", config, set_, debug) as settings:
        from .eval.exchange import import_run

        _record("import-run", settings)
        split, limit = split or settings.evaluate.split, limit or settings.evaluate.limit
        import_run(settings, file, name=name, split=split, limit=limit)


@app.command()
def ablate(
    config: ConfigFile,
    split: PredictedSplit = None,
    limit: PredictedLimit = None,
    retrained: Annotated[
        list[str] | None,
        typer.Option(
            "--retrained",
            metavar="KIND=RUN",
            help="Also a run whose adapter was trained with prompts.leave_out=[KIND]; may be given several times.",
        ),
    ] = None,
    set_: Overrides = None,
    debug: Debug = False,
) -> None:
    """Tell what time, place and weather are worth: the same model with each of them removed and shuffled."""
    with _verb("ablate", config, set_, debug) as settings:
        from .eval.ablation import ablate

        _record("ablate", settings)
        ablate(
            settings,
            split=split or settings.evaluate.split,
            limit=limit or settings.evaluate.limit,
            retrained=retrained or (),
        )


@app.command()
def guard(
    config: ConfigFile,
    split: PredictedSplit = None,
    num: Annotated[int, typer.Option("--num", min=1, metavar="N", help="How many predicted events to check.")] = 20,
    baselines_only: Annotated[bool, typer.Option("--baselines-only", help="Not the prompts of the model.")] = False,
    baseline: Annotated[
        list[str] | None,
        typer.Option("--baseline", metavar="NAME", help="Only this one; may be given several times."),
    ] = None,
    set_: Overrides = None,
    debug: Debug = False,
) -> None:
    """Prove by trial that predictions see only the past: with another future they must stay what they are."""
    chosen = [f"evaluate.baselines={dumps(baseline)}"] if baseline else []
    with _verb("guard", config, [*(set_ or ()), *chosen], debug) as settings:
        from .eval.guard_run import guard

        reports = guard(settings, split=split or settings.evaluate.split, num=num, baselines_only=baselines_only)
        if not all(report.ok for report in reports):
            raise typer.Exit(1)


@app.command()
def recommend(
    config: ConfigFile,
    user: Annotated[str | None, typer.Option("--user", metavar="ID", help="The user to ask about.")] = None,
    all_users: Annotated[bool, typer.Option("--all-users", help="Every user; needs -o, and vLLM.")] = False,
    out: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="With --all-users: the Parquet file to write.")
    ] = None,
    at: At = None,
    weather: Weather = None,
    place: Place = None,
    near: Annotated[
        float | None, typer.Option("--near", metavar="KM", help="Only items so near to --place, or to the last place.")
    ] = None,
    category: Annotated[
        list[str] | None, typer.Option("--category", metavar="NAME", help="Only of it; may be given several times.")
    ] = None,
    unseen: Annotated[bool, typer.Option("--unseen", help="Only items that the user has not chosen before.")] = False,
    open_now: Annotated[bool, typer.Option("--open-now", help="Only items that are open at the moment.")] = False,
    k: Annotated[int | None, typer.Option("-k", min=1, help="How many items; default: decode.k.")] = None,
    versus: Annotated[
        str | None,
        typer.Option(
            "--versus", metavar="TEXT", help='What differs in a second one beside it: "rain; 2013-01-05T18:00".'
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
    set_: Overrides = None,
    debug: Debug = False,
) -> None:
    """Rank the catalogue for one user at one moment, or for every user into a file."""
    if (user is None) != all_users or all_users != (out is not None):
        raise typer.BadParameter("say either --user ID, or --all-users and -o FILE")
    if all_users and (versus or json):
        raise typer.BadParameter("--versus and --json are for one user; leave them out with --all-users")
    with _verb("recommend", config, set_, debug) as settings:
        from .recommend.candidates import Wishes
        from .recommend.shown import recommend_verb

        wishes = Wishes(near, tuple(category or ()), unseen, open_now)
        if out is not None:
            from .recommend.context import Moment
            from .serve.batch import recommend_all

            recommend_all(settings, out, moment=Moment(at, weather, place), wishes=wishes, k=k)
            return
        assert user is not None
        recommend_verb(
            settings, user=user, at=at, weather=weather, place=place, wishes=wishes, k=k, versus=versus, as_json=json
        )


@app.command()
def serve(
    config: ConfigFile,
    then: Annotated[
        str | None, typer.Option("--then", metavar="COMMAND", help="Run it once the server answers, then stop both.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show vLLM's log; <run>/serve.log has it anyway.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print url, model and pid as one line of JSON.")] = False,
    set_: Overrides = None,
    debug: Debug = False,
) -> None:
    """Answer HTTP requests, those of OpenAI's clients among them, until Ctrl-C."""
    with _verb("serve", config, set_, debug) as settings:
        from .serve.launcher.launch import serve_verb

        _record("serve", settings)
        if code := serve_verb(settings, verbose=verbose, as_json=json, then=then):
            raise typer.Exit(code)


ItemsFile = Annotated[
    Path, typer.Argument(metavar="ITEMS", help="CSV or Parquet; columns are called as in histories.items.")
]


@catalogue_app.command("show")
def catalogue_show(config: ConfigFile, set_: Overrides = None, debug: Debug = False) -> None:
    """Tell how many items may be recommended, and what was edited."""
    with _verb("catalogue show", config, set_, debug) as settings:
        from .recommend.catalogue_verbs import show

        show(settings)


@catalogue_app.command("add")
def catalogue_add(config: ConfigFile, items: ItemsFile, set_: Overrides = None, debug: Debug = False) -> None:
    """Add new items; nothing that is there is renamed."""
    with _verb("catalogue add", config, set_, debug) as settings:
        from .recommend.catalogue_verbs import add

        add(settings, items)


@catalogue_app.command("replace")
def catalogue_replace(config: ConfigFile, items: ItemsFile, set_: Overrides = None, debug: Debug = False) -> None:
    """Give items other attributes, and another title where these say so."""
    with _verb("catalogue replace", config, set_, debug) as settings:
        from .recommend.catalogue_verbs import replace

        replace(settings, items)


@catalogue_app.command("remove")
def catalogue_remove(
    config: ConfigFile,
    item_ids: Annotated[list[str], typer.Argument(metavar="ITEM_ID...", help="Ids of the items.")],
    set_: Overrides = None,
    debug: Debug = False,
) -> None:
    """Take items out; histories that hold them are told as before."""
    with _verb("catalogue remove", config, set_, debug) as settings:
        from .recommend.catalogue_verbs import remove

        remove(settings, item_ids)


@catalogue_app.command("reset")
def catalogue_reset(config: ConfigFile, set_: Overrides = None, debug: Debug = False) -> None:
    """Serve the items of the prepared histories again."""
    with _verb("catalogue reset", config, set_, debug) as settings:
        from .recommend.catalogue_verbs import reset

        reset(settings)


@model_app.command("fetch")
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The base model: smollm2-135m.")],
    debug: Debug = False,
) -> None:
    """Download a base model into the user cache and convert it; does nothing if it is there and whole."""
    with _one_sentence(debug):
        from .decode.base_models import fetch_base_model

        with bar(rate=False) as progress:
            task = progress.add_task(name, total=1.0)

            def shown(phase: str, done: float) -> None:
                progress.update(task, description=phase, completed=done)

            path = fetch_base_model(name, progress=shown)
        print(path)


def main() -> None:
    """Entry point of the `whereupon` command."""
    app()


@contextlib.contextmanager
def _verb(name: str, config_path: Path, overrides: list[str] | None, debug: bool) -> Iterator["Config"]:
    with _one_sentence(debug):
        from .config import load_config

        config = load_config(config_path, overrides or ())
        if _is_main_process():
            settings = "\n".join(f"  {line}" for line in config.in_brief())
            print(f"whereupon {__version__} {name} {config_path}\n{settings}", file=sys.stderr)
        yield config


@contextlib.contextmanager
def _one_sentence(debug: bool) -> Iterator[None]:
    """Turn what a user can mend into one sentence on stderr and an exit code."""
    try:
        yield
        sys.stdout.flush()  # here, so that a reader who left is noticed here
    except KeyboardInterrupt:
        _fail("Interrupted; what was complete before is kept, and the same command starts again.", 130)
    except BrokenPipeError:  # `whereupon ... | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        sentence = _sentence(error)
        if debug or sentence is None:
            raise
        _fail(sentence, 1)


def _sentence(error: Exception) -> str | None:
    """What to tell the user; None for what nobody foresaw, whose traceback is worth more than a guess."""
    if isinstance(error, WhereuponError):
        return str(error)
    file = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
    if os.strerror(errno.ENOSPC) in str(error):  # by its words: safetensors and polars have error classes of their own
        return f"The disk is full{file}; free some space and run the same command again."
    if isinstance(error, PermissionError):
        return f"No permission{file}; mend the rights of that file or folder, or choose another."
    if isinstance(error, OSError) and error.filename:
        return f"{error.strerror}: {error.filename} (--debug shows where it was needed)."
    return None


def _run_of(argument: str) -> str:
    """A run folder for a configuration, alone or before `:RANKER`; anything else as it is."""
    path, colon, ranker = argument.rpartition(":") if ":" in argument else (argument, "", "")
    if not path.endswith((".yaml", ".yml")):
        return argument
    from .config import load_config

    return f"{load_config(path).run}{colon}{ranker}"


def _fail(sentence: str, code: int) -> NoReturn:
    say(sentence, "red")
    raise typer.Exit(code) from None


def _record(verb: str, config: "Config") -> None:
    """Write what this verb starts with to `run.json`, beside what is known of the other verbs."""
    if not _is_main_process():
        return
    path = config.run / "run.json"
    try:
        record = read_object(path)
    except DataError:  # missing, or cut off by an older crash: it is a record, never an input
        record = {}
    started = datetime.now(UTC).isoformat(timespec="seconds")
    record[verb] = {
        "started": started,
        "command": sys.argv[1:],
        "seed": config.seed,
        "versions": versions(),
        "config": config.shown(),
    }
    write_json(path, record)


def _is_main_process() -> bool:
    """Under `accelerate launch` several processes run one verb; the first one speaks and writes."""
    return os.environ.get("RANK", "0") == "0"


if __name__ == "__main__":  # accelerate launch -m whereupon.cli finetune CONFIG
    main()
