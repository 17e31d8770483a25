"""`whereupon anomalies`: events that are surprising for their user, at their time, listed and written as a table.

See `surprise` for what is measured. A user's first `MIN_PAST` events are not scored: too little is known of the user.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl
from rich.table import Table

from ..arrays import Bool, Float64
from ..console import say, show
from ..files import atomic_path
from ..histories import Histories, read_histories
from ..histories.candidates import EvaluatedSplit
from ..histories.questions import SPLIT_CODES, num_previous
from ..rankers.protocol import Dense
from ..rankers.stack import WHOLE, StackRanker
from .stacking import is_chosen, run_stack
from .surprise import (
    AIRLINER_KMH,
    CHANCE_NATS,
    gap_ratio,
    gaps_s,
    hour_ratio,
    hours,
    item_ratio,
    speed_excess,
    speeds_kmh,
)

if TYPE_CHECKING:
    from ..config import Config

MIN_PAST: Final = 20
"""Earlier events of a user from which on events are scored."""
FLAG_NATS: Final = 3.0
"""An event is flagged where its score is above: about twenty times likelier as anybody's than as this user's."""
_OURS: Final = ("user_idx", "item_idx", "local_time", "split", "hour_known")


@dataclass(frozen=True)
class Scores:
    """One entry an event of the histories; null or NaN where it is not scored.

    Attributes:
        item_N, hour_N, gap_N: log-likelihood ratios in nats, float64; see `surprise`.
        prob_N: probability of the item for this user, float64.
        is_stack_N: whether that is by the stack.
        total_N: the score, float64.
    """

    item_N: Float64
    hour_N: Float64
    gap_N: Float64
    prob_N: Float64
    is_stack_N: Bool
    total_N: Float64


def anomalies(config: Config, num_shown: int) -> Path:
    """Score all events of a run, print the most surprising ones, and write `<run>/anomalies.parquet`: its path."""
    histories = read_histories(config.run)
    denses = _stacks(config, histories)
    scores = score_events(histories, denses)
    table = anomaly_table(histories, scores)
    path = config.run / "anomalies.parquet"
    with atomic_path(path) as temporary:
        table.write_parquet(temporary)
    num_scored, num_flagged = table.height - table["anomaly_nats"].null_count(), int(table["flagged"].sum())
    say(
        f"{num_scored:,} of {table.height:,} events scored (others have fewer than {MIN_PAST} earlier events of their "
        f"user), {num_flagged:,} flagged (above {FLAG_NATS:g} nats){_by(scores)}"
    )
    show(_shown(table, num_shown))
    return path


def score_events(histories: Histories, denses: dict[EvaluatedSplit, Dense]) -> Scores:
    """Scores of all events, by the stack on the splits in `denses` and by counting on the others."""
    num = len(histories.item_idx_N)
    item_N, prob_N, hour_N, gap_N = (np.full(num, np.nan) for _ in range(4))
    is_stack_N = np.zeros(num, np.bool_)
    row_Q = np.flatnonzero(num_previous(histories) >= MIN_PAST).astype(np.int64)
    left_Q = np.ones(len(row_Q), np.bool_)
    for split, dense in denses.items():
        in_split_Q = histories.split_N[row_Q] == SPLIT_CODES[split]
        rows, left_Q = row_Q[in_split_Q], left_Q & ~in_split_Q
        item_N[rows], prob_N[rows] = item_ratio(histories, rows, dense)
        is_stack_N[rows] = True
    rows = row_Q[left_Q]
    item_N[rows], prob_N[rows] = item_ratio(histories, rows)
    hour_N[row_Q], gap_N[row_Q] = hour_ratio(histories, row_Q), gap_ratio(histories, row_Q)
    total_N = item_N + np.maximum(hour_N - CHANCE_NATS, 0) + np.maximum(gap_N - CHANCE_NATS, 0)
    return Scores(item_N, hour_N, gap_N, prob_N, is_stack_N, total_N + speed_excess(speeds_kmh(histories)))


def anomaly_table(histories: Histories, scores: Scores) -> pl.DataFrame:
    """The events with their scores, in a form that `prepare` reads as events.

    `anomaly_nats`, its parts `item_nats`, `hour_nats`, `gap_nats`, `speed_kmh`, `item_probability`, `scored_by`;
    `unusual_item`, `unusual_hour`, `unusual_gap`, `unusual_speed` and `flagged` (bool, false where not scored);
    `reason` in words; and `last_flagged`: whether the user's event before is flagged, which alone is known before an
    event.
    """
    events = histories.events
    speed_N = speeds_kmh(histories)
    offset = (pl.col("local_time") - pl.col("time").dt.replace_time_zone(None)).dt.total_minutes()
    table = events.with_columns(
        offset.cast(pl.Float64).alias("utc_offset_minutes"),
        pl.Series("anomaly_nats", scores.total_N),
        pl.Series("item_nats", scores.item_N),
        pl.Series("hour_nats", scores.hour_N),
        pl.Series("gap_nats", scores.gap_N),
        pl.Series("speed_kmh", speed_N),
        pl.Series("item_probability", scores.prob_N),
        pl.when(pl.Series(scores.is_stack_N)).then(pl.lit("stack")).otherwise(pl.lit("counting")).alias("scored_by"),
        pl.Series("_hour", hours(histories)),
        pl.Series("_gap_s", gaps_s(histories)),
    ).with_columns(pl.col(pl.Float64).fill_nan(None))
    table = table.with_columns(
        (pl.col("item_nats") > FLAG_NATS).fill_null(False).alias("unusual_item"),
        (pl.col("hour_nats") > FLAG_NATS).fill_null(False).alias("unusual_hour"),
        (pl.col("gap_nats") > FLAG_NATS).fill_null(False).alias("unusual_gap"),
        (pl.col("speed_kmh") > AIRLINER_KMH).fill_null(False).alias("unusual_speed"),
        (pl.col("anomaly_nats") > FLAG_NATS).fill_null(False).alias("flagged"),
        pl.when(pl.col("anomaly_nats").is_not_null()).then("scored_by").alias("scored_by"),
    ).with_columns(
        pl.col("flagged").shift(1, fill_value=False).over("user_idx").alias("last_flagged"), _reason().alias("reason")
    )
    return table.drop("_hour", "_gap_s", *_OURS, strict=False)


def _reason() -> pl.Expr:
    """What is unusual, in words; "" where nothing is."""
    parts = {
        "unusual_item": pl.format("item of probability {}", pl.col("item_probability").round_sig_figs(2)),
        "unusual_hour": pl.format("hour {}", pl.col("_hour")),
        "unusual_gap": pl.format("{} min after the last event", (pl.col("_gap_s") / 60).round(1)),
        "unusual_speed": pl.format("{} km/h from the last place", pl.col("speed_kmh").round(0)),
    }
    said = [pl.when(name).then(words) for name, words in parts.items()]
    return pl.concat_str(said, separator="; ", ignore_nulls=True)


def _stacks(config: Config, histories: Histories) -> dict[EvaluatedSplit, Dense]:
    """The stack's log-probabilities for validation and test events, where it was chosen for these histories."""
    if config.priors == "none" or not is_chosen(config, histories):
        return {}
    if histories.items.height > WHOLE:
        say(f"counting scores all events: the stack does not score catalogues of more than {WHOLE:,} items whole")
        return {}
    splits: tuple[EvaluatedSplit, ...] = ("valid", "test")
    stacks = {split: run_stack(config, histories, split) for split in splits}
    return {split: StackRanker(stack).on(histories, split) for split, stack in stacks.items() if stack is not None}


def _by(scores: Scores) -> str:
    """What scored the events; nothing where no event is scored."""
    scored = scores.is_stack_N[~np.isnan(scores.total_N)]
    found = [name for name, some in (("the stack", scored.any()), ("counting", (~scored).any())) if some]
    return f", by {' and '.join(found)}" if found else ""


def _shown(table: pl.DataFrame, num: int) -> Table:
    found = table.filter(pl.col("anomaly_nats").is_not_null()).sort(
        "anomaly_nats", descending=True, maintain_order=True
    )
    shown = Table(
        "user", "time", "item", "nats", "reason", title=f"the {min(num, found.height)} most surprising events"
    )
    columns = ("user_id", "time", "item_id", "anomaly_nats", "reason")
    for user, time, item, nats, reason in found.head(num).select(columns).iter_rows():
        shown.add_row(user, f"{time:%Y-%m-%d %H:%M}", item, f"{nats:.1f}", reason)
    return shown
