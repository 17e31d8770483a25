"""A simulated town with a run folder as `evaluate` leaves it: histories, rankings of five rankers and an ablation.

150 people choose among 60 places for 60 days, by habit, hour, rain and popularity; the last 2,000 choices are the test
split. How each ranker ranks is written down here, so that what a report says of it is known beforehand: the model knows
all that moves people and is a little too sure of itself, people matter most to it, and chance knows nothing.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from whereupon.arrays import Float64, Int64
from whereupon.eval.rankings import Rankings, slug_of, write_rankings
from whereupon.files import versions, write_json

USERS, ITEMS, EVENTS, TEST, VALID, DAYS, K = 150, 60, 8000, 2000, 800, 60, 20
MODEL, STRONGEST = "fine-tuned toy", "context-weighted own events"
CATEGORIES = ("Café", "Bar", "Park", "Museum", "Office", "Gym", "Cinema", "Bakery", "Library", "Market <Hall> & Co")
QUARTERS = ("Old Town", "Harbour", "Hill", "West Bank", "Mill Quarter", "Station")
START = datetime(2024, 1, 1, tzinfo=UTC)


def write_town(run: Path, seed: int = 5, name: str = "town", base: str = "no-such-model") -> Path:
    """Write the run folder `run`; `base` is the base model its configuration names, `seed` makes another town."""
    random = np.random.default_rng(seed)
    items = _items(random)
    events, logit_NI = _events(random, items)
    hashes = {"data_hash": f"{name}-{seed}", "catalogue_hash": f"{name}-items"}
    splits = {split: {"num_events": int((events["split"] == split).sum())} for split in ("train", "valid", "test")}
    manifest = {
        "format": 1, "recipe": name, "location": "outcome", "context_columns": [], "num_events": EVENTS,
        "num_users": USERS, "num_items": ITEMS, "splits": splits, **hashes,
        "weather_columns": ["temperature_c", "precipitation_mm"],
        "settings": {"recipe": "tables", "split": {"protocol": "global_time", "train": 0.65, "valid": 0.1}},
    }  # fmt: skip
    folder = run / "histories"
    folder.mkdir(parents=True)
    events.write_parquet(folder / "events.parquet")
    items.write_parquet(folder / "items.parquet")
    write_json(folder / "manifest.json", manifest)
    config = {"run": str(run), "seed": seed, "prompts": {"template": "checkins"}, "model": {"base": base}}
    write_json(run / "run.json", {"evaluate": {"command": ["evaluate", f"{name}.yaml"], "seed": seed, "config": config,
                                               "versions": versions()}})  # fmt: skip
    _rank_all(run / "evaluation" / "test", random, events, logit_NI, {**hashes, "num_items": ITEMS, "seed": seed})
    return run


def _items(random: np.random.Generator) -> pl.DataFrame:
    category = [CATEGORIES[i % len(CATEGORIES)] for i in range(ITEMS)]
    quarter = random.integers(0, len(QUARTERS), ITEMS)
    centre = random.normal(0, 0.02, (len(QUARTERS), 2))
    place = np.array([52.5, 13.4]) + (centre[quarter] + random.normal(0, 0.005, (ITEMS, 2))) * [1, 1.6]
    titles = [f"{kind}, {QUARTERS[at]} {i}" for i, (kind, at) in enumerate(zip(category, quarter, strict=True))]
    return pl.DataFrame({"item_id": [f"i{i:02}" for i in range(ITEMS)], "title": titles, "category": category,
                         "latitude": place[:, 0], "longitude": place[:, 1]})  # fmt: skip


def _events(random: np.random.Generator, items: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, Float64]]:
    """Events as in events.parquet, and what moved each of them: [EVENTS, ITEMS] for each cause."""
    second = np.sort(random.choice(DAYS * 86_400, EVENTS, replace=False))
    second = second - second % 86_400 + (random.beta(3, 2, EVENTS) * 86_399).astype(np.int64)
    user = random.choice(USERS, EVENTS, p=random.dirichlet(np.full(USERS, 2.0)))
    rain_D, kind_I = random.random(DAYS) < 0.4, np.arange(ITEMS) % len(CATEGORIES)
    temperature_D = 4 + 6 * np.sin(np.arange(DAYS) / 9) + random.normal(0, 2, DAYS)
    day, daypart = second // 86_400, second % 86_400 // 21_600
    causes = {
        "popularity": np.broadcast_to(random.normal(0, 0.8, ITEMS), (EVENTS, ITEMS)),
        "people": random.gamma(0.3, 1.9, (USERS, ITEMS))[user],
        "time": random.normal(0, 1.0, (4, len(CATEGORIES)))[:, kind_I][daypart],
        "weather": np.where(rain_D[day][:, None], random.normal(0, 1.3, len(CATEGORIES))[kind_I], 0.0),
    }
    item = (sum(causes.values()) + random.gumbel(0, 1, (EVENTS, ITEMS))).argmax(1)
    order = np.lexsort([second, user])
    late = np.argsort(np.argsort(second, kind="stable"), kind="stable")
    split = np.where(late < EVENTS - TEST - VALID, "train", np.where(late < EVENTS - TEST, "valid", "test"))
    time = pl.Series(second + int(START.timestamp())).cast(pl.Int64)
    frame = pl.DataFrame({
        "user_id": pl.Series([f"u{u:03}" for u in user]), "item_id": items["item_id"].gather(item),
        "user_idx": pl.Series(user, dtype=pl.Int32), "item_idx": pl.Series(item, dtype=pl.Int32),
        "time": pl.from_epoch(time, "s").cast(pl.Datetime("us", "UTC")),
        "local_time": pl.from_epoch(time, "s").cast(pl.Datetime("us")),
        "split": pl.Series(split), "latitude": items["latitude"].gather(item),
        "longitude": items["longitude"].gather(item), "temperature_c": temperature_D[day],
        "precipitation_mm": np.where(rain_D[day], 5.0, 0.0),
    })[order]  # fmt: skip
    return frame, {name: cause[order] for name, cause in causes.items()}


def _rank_all(
    folder: Path,
    random: np.random.Generator,
    events: pl.DataFrame,
    causes: Mapping[str, Float64],
    facts: dict[str, Any],
) -> None:
    row_E = np.flatnonzero((events["split"] == "test").to_numpy())
    item_E, user_N = events["item_idx"].to_numpy()[row_E], events["user_idx"].to_numpy()
    past_N = (events["split"] != "test").to_numpy()
    count_UI = np.zeros((USERS, ITEMS))
    np.add.at(count_UI, (user_N[past_N], events["item_idx"].to_numpy()[past_N]), 1.0)
    own = count_UI[user_N[row_E]] + count_UI.sum(0) / 1e6
    cause = {name: logit_NI[row_E] for name, logit_NI in causes.items()}
    baselines = {
        "random": random.random(own.shape),
        "popularity": np.broadcast_to(count_UI.sum(0), own.shape),
        "own counts": own,
        STRONGEST: np.log(own + 0.3) + 0.7 * cause["time"],
    }
    for name, score_EI in baselines.items():
        settings = {"age_days": 30.0, "hour_sigma": 1.5} if name == STRONGEST else {}
        trials = [{"settings": settings, "metrics": {"nDCG@10": 0.5}}] if settings else []
        tuned = {"trials": trials, "num_events": VALID}
        _write(folder, name, rankings(row_E, item_E, score_EI), {**facts, "kind": "baseline", "settings": settings,
                                                                 "tuned": tuned, "wall_s": 0.2})  # fmt: skip
    noise = random.normal(0, 0.7, own.shape)
    model = {"kind": "model", "exact_share": 1.0, "wall_s": 812.0, "settings": {"calibration": "none"}}
    whole = 1.25 * (sum(cause.values()) + noise)
    _write(folder, MODEL, rankings(row_E, item_E, _log_softmax(whole), True), {**facts, **model})
    for ablated, how in (("time", "removed"), ("weather", "removed"), ("weather", "shuffled")):
        other = random.permutation(cause[ablated]) if how == "shuffled" else 0.0
        less = _log_softmax(whole + 1.25 * (other - cause[ablated]))
        _write(folder, f"{MODEL}, {ablated} {how}", rankings(row_E, item_E, less, True), {
            **facts, **model, "kind": "ablation", "of": slug_of(MODEL), "ablated": ablated, "how": how,
            "changed_share": 0.41 if ablated == "weather" else None,
        })  # fmt: skip


def rankings(row_E: Int64, item_E: NDArray[np.int32], score_EI: Float64, log_probs: bool = False) -> Rankings:
    """The first K of each row of scores, equal ones in the order of the items."""
    order_EI = np.argsort(-score_EI, axis=1, kind="stable")
    rank_E = (order_EI == item_E[:, None]).argmax(1) + 1
    best_EK = order_EI[:, :K]
    log_prob_E = score_EI[np.arange(len(item_E)), item_E].astype(np.float32) if log_probs else None
    score_EK = np.take_along_axis(score_EI, best_EK, 1)
    return Rankings(row_E.astype(np.int64), rank_E, best_EK.astype(np.int32), score_EK, log_prob_E)


def _log_softmax(logit_EI: Float64) -> Float64:
    shifted = logit_EI - logit_EI.max(1, keepdims=True)
    normal: Float64 = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return normal


def _write(folder: Path, name: str, ranked: Rankings, facts: dict[str, Any]) -> None:
    said = {
        "name": name, "split": "test", "protocol": "global time split, full catalogue, repeats allowed",
        "command": f"whereupon evaluate town.yaml --only {slug_of(name)!r}", "versions": versions(), **facts,
    }  # fmt: skip
    write_rankings(folder, slug_of(name), ranked, said)
