"""A request as histories of its own, which a ranker scores beside the histories of all users.

Shapes: N = events (rows of the request), U = users.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from ..histories import Histories
from ..histories.splitting import HISTORY, SPLITS

QueryEvents = pl.DataFrame | Sequence[pl.DataFrame]
"""Past events and, as last row, the query; in several frames, several histories that may be of one user."""


def query_histories(known: Histories, query: QueryEvents) -> Histories:
    """Histories of a few users, each one's last row being the query.

    Rankers answer for these rows, `offset_U1[1:] - 1`, by `Ranker.on(query, split, known)`. Events have columns as
    `known.events` (the rows of `recommend.context.open_question` do). The rows of a user stand together, oldest first;
    users are numbered in their order, and need not be among those of `known`; each frame has users of its own. The item
    of a last row is not looked at and may be -1. Earlier events with items that `known` lacks, such as those added to
    the catalogue since, are left out. Without a column `split`, or where it is empty, events are "history".
    """
    frames = [query] if isinstance(query, pl.DataFrame) else list(query)
    events = frames[0] if len(frames) == 1 else pl.concat(frames)
    user_ids = events["user_id"].to_list()
    is_last_N = np.array([one != other for one, other in zip(user_ids, [*user_ids[1:], None], strict=True)], bool)
    is_last_N[np.cumsum([frame.height for frame in frames if frame.height]) - 1] = True
    item_N = events["item_idx"].to_numpy()
    exists_N = (item_N >= 0) & (item_N < known.items.height)
    if not (stays_N := exists_N | is_last_N).all():
        events, item_N = events.filter(stays_N), item_N[stays_N]
        is_last_N, exists_N, user_ids = is_last_N[stays_N], exists_N[stays_N], events["user_id"].to_list()
    if "split" not in events.columns:
        events = events.with_columns(split=pl.lit(SPLITS[HISTORY]))
    splits = [HISTORY if split is None else SPLITS.index(split) for split in events["split"].to_list()]
    user_N, item_N = (np.cumsum(is_last_N) - is_last_N).astype(np.int32), np.where(exists_N, item_N, 0).astype(np.int32)
    return Histories(
        events=_with_columns(events, pl.Series("user_idx", user_N), pl.Series("item_idx", item_N)),
        items=known.items,
        user_ids=[user_id for user_id, is_last in zip(user_ids, is_last_N, strict=True) if is_last],
        offset_U1=np.append(0, np.flatnonzero(is_last_N) + 1).astype(np.int64),
        user_idx_N=user_N,
        item_idx_N=item_N,
        time_s_N=events["time"].to_numpy().astype("datetime64[s]").astype(np.int64),
        split_N=np.array(splits, np.int8),
        location=known.location,
        manifest=known.manifest | {"data_hash": "asked"},
    )


def _with_columns(events: pl.DataFrame, *columns: pl.Series) -> pl.DataFrame:
    """`events.with_columns`, which takes longer than all else that is done to a request here."""
    events = events.clone()
    for column in columns:
        if column.name in events.columns:
            events.replace_column(events.get_column_index(column.name), column)
        else:
            events.insert_column(events.width, column)
    return events
