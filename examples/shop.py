"""A shop with six customers, in Python from a table to recommendations: prepare, fine-tune, evaluate, recommend.

    python examples/shop.py

People buy soup when it is cold and ice cream when it is warm; a book is followed by tea. Takes two minutes on
two cores with the base model smollm2-135m (`whereupon model fetch smollm2-135m`); a folder with another model may be
named: `python examples/shop.py MODEL_FOLDER`. Expect soup first on a cold evening and ice cream first on a warm one.
"""

import random
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

import whereupon

ITEMS = {"b": "Book", "t": "Tea", "s": "Hot Soup", "i": "Ice Cream"}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        config = configuration(Path(folder), sys.argv[1] if len(sys.argv) > 1 else "smollm2-135m")
        whereupon.prepare(config)
        whereupon.finetune(config)
        print(whereupon.evaluate(config, ["evaluate.baselines=[popularity]"]))

        recommender = whereupon.Recommender.load(config)
        print(recommender.recommend(["ann", "bob"], at="2026-03-05T19:00", weather="clear, -3 C", k=2))
        print(recommender.recommend("ann", at="2026-03-05T19:00", weather="clear, 28 C", k=2))
        print(recommender.log_probs("ann", ["s", "i"], at="2026-03-05T19:00", weather="clear, 28 C"))
        print(recommender.recommend_all(k=1, at="2026-03-05T19:00", weather="clear, -3 C"))


def configuration(folder: Path, model: str) -> dict[str, object]:
    """The settings of a run in `folder`, as a YAML file would hold them, and its tables."""
    write_tables(folder)
    return {
        "run": folder / "run",
        "histories": {
            "events": {"path": folder / "events.csv"},
            "items": {"path": folder / "items.csv"},
            "weather": {"path": folder / "weather.csv", "latitude": 52.5, "longitude": 13.4},
            "time_zone": "Europe/Berlin",
        },
        "model": {"base": model},
        "prompts": {"budget_tokens": 384, "profile_tokens": 64},
        "finetune": {"epochs": 6, "learning_rate": 2e-3, "batch_tokens": 1024, "validations_per_epoch": 0},
    }


def write_tables(folder: Path) -> None:
    """Events, items and hourly weather of sixty days."""
    draw, begin = random.Random(7), datetime(2026, 1, 1, tzinfo=UTC)
    warm = [draw.random() < 0.5 for _ in range(60)]
    events = []
    for user in ("ann", "bob", "cyd", "dan", "eve", "fay"):
        for day in range(60):
            at = begin + timedelta(days=day, hours=18, minutes=draw.randrange(60))
            if draw.random() < 0.3:
                events += [(user, "b", at), (user, "t", at + timedelta(minutes=20))]
            else:
                events.append((user, "i" if warm[day] else "s", at))
    weather = [(begin + timedelta(hours=hour), 28.0 if warm[hour // 24] else -3.0, 0.0) for hour in range(24 * 60)]
    tables = {
        "events": pl.DataFrame(events, ["user_id", "item_id", "time"], orient="row"),
        "items": pl.DataFrame({"item_id": list(ITEMS), "title": list(ITEMS.values())}),
        "weather": pl.DataFrame(weather, ["time", "temperature_c", "precipitation_mm"], orient="row"),
    }
    for name, table in tables.items():
        table.write_csv(folder / f"{name}.csv")


if __name__ == "__main__":
    main()
