"""`whereupon export-data`: the prepared events and items in the forms of other libraries.

parquet   FOLDER/events.parquet, FOLDER/items.parquet
datasets  FOLDER/events (one split each for train, valid, test and history) and FOLDER/items, for
          `datasets.load_from_disk`
recbole   FOLDER/NAME.inter, NAME.item, and NAME.train.inter, NAME.valid.inter, NAME.test.inter: atomic files of RecBole
          (https://recbole.io/docs/user_guide/data/atomic_files.html), NAME being that of the folder. RecBole reads the
          split with `benchmark_filename: [train, valid, test]`.
"""

from pathlib import Path
from typing import Final, Literal

import polars as pl

from ..console import say
from ..files import atomic_path
from .store import Histories

Form = Literal["parquet", "datasets", "recbole"]
_PRIVATE: Final = ("user_idx", "item_idx")  # numbers of this run, of no use elsewhere


def export_data(histories: Histories, folder: Path, form: Form) -> int:
    """Write all events and items; how many events there are.

    Events keep their split, and their order: by user, then by time.
    """
    events, items = histories.events.drop(_PRIVATE, strict=False), histories.items
    if form == "parquet":
        for name, table in (("events", events), ("items", items)):
            with atomic_path(folder / f"{name}.parquet") as path:
                table.write_parquet(path)
    elif form == "datasets":
        _as_datasets(events, items, folder)
    else:
        _as_recbole(events, items, folder)
    say(f"{events.height:,} events and {items.height:,} items in {folder}")
    return events.height


def _as_datasets(events: pl.DataFrame, items: pl.DataFrame, folder: Path) -> None:
    from datasets import Dataset, DatasetDict, disable_progress_bars

    disable_progress_bars()
    parts = events.partition_by("split", as_dict=True, maintain_order=True)
    splits = {str(split): Dataset.from_polars(part.drop("split")) for (split,), part in parts.items()}
    for name, data in (("events", DatasetDict(splits)), ("items", Dataset.from_polars(items))):
        with atomic_path(folder / name) as path:
            data.save_to_disk(str(path))


def _as_recbole(events: pl.DataFrame, items: pl.DataFrame, folder: Path) -> None:
    """Texts and numbers as RecBole types them; tabs and line breaks in texts become spaces."""
    seconds = events.with_columns(pl.col("time").dt.epoch("s").cast(pl.Float64).alias("timestamp"))
    first = ["user_id", "item_id", "timestamp"]
    rest = [name for name in seconds.columns if name not in (*first, "time", "local_time", "split")]
    inter = seconds.select(*first, "split", *rest)
    _atomic(inter.drop("split"), folder / f"{folder.name}.inter")
    for split in ("train", "valid", "test"):
        part = inter.filter(pl.col("split") == split).drop("split")
        if part.height:
            _atomic(part, folder / f"{folder.name}.{split}.inter")
    _atomic(items, folder / f"{folder.name}.item")
    if left := inter.filter(pl.col("split") == "history").height:
        say(f"{left:,} events of no split are in {folder.name}.inter only")


def _atomic(table: pl.DataFrame, path: Path) -> None:
    """Write one atomic file. A title is a sequence of words, other texts and truth values are tokens."""
    columns = []
    for name, dtype in table.schema.items():
        if dtype.is_numeric():
            columns.append(pl.col(name).cast(pl.Float64).alias(f"{name}:float"))
        else:
            kind = "token_seq" if name == "title" else "token"
            words = pl.col(name).cast(pl.String).str.replace_all(r"\s+", " ").str.strip_chars()
            columns.append(words.alias(f"{name}:{kind}"))
    with atomic_path(path) as written:
        table.select(columns).write_csv(written, separator="\t", quote_style="never")
