"""A simulated town on disk: tables that `prepare` reads, and the truth about them beside."""

import math
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from ...arrays import Bool, Int64
from ...errors import DataError
from ...files import atomic_path, write_json
from ..settings import SplitSettings
from ..splitting import SPLITS, split_events
from .bounds import KINDS, Bounds
from .town import LATITUDE, LONGITUDE, RAIN_SHARE, REACH_KM, START, Chosen, Town, TownSettings, build_town, choose

_FILES: Final = (
    "events.csv", "items.csv", "weather.csv", "town.yaml", "truth.json", "truth_events.parquet", "truth_tastes.parquet",
)  # fmt: skip
_ABOUT: Final = {
    "expected": "means over all that could have been chosen: no ranker reaches more on average",
    "drawn": "figures of the same ranking on the items that were chosen",
    "with_weather": "of an observer who knows tastes, hours, places and the weather of that time",
    "without_weather": "of an observer who knows the same and how often it rains, not when",
}


@dataclass(frozen=True)
class Simulated:
    """What was written; `truth` is what stands in truth.json."""

    folder: Path
    truth: dict[str, Any]

    def lines(self) -> list[str]:
        """For the terminal."""
        truth = self.truth
        lines = [
            f"{truth['num_events']:,} events of {truth['settings']['people']:,} people on {truth['num_items']} items",
            f"{truth['num_anomalies']:,} of the events are by other people",
        ]
        test = truth["bounds"]["test"]
        for kind in KINDS:
            if found := test.get(kind, {}).get("expected"):
                figures = ", ".join(f"{name} {found[name]:.4f}" for name in ("recall@10", "nDCG@10", "log_loss"))
                lines.append(f"best possible on test, {kind.replace('_', ' ')}: {figures}")
        return [*lines, f"written to {self.folder}; next: whereupon prepare {self.folder / 'town.yaml'}"]


def simulate(settings: TownSettings, folder: Path) -> Simulated:
    """Simulate a town and write it into a new or empty folder, or in place of an earlier town. The truth comes last.

    Raises DataError: the folder holds other files, or nothing happened in the town.
    """
    _refuse_others(folder)
    rng = np.random.default_rng(settings.seed)
    share = settings.anomalies / (1 - settings.anomalies)
    num_strangers = math.ceil(3 * share * settings.people)
    town = build_town(settings, settings.people + num_strangers, rng)
    chosen = choose(town, settings.days, rng)
    is_user_E = chosen.user_E < settings.people
    num_anomalies = round(share * int(is_user_E.sum()))
    stranger_E = rng.permutation(np.flatnonzero(~is_user_E))[:num_anomalies]
    kept_E = np.sort(np.concatenate([np.flatnonzero(is_user_E), stranger_E]))
    if not is_user_E.any():
        raise DataError("Nothing happened in the simulated town; raise --people or --days.")
    user_E = np.where(is_user_E, chosen.user_E, rng.integers(0, settings.people, len(is_user_E)))
    truth_events = _truth_events(town, chosen, user_E, is_user_E, kept_E)
    truth = _truth(settings, town, truth_events, chosen.bounds)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / "town.yaml") as path:  # first: by it, `_refuse_others` knows a town that was broken off
        path.write_text(_yaml(settings), encoding="utf-8")
    (folder / "truth.json").unlink(missing_ok=True)
    _write_tables(settings, town, truth_events, folder, rng)
    with atomic_path(folder / "truth_events.parquet") as path:
        truth_events.drop("number").write_parquet(path)
    with atomic_path(folder / "truth_tastes.parquet") as path:
        _tastes(town, settings.people).write_parquet(path)
    write_json(folder / "truth.json", truth)
    return Simulated(folder, truth)


def _refuse_others(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} should be a folder but is a file; choose another name.")
    found = {path.name for path in folder.glob("*")} - {".DS_Store", "run"}
    if found and not {"truth.json", "town.yaml"} & found:
        raise DataError(f"{folder} should be a new or empty folder but holds {min(found)}; choose another one.")


def _user_ids(number: pl.Expr) -> pl.Expr:
    return pl.format("p{}", number.cast(pl.String).str.zfill(4)).alias("user_id")


def _truth_events(town: Town, chosen: Chosen, user_E: Int64, is_user_E: Bool, kept_E: Int64) -> pl.DataFrame:
    """One row an event, in the order of time: ids, whether another person did it, split, and what was known of it.

    `number` is its position among all that happened. What another person did has no probability.
    """
    columns = {
        name: column
        for kind in KINDS
        for name, column in getattr(chosen.bounds, kind).columns("" if kind == "with_weather" else "blind_").items()
    }
    table = pl.DataFrame({"user": user_E, "item": chosen.item_E, "second": chosen.second_E, **columns})
    table = table.with_row_index("number").with_columns(pl.Series("is_anomaly", ~is_user_E))[kept_E]
    table = table.with_columns(
        _user_ids(pl.col("user")),
        _item_ids(pl.col("item")),
        (pl.lit(START) + pl.duration(seconds=pl.col("second"))).alias("time"),
        *(pl.when(~pl.col("is_anomaly")).then(name).alias(name) for name in columns),
    ).sort("second", "user")  # fmt: skip
    table = table.with_columns(split_events(table, SplitSettings()))
    return table.select("user_id", "item_id", "time", "is_anomaly", "split", "number", *columns)


