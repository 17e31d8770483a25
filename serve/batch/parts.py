"""A batch in parts of some hundred users each: the query, its answers, and their files.

A finished part stays on disk until all parts are finished. A killed run continues with the missing parts, as long as
nothing that the answers depend on has changed.
"""

from __future__ import annotations

import io
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ...decode.identity import model_identity
from ...files import atomic_path, read_json, sha256_text, write_json
from ...recommend.recommender import Recommender, Request

PART_USERS = 256
SCHEMA = {
    "user_id": pl.String, "rank": pl.Int32, "item_id": pl.String, "title": pl.String, "probability": pl.Float64,
    "distance_km": pl.Float64, "exact": pl.Boolean,
}  # fmt: skip
_REASONS = "whereupon.not_answered"  # among the metadata of a part's file


@dataclass(frozen=True)
class Query:
    """The request for every user, and how many items each gets; None: `decode.k`."""

    request: Request
    k: int | None

    def identity(self, recommender: Recommender) -> str:
        """Fingerprint of all that decides the answers of a user; what is stored meanwhile is not waited for."""
        config, catalogues, histories = recommender.config, recommender.catalogues, recommender.histories
        version = catalogues.current
        catalogue = [version.name, version.items.height, histories.catalogue_hash]
        settings = [model_identity(config.model, recommender.card), config.decode.model_dump(mode="json"), self.k]
        decides = [asdict(self.request), catalogue, settings, histories.data_hash, catalogues.blend.identity]
        return sha256_text(json.dumps(decides, sort_keys=True))


@dataclass(frozen=True)
class Answers:
    """Those of one part: rows with the columns of `SCHEMA`, and how many users could not be answered, by reason."""

    rows: Sequence[dict[str, Any]]
    reasons: Counter[str]

    def as_parquet(self) -> bytes:
        """A Parquet file with the reasons among its metadata, since a run that goes on counts them too."""
        file = io.BytesIO()
        table = pl.DataFrame(self.rows, schema=SCHEMA)
        table.write_parquet(file, metadata={_REASONS: json.dumps(dict(self.reasons))})
        return file.getvalue()


class Parts:
    """The pieces of a Parquet file in a folder beside it, with what they were made from.

    Attributes:
        users: ids of the users of each part.
    """

    def __init__(self, out: Path, user_ids: Sequence[str], identity: str) -> None:
        self.users = [user_ids[begin : begin + PART_USERS] for begin in range(0, len(user_ids), PART_USERS)]
        self.out, self.folder = out, out.with_name(f"{out.name}.parts")
        known = self.folder / "identity.json"
        identity = sha256_text(json.dumps([identity, PART_USERS, list(user_ids)]))
        if self.folder.is_dir() and (not known.is_file() or read_json(known) != identity):
            shutil.rmtree(self.folder)  # of another model, catalogue, time or filter
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(known, identity)

    def missing(self) -> list[int]:
        """Numbers of the parts that have no answers yet, ascending."""
        return [number for number in range(len(self.users)) if not self._path(number).is_file()]

    def num_users(self, numbers: Sequence[int]) -> int:
        """How many users some parts have together."""
        return sum(len(self.users[number]) for number in numbers)

    def write(self, number: int, parquet: bytes) -> None:
        """Keep the answers of a part, see `Answers.as_parquet`."""
        with atomic_path(self._path(number)) as path:
            path.write_bytes(parquet)

    def join(self) -> tuple[int, Counter[str]]:
        """Make one file of all parts and remove them; how many rows it has, and who was not answered, by reason."""
        paths, reasons = [self._path(number) for number in range(len(self.users))], Counter[str]()
        for path in paths:
            reasons.update(json.loads(pl.read_parquet_metadata(path)[_REASONS]))
        whole = pl.concat([pl.read_parquet(path) for path in paths]) if paths else pl.DataFrame(schema=SCHEMA)
        with atomic_path(self.out) as path:
            whole.write_parquet(path)
        shutil.rmtree(self.folder)
        return whole.height, reasons

    def _path(self, number: int) -> Path:
        return self.folder / f"part-{number:06}.parquet"
