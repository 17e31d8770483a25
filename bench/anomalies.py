"""How well `whereupon anomalies` finds what other people did: simulated towns in which that is known.

    make bench-anomalies

In each town 5 % of the events are by people who are no users. The figure is the area under the ROC curve of the score
over all scored events (those with at least `MIN_PAST` earlier events of their user), the mean over the towns.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import polars as pl
from record import bar, record

from whereupon.catalogue import CatalogueSettings
from whereupon.config import load_config
from whereupon.eval.anomalies import MIN_PAST, anomaly_table, score_events
from whereupon.histories import prepare, read_histories
from whereupon.histories.simulation import TownSettings, simulate

ASKED_AUC = 0.9


def main() -> int:
    """Run from the command line; the exit status is 1 if the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=100)
    parser.add_argument("--days", type=int, default=120)
    parser.add_argument("--seeds", type=int, nargs="+", default=[7, 8, 9])
    parser.add_argument("--share", type=float, default=0.05)
    args = parser.parse_args()
    towns = []
    for seed in args.seeds:
        settings = TownSettings(people=args.people, days=args.days, seed=seed, anomalies=args.share)
        towns.append({"seed": seed, **found_in(settings)})
        print(towns[-1])
    mean = sum(town["auc"] for town in towns) / len(towns)
    bars = [bar("AUC of the score, mean of the towns", mean, f"at least {ASKED_AUC}", mean >= ASKED_AUC)]
    return record("anomalies", args.seeds[0], bars, min_past=MIN_PAST, towns=towns)


def found_in(settings: TownSettings) -> dict[str, Any]:
    """Simulate, prepare, score, and compare with the truth."""
    with tempfile.TemporaryDirectory() as folder:
        simulate(settings, Path(folder) / "town")
        config = load_config(Path(folder) / "town" / "town.yaml")
        prepare(config.histories, CatalogueSettings(), config.run, config.seed)
        truth = pl.read_parquet(Path(folder) / "town" / "truth_events.parquet")
        histories = read_histories(config.run)
    scored = anomaly_table(histories, score_events(histories, {})).drop_nulls("anomaly_nats")
    key = ["user_id", "item_id", "time"]
    truth = truth.select(*key, "is_anomaly").cast({"time": scored.schema["time"]})
    judged = scored.join(truth, on=key, how="left")
    by_flag = judged.group_by("flagged").agg(pl.len().alias("num"), pl.col("is_anomaly").sum().alias("true"))
    flagged = by_flag.filter("flagged").to_dicts()
    return {
        "num_events": histories.events.height, "num_scored": judged.height,
        "num_anomalies": int(judged["is_anomaly"].sum()),
        "auc": area(judged["anomaly_nats"], judged["is_anomaly"]),
        "auc_by_item_alone": area(judged["item_nats"], judged["is_anomaly"]),
        "num_flagged": flagged[0]["num"] if flagged else 0,
        "num_flagged_rightly": flagged[0]["true"] if flagged else 0,
    }  # fmt: skip


def area(score: pl.Series, is_true: pl.Series) -> float:
    """Area under the ROC curve by ranks (Mann and Whitney, Annals of Mathematical Statistics 18(1), 1947)."""
    num_true, num_false = int(is_true.sum()), int((~is_true).sum())
    ranks = float(score.rank().filter(is_true).sum())
    return (ranks - num_true * (num_true + 1) / 2) / (num_true * num_false)


if __name__ == "__main__":
    sys.exit(main())