def _item_ids(number: pl.Expr) -> pl.Expr:
    return pl.format("i{}", number.cast(pl.String).str.zfill(3)).alias("item_id")


def _truth(settings: TownSettings, town: Town, events: pl.DataFrame, bounds: Bounds) -> dict[str, Any]:
    """Bounds are of events that are by the users themselves and not the first of their user."""
    measured = events.with_columns((pl.int_range(pl.len()).over("user_id") > 0).alias("_later")).filter(
        "_later", ~pl.col("is_anomaly")
    )
    figures = {}
    for split in ("all", *SPLITS[:3]):
        part = measured if split == "all" else measured.filter(pl.col("split") == split)
        figures[split] = {"num_events": part.height, **bounds.take(part["number"].to_numpy()).figures()}
    return {
        "settings": settings.model_dump(mode="json"),
        "num_events": events.height,
        "num_items": len(town.titles),
        "num_anomalies": int(events["is_anomaly"].sum()),
        "choice_model": {
            "kind": "softmax of utilities; see whereupon/histories/simulation/town.py",
            "rain_share": RAIN_SHARE,
            "reach_km": REACH_KM if town.scene.has_places else None,
            "rain_effect_of_category": {one.name: one.rain for one in town.scene.categories},
        },
        "about": _ABOUT,
        "bounds": figures,
    }


def _write_tables(
    settings: TownSettings, town: Town, events: pl.DataFrame, folder: Path, rng: np.random.Generator
) -> None:  # fmt: skip
    places = dict(zip(("latitude", "longitude"), town.place_I2.T, strict=True)) if town.scene.has_places else {}
    items = pl.DataFrame({
        "title": town.titles, "category": [one.name for one in town.categories], **places,
        "opening_hours": [one.opening_hours for one in town.categories],
    }).with_row_index("item_id").with_columns(_item_ids(pl.col("item_id")))  # fmt: skip
    tables = {"events": events.select("user_id", "item_id", "time"), "items": items}
    if settings.weather != "hidden":
        tables["weather"] = _weather(town, settings, rng)
    else:
        (folder / "weather.csv").unlink(missing_ok=True)
    for name, table in tables.items():
        with atomic_path(folder / f"{name}.csv") as path:
            table.write_csv(path, datetime_format="%Y-%m-%dT%H:%M:%SZ")


def _weather(town: Town, settings: TownSettings, rng: np.random.Generator) -> pl.DataFrame:
    """Hourly weather; only rain plays a part in what people choose."""
    hour_H = np.arange(len(town.rains_H))
    rains_H = rng.permutation(town.rains_H) if settings.weather == "shuffled" else town.rains_H
    season_H = -np.cos(2 * np.pi * (hour_H / 24 + 10) / 365.25)
    temperature_H = 10 + 9 * season_H - 4 * np.cos(2 * np.pi * (hour_H % 24 - 3) / 24)
    temperature_H += rng.normal(0, 1.5, len(hour_H))
    return pl.DataFrame({
        "time": [START + timedelta(hours=int(hour)) for hour in hour_H],
        "temperature_c": temperature_H.round(1),
        "precipitation_mm": np.where(rains_H, rng.uniform(0.6, 6.0, len(hour_H)), 0.0).round(1),
    })  # fmt: skip


def _tastes(town: Town, num_people: int) -> pl.DataFrame:
    """One row a person and item: the steady part of the utility; and where the person lives."""
    num_items = len(town.titles)
    number = np.arange(num_people * num_items)
    home_X2 = town.home_U2[number // num_items]
    table = pl.DataFrame({
        "user_id": number // num_items, "item_id": number % num_items, "utility": town.taste_UI[:num_people].ravel(),
        "home_latitude": home_X2[:, 0], "home_longitude": home_X2[:, 1],
    })  # fmt: skip
    return table.with_columns(_user_ids(pl.col("user_id")), _item_ids(pl.col("item_id")))


def _yaml(settings: TownSettings) -> str:
    weather = {
        "shown": f"  weather: {{path: weather.csv, latitude: {LATITUDE}, longitude: {LONGITUDE}}}\n",
        "shuffled": f"  # the weather of other hours: it says nothing of the choices\n"
        f"  weather: {{path: weather.csv, latitude: {LATITUDE}, longitude: {LONGITUDE}}}\n",
        "hidden": "  # no weather, although it rains in this town\n",
    }[settings.weather]
    return (
        f"# A simulated town: {settings.scene}, {settings.people} people, {settings.days} days, seed {settings.seed}.\n"
        "# The best figures that a ranker can reach stand in truth.json.\n"
        f"run: run\nseed: {settings.seed}\nhistories:\n  events: {{path: events.csv}}\n  items: {{path: items.csv}}\n"
        f"{weather}  time_zone: UTC\n  location: outcome\n"
    )
