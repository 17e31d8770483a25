"""`whereupon prompt fields`: which fields of the context inform about the next item, and their cost in tokens."""

from __future__ import annotations

import numpy as np
import polars as pl
from rich.table import Table

from ..console import say, show
from ..decode.models import load_tokenizer
from ..errors import DataError
from ..histories import Histories, read_histories
from ..histories.information import whole_users
from ..prompts import FEATURES, Features, PromptSettings, context_frame
from ..prompts.fields import FieldWorth, field_worths
from ..rankers.numbers import informative_columns
from .numbers_report import number_report, number_table
from .settings import RecommendConfig


def print_fields(config: RecommendConfig) -> list[FieldWorth]:
    """Print the worth of each field of a run, and return it. Raises DataError where there is nothing to train on."""
    histories, tokenizer = read_histories(config.run), load_tokenizer(config.model)
    frame, events = training_fields(histories, config.prompts, config.seed)
    user_N, item_N = (events[name].to_numpy().astype(np.int64) for name in ("user_idx", "item_idx"))
    worths = field_worths(frame, user_N, item_N, tokenizer, config.seed)
    table = Table(title="what each field says of the next item, given the user", title_justify="left", box=None)
    for heading in ("field", "bits", "corrected", "p", "tokens an event", "bits a token"):
        table.add_column(heading, justify="left" if heading == "field" else "right")
    for one in worths:
        numbers = (f"{one.bits:.3f}", f"{one.corrected_bits:.3f}", f"{one.p_value:.2f}", f"{one.tokens:.1f}",
                   f"{one.bits_a_token:.4f}")  # fmt: skip
        table.add_row(one.name, *numbers, style="" if one.p_value <= 0.05 else "dim")
    show(table)
    say(f"{events.height:,} training events of {events['user_idx'].n_unique():,} users")
    if found := number_report(histories):
        show(number_table(found))
        say(f"Rankers that select numbers would read: {', '.join(informative_columns(histories, 'valid')) or 'none'}")
    return worths


def training_fields(
    histories: Histories, settings: PromptSettings, seed: int
) -> tuple[pl.DataFrame, pl.DataFrame]:  # fmt: skip
    """All variables that templates may name, for training events, and these events: see `whole_users`.

    A variable is made of its own and of earlier events, so no held-out event is part of one.
    """
    events = histories.events.filter(pl.col("split") == "train")
    if not events.height:
        raise DataError("The run has no training events; run `whereupon prepare` with another split.")
    events = whole_users(events, seed)
    wanted = set(FEATURES) - (set() if settings.holiday_country else {"public_holiday"})
    column = settings.place_column
    names_I = histories.items[column] if column in histories.items.columns else None
    frame = context_frame(events, histories.location, Features(frozenset(wanted), settings.holiday_country, names_I))
    return frame.select(name for name in frame.columns if not frame.schema[name].is_nested()), events
