"""Toy events, encoders over toy catalogues, and template sets of one's own."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from whereupon.catalogue import Catalogue, Encode
from whereupon.prompts import PromptEncoder, PromptSettings

Events = Callable[..., pl.DataFrame]
Templates = Callable[..., str]
MakeEncoder = Callable[..., PromptEncoder]


@pytest.fixture(scope="session", name="events")
def _events() -> Events:
    """Events of (user, local ISO time, item) rows in order; keywords add columns, one value an event."""

    def events(rows: Sequence[tuple[int, str, int]], **columns: Any) -> pl.DataFrame:
        times = [datetime.fromisoformat(row[1]) for row in rows]
        return pl.DataFrame(
            {
                "user_id": [f"u{row[0]}" for row in rows],
                "item_id": [f"i{row[2]}" for row in rows],
                "user_idx": pl.Series([row[0] for row in rows], dtype=pl.Int32),
                "item_idx": pl.Series([row[2] for row in rows], dtype=pl.Int32),
                "time": pl.Series([time.replace(tzinfo=UTC) for time in times], dtype=pl.Datetime("us", "UTC")),
                "local_time": pl.Series(times, dtype=pl.Datetime("us")),
                "split": ["train"] * len(rows),
                **columns,
            }
        )

    return events


@pytest.fixture(scope="session", name="templates")
def _templates(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    """Write a template set and return its folder's name."""

    def templates(
        context: str = "{{ weekday }} {{ hour }}:", profile: str = "{{ days }} x{{ count }}:", preamble: str = "Log."
    ) -> str:
        folder = tmp_path_factory.mktemp("templates")
        for name, text in (("context", context), ("profile", profile), ("preamble", preamble)):
            (folder / f"{name}.j2").write_text(text, encoding="utf-8")
        return str(folder)

    return templates


@pytest.fixture(scope="session", name="make_encoder")
def _make_encoder(make_words: Callable[[], Encode]) -> MakeEncoder:
    """A prompt encoder over titles with a tokenizer of its own; keywords are prompt settings."""

    def make_encoder(
        titles: Sequence[str], *, location: str = "outcome", prefix: tuple[int, ...] = (), **settings: Any
    ) -> PromptEncoder:
        words = make_words()
        catalogue = Catalogue.build(
            pl.DataFrame({"item_id": [f"i{i}" for i in range(len(titles))], "title": titles}), words
        )
        return PromptEncoder.build(PromptSettings(**settings), catalogue, words, location, prefix)

    return make_encoder
