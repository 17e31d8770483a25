"""A simulated town whose people go by the weather."""

import itertools
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

TOWN = """
run: run
histories:
  events: {path: events.csv}
  items: {path: items.csv}
  weather: {path: weather.csv, latitude: 52.5, longitude: 13.4}
  time_zone: UTC
model: {base: ${HERE}/model, device: cpu}
prompts: {budget_tokens: 160, profile_tokens: 24}
finetune:
  {epochs: 4, learning_rate: 5.0e-3, batch_tokens: 1024, rank: 16, mixed_precision: "no", validations_per_epoch: 1}
"""


def write_town(
    make_model: Callable[..., Path], folder: Path, people: int = 6, days: int = 12, hidden: int = 32,
    shuffled: bool = False, head_dim: int | None = None, bos: str | None = None,
) -> Path:  # fmt: skip
    """Simulate a town and write its tables, a tiny model and a configuration; gives the configuration's path.

    Rain and shine change from hour to hour. Every day each person goes out at some hour, to the cinema if it rains and
    to the park if it shines, and sometimes to any bar at night. With `shuffled`, the weather table has the same rain at
    other hours.
    """
    random = np.random.default_rng(5)
    start = datetime(2024, 1, 1)
    rains = random.random(24 * days) < 0.5
    visits = ["user_id,item_id,time"]
    for person, day in itertools.product(range(people), range(days)):
        hour = 24 * day + int(random.integers(9, 18))
        time = start + timedelta(hours=hour, minutes=int(random.integers(1, 60)))
        visits.append(f"p{person:02},{'cinema' if rains[hour] else 'park'},{time.isoformat()}Z")
        if random.random() < 0.25:
            late = start + timedelta(days=day, hours=22, minutes=int(random.integers(1, 60)))
            visits.append(f"p{person:02},bar{random.integers(1, 4)},{late.isoformat()}Z")
    said = random.permutation(rains) if shuffled else rains
    weather = [f"{start + timedelta(hours=hour)}Z,18,{4 if rain else 0}" for hour, rain in enumerate(said)]
    titles = {
        "cinema": "Old Cinema",
        "park": "City Park",
        "bar1": "Bar One",
        "bar2": "Bar Two",
        "bar3": "Bar Three",
    }
    tables = {
        "events": visits,
        "items": ["item_id,title", *(f"{item},{title}" for item, title in titles.items())],
        "weather": ["time,temperature_c,precipitation_mm", *weather],
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in tables.items():
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    weekdays = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
    words = "morning afternoon evening night mild rain weekdays weekends any day"
    lines = [f"{weekday} {words}: {title}\n" for weekday in weekdays for title in titles.values()]
    texts = [*lines, "What one person chose, oldest first.\n"] * 3
    make_model(folder / "model", texts + ["\n" * 8] * 3 * bool(bos), hidden, head_dim=head_dim, bos=bos)
    config = folder / "town.yaml"
    config.write_text(TOWN.replace("${HERE}", str(folder)), encoding="utf-8")
    return config
