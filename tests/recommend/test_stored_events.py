"""What the server stores is prepared again as part of the data."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from whereupon.config import Config, load_config
from whereupon.errors import ConfigError, DataError
from whereupon.histories import prepare, read_histories
from whereupon.recommend.store import open_store
from whereupon.recommend.store.event import Event
from whereupon.recommend.stored_events import export_events

TIMES = [datetime(2026, 3, 1, 8, minute, tzinfo=UTC) for minute in range(12)]
NEW = datetime(2026, 3, 2, 9, 30, 15, 250_000, tzinfo=UTC)


@pytest.fixture(name="shop")
def _shop(tmp_path: Path) -> Callable[..., Config]:
    """A shop with names of its own for the columns of its events, and two stored events."""
    rows = [("ann", "tea" if at.minute % 2 else "cup", f"{at:%Y-%m-%dT%H:%M:%SZ}", "web") for at in TIMES]
    pl.DataFrame(rows, schema=["who", "what", "when", "channel"], orient="row").write_csv(tmp_path / "log.csv")
    (tmp_path / "shop.yaml").write_text(
        "run: run\nhistories:\n  events:\n    path: log.csv\n"
        "    columns: {user_id: who, item_id: what, time: when}\n  context_columns: [channel]\n"
    )

    def shop(*overrides: str) -> Config:
        return load_config(tmp_path / "shop.yaml", overrides)

    store = open_store(shop().events_address)
    store.append([
        Event(event_id="e1", user_id="bob", item_id="cup", time=NEW, context={"channel": "app"}),
        Event(event_id="e2", user_id="bob", item_id="tea", time=NEW + timedelta(minutes=1), context={"rank": 3}),
    ])  # fmt: skip
    store.close()
    return shop


def test_stored_events_are_prepared_beside_the_others(shop: Callable[..., Config], tmp_path: Path) -> None:
    config, stored = shop(), tmp_path / "stored.csv"
    assert export_events(config, stored) == 2
    both = shop(f"histories.events.path=[{tmp_path / 'log.csv'}, {stored}]")
    prepare(both.histories, both.catalogue, both.run, both.seed)
    events = read_histories(both.run).events
    assert events.height == len(TIMES) + 2
    bob = events.filter(pl.col("user_id") == "bob")
    assert bob["time"].to_list() == [NEW, NEW + timedelta(minutes=1)]
    assert bob["item_id"].to_list() == ["cup", "tea"]
    assert bob["channel"].to_list() == ["app", None]


def test_parquet_keeps_types_and_columns_of_the_mapping(shop: Callable[..., Config], tmp_path: Path) -> None:
    file = tmp_path / "stored.parquet"
    export_events(shop("histories.events.columns.value=price"), file)
    table = pl.read_parquet(file)
    assert {"who", "what", "when", "price", "rank", "channel"} <= set(table.columns)
    assert table["when"].to_list() == [NEW, NEW + timedelta(minutes=1)]
    assert table["rank"].to_list() == [None, 3]


def test_what_the_other_files_of_events_would_not_agree_with_is_refused(
    shop: Callable[..., Config], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"\.csv or \.parquet"):
        export_events(shop(), tmp_path / "stored.json")
    with pytest.raises(ConfigError, match="by number"):
        export_events(shop("histories.events.columns.value=3"), tmp_path / "stored.csv")
    with pytest.raises(ConfigError, match="time_format is set"):
        export_events(shop('histories.events.time_format="%d.%m.%Y"'), tmp_path / "stored.csv")
    with pytest.raises(DataError, match="no event store"):
        export_events(shop(f"serve.events={tmp_path / 'none.sqlite'}"), tmp_path / "stored.csv")
