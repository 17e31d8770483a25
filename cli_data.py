"""Verbs about data that no model is needed for: `simulate`, `anomalies`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from .verbs import ConfigFile, Debug, Overrides, one_sentence, record, verb

data_app = typer.Typer()


@data_app.command()
def simulate(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write, new or empty.")],
    people: Annotated[int, typer.Option(min=2, metavar="N", help="How many people.")] = 100,
    days: Annotated[int, typer.Option(min=2, metavar="N", help="How many days.")] = 60,
    scene: Annotated[
        Literal["shopping", "music", "news", "health"], typer.Option(help="What the simulated people choose.")
    ] = "shopping",
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 7,
    anomalies: Annotated[
        float, typer.Option(min=0.0, max=0.49, metavar="SHARE", help="Share of events that other people did.")
    ] = 0.0,
    weather_hidden: Annotated[
        bool, typer.Option("--weather-hidden", help="Write no weather, although it decides what people choose.")
    ] = False,
    weather_shuffled: Annotated[
        bool, typer.Option("--weather-shuffled", help="Write the weather of other hours; the events stay the same.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Write data of a simulated town. Beside it: the best figures that a ranker can reach."""
    if weather_hidden and weather_shuffled:
        raise typer.BadParameter("give either --weather-hidden or --weather-shuffled")
    with one_sentence(debug):
        from .histories.simulation import TownSettings
        from .histories.simulation import simulate as simulated

        weather = "hidden" if weather_hidden else "shuffled" if weather_shuffled else "shown"
        settings = TownSettings(
            people=people, days=days, scene=scene, seed=seed, anomalies=anomalies, weather=weather
        )  # fmt: skip
        print("\n".join(simulated(settings, out).lines()))


@data_app.command()
def anomalies(
    config: ConfigFile,
    num: Annotated[int, typer.Option("--num", min=1, metavar="N", help="How many events to list.")] = 20,
    set_: Overrides = None,
    debug: Debug = False,
) -> None:
    """List the events that are most unusual for their user. All scores are written to anomalies.parquet."""
    with verb("anomalies", config, set_, debug) as settings:
        from .eval.anomalies import anomalies as listed

        record("anomalies", settings)
        print(listed(settings, num))
