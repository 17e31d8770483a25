"""Train, valid and test: who learns from what."""

from fractions import Fraction

import polars as pl

from .settings import SplitSettings

__all__ = ["SPLITS", "split_events"]

SPLITS = ("train", "valid", "test")  # position = code in Histories.split_E


def split_events(events: pl.DataFrame, settings: SplitSettings) -> pl.Series:
    """Split of each event.

    Args:
        events: at least `user_id` and `time`, ordered by time; the order of equal times is kept.
        settings: the protocol and shares.

    Returns:
        Strings "train", "valid" or "test" in the order of `events`.
    """
    if settings.protocol == "leave_one_out":
        from_end = pl.int_range(pl.len(), dtype=pl.Int64).reverse().over("user_id")
        code = 2 - from_end.clip(upper_bound=2)
    else:
        num_train, num_seen = _cuts(events.height, settings)
        rank = pl.int_range(pl.len(), dtype=pl.Int64)
        code = (rank >= num_train).cast(pl.Int64) + (rank >= num_seen).cast(pl.Int64)
    return events.select(code.replace_strict(range(3), SPLITS, return_dtype=pl.String).alias("split")).to_series()


def _cuts(num_events: int, settings: SplitSettings) -> tuple[int, int]:
    # Decimal fractions: with floats, 0.29 * 100 is 28.999... and loses an event.
    train, valid = Fraction(str(settings.train)), Fraction(str(settings.valid))
    return int(num_events * train), int(num_events * (train + valid))
