"""The answers of a ranker, event by event, in memory and as files that every later step reads.

A ranking is two files in the folder of its split: `<slug>.parquet`, one row an event, and then `<slug>.json`, the facts
(who ranked, with what settings, on which data, how long it took). The facts are written last: their presence means that
the ranking is complete. Metrics are not stored; they follow from the rankings at any time.
"""

from __future__ import annotations

import math
import re
import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..errors import DataError, first_line
from ..files import atomic_path, read_object, versions, write_json
from ..histories.questions import evaluated_events
from ..rankers.saved import FORMAT

if TYPE_CHECKING:
    from ..config import Config
    from .protocol import Task

Kind = Literal["baseline", "stack", "model", "run file", "ablation"]

SUMMARY: Final = "summary"  # the file in the same folder that has all rankers of a split in one table
_ROOT: Final = Path(__file__).resolve().parents[1]
ABLATION: Final = "ablation"  # the files there that say what the context is worth; neither is a ranker's slug


@dataclass(frozen=True)
class Rankings:
    """What one ranker said of E events: its first K items, and where the true one stands.

    `row_E`, int64 [E], are rows of `Histories.events`, ascending. `rank_E`, int64 [E], is the rank of the true item
    among all candidates, from 1; 0: only known not to be among the first K. `item_EK`, int32 [E, K], are item_idx, best
    first, -1 behind the last where there are fewer; `score_EK`, float64 [E, K], do not increase and are -inf where the
    item is -1, log-probabilities for models. `log_prob_E`, float32 [E], is log p(true item) in nats; None for rankers
    that are no distribution. `exact_E`, bool [E], says whether the first K are proven to be the first K; None: all are.

    Raises:
        ValueError: shapes that do not go together, rows out of order.
    """

    row_E: NDArray[np.int64]
    rank_E: NDArray[np.int64]
    item_EK: NDArray[np.int32]
    score_EK: NDArray[np.float64]
    log_prob_E: NDArray[np.float32] | None = None
    exact_E: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        num_events, (_, k) = len(self.row_E), self.item_EK.shape
        for name, value in vars(self).items():
            expected = (num_events, k) if name.endswith("_EK") else (num_events,)
            if value is not None and value.shape != expected:
                raise ValueError(f"{name} should be of shape {expected}, found {value.shape}")
        if (np.diff(self.row_E) <= 0).any():
            raise ValueError("rows must ascend")
        if not np.isneginf(self.score_EK[self.item_EK < 0]).all():
            raise ValueError("where there is no item, the score must be -inf")
        if (self.score_EK[:, 1:] > self.score_EK[:, :-1]).any() or np.isnan(self.score_EK).any():
            raise ValueError("scores must not increase along a ranking, nor be NaN")

    @classmethod
    def of_frame(cls, frame: pl.DataFrame, k: int) -> Rankings:
        """From columns row, rank, items and scores (lists of at most k, best first), and log_prob and exact if any.

        Raises:
            KeyError, ValueError, TypeError, pl.exceptions.PolarsError: a column is missing or of another type.
        """
        array: dict[str, Any] = {
            name: frame[name].to_numpy(writable=True) for name in ("log_prob", "exact", "row", "rank")
            if name in frame.columns
        }  # fmt: skip
        item_EK, score_EK = _matrix(frame["items"], k, -1).astype(np.int32), _matrix(frame["scores"], k, -np.inf)
        return cls(array["row"], array["rank"], item_EK, score_EK, array.get("log_prob"), array.get("exact"))

    @property
    def k(self) -> int:
        """K, how many items are kept of each ranking."""
        return int(self.item_EK.shape[1])

    def take(self, chosen_E: NDArray[np.bool_] | NDArray[np.int64]) -> Rankings:
        """Those of some events: a mask, or ascending positions."""
        parts: dict[str, Any] = {name: None if all_E is None else all_E[chosen_E] for name, all_E in vars(self).items()}
        return Rankings(**parts)


def evaluation_folder(run: Path, split: str, limit: int | None = None) -> Path:
    """Where a run keeps the rankings of a split, all rankers side by side; a sample has a folder of its own."""
    return run / "evaluation" / (f"{split}-{limit}" if limit else split)


def ablated_folder(folder: Path) -> tuple[Path, int | None] | None:
    """Where `ablate` left its tables for the split of this folder, and about how many events (None: all): the folder
    itself, or the one of the largest sample; None where nothing was ablated.
    """
    if (folder / f"{ABLATION}.json").is_file():
        return folder, None
    names = (path.parent.name for path in folder.parent.glob(f"{folder.name}-*/{ABLATION}.json"))
    limits = [int(limit) for name in names if (limit := name.removeprefix(f"{folder.name}-")).isdecimal()]
    return (folder.with_name(f"{folder.name}-{max(limits)}"), max(limits)) if limits else None


def slug_of(name: str) -> str:
    """A ranker's name as a file name: "own counts + transitions" becomes "own-counts-transitions".

    Raises:
        ValueError: nothing would be left, or the slug is the name of another file there.
    """
    slug = "-".join(re.findall(r"[a-z0-9.]+", name.lower())).strip(".")
    if slug in ("", SUMMARY, ABLATION):
        raise ValueError(f"{name!r} cannot name a ranker's files")
    return slug


def parts_file(folder: Path, slug: str) -> Path:
    """Where the parts of a ranking's log-odds are, if it has any (`parts`)."""
    return folder / f"{slug}.parts.parquet"


def write_rankings(
    folder: Path, slug: str, rankings: Rankings, facts: dict[str, Any], events: pl.DataFrame | None = None
) -> None:
    """Write `<slug>.parquet`, then `<slug>.json`; an older ranking of that slug is replaced, its parts are removed.

    Columns are row, rank, items (list of int32), scores (list of float64), and log_prob and exact where the ranker has
    them; items and scores end before the first -1. `events`, those of the histories, add user_id, item_id (the true
    one's) and time. To the facts (anything JSON knows), "slug", "num_events" and "k" are added.
    """
    (folder / f"{slug}.json").unlink(missing_ok=True)  # from here on, what was there is no longer complete
    parts_file(folder, slug).unlink(missing_ok=True)
    columns: dict[str, Any] = {"row": rankings.row_E}
    if events is not None:
        columns |= {name: events[name].gather(rankings.row_E) for name in ("user_id", "item_id", "time")}
    count = pl.lit(pl.Series((rankings.item_EK >= 0).sum(axis=1)))
    all_K = pl.DataFrame({"items": rankings.item_EK, "scores": rankings.score_EK})
    lists = all_K.select(pl.all().arr.to_list().list.head(count))
    columns |= {"rank": rankings.rank_E, **lists.to_dict()}
    optional = {"log_prob": rankings.log_prob_E, "exact": rankings.exact_E}
    columns |= {name: value_E for name, value_E in optional.items() if value_E is not None}
    with atomic_path(folder / f"{slug}.parquet") as path:
        pl.DataFrame(columns).write_parquet(path)
    write_json(folder / f"{slug}.json", {**facts, "slug": slug, "num_events": len(rankings.row_E), "k": rankings.k})


def read_rankings(folder: Path, slug: str) -> tuple[Rankings, dict[str, Any]]:
    """What `write_rankings` wrote, and its facts.

    Raises:
        DataError: there is no complete ranking of that slug (names those that there are), or its files are damaged.
    """
    facts = read_facts(folder, slug)
    try:
        rankings = Rankings.of_frame(pl.read_parquet(folder / f"{slug}.parquet"), facts["k"])
        if len(rankings.row_E) != facts["num_events"]:
            raise ValueError(f"{len(rankings.row_E)} events, where {slug}.json has {facts['num_events']}")
    except (OSError, pl.exceptions.PolarsError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{folder / slug}.parquet should be the rankings that {slug}.json describes but is not "
            f"({first_line(error)}); remove both and make them again (`whereupon evaluate`)."
        ) from None
    return rankings, facts


def read_facts(folder: Path, slug: str) -> dict[str, Any]:
    """The facts of a complete ranking.

    Raises:
        DataError: there is none of that slug (names those that there are), or the file is damaged.
    """
    path = folder / f"{slug}.json"
    if not path.is_file():
        found = ", ".join(slugs_in(folder)) or "none"
        raise DataError(f"{folder} should hold the rankings {slug!r} but holds {found}; run `whereupon evaluate`.")
    try:
        facts = read_object(path)
        if missing := [name for name in ("k", "num_events") if type(facts.get(name)) is not int]:
            raise DataError(f"{missing[0]} should be a number, found {facts.get(missing[0])!r}")
    except DataError as error:
        raise DataError(
            f"{path} should hold the facts of rankings but does not ({first_line(error)}); remove it and make the "
            "rankings again (`whereupon evaluate`)."
        ) from None
    return facts


def finished(folder: Path, slug: str, key: str) -> bool:
    """Whether the rankings `slug` are there undamaged, and of this key (a fact: all that they depend on)."""
    try:
        return bool(read_rankings(folder, slug)[1].get("key") == key)
    except DataError:
        return False


def of_earlier_rankers(folder: Path, slugs: Iterable[str]) -> list[str]:
    """Those of some complete rankings whose rankers an earlier version has fitted, by slug."""
    there = set(slugs_in(folder))
    return [one for one in slugs if one in there and read_facts(folder, one).get("rankers_format") != FORMAT]


def slugs_in(folder: Path) -> list[str]:
    """Slugs of the complete rankings in a folder, in alphabetical order; none where there is no such folder."""
    return sorted(path.stem for path in folder.glob("*.json") if path.with_suffix(".parquet").is_file())


def orphans_in(folder: Path) -> list[str]:
    """Slugs of facts whose rankings are gone, in alphabetical order."""
    paths = [path for path in folder.glob("*.json") if not path.with_suffix(".parquet").is_file()]
    return sorted(path.stem for path in paths if path.stem not in (SUMMARY, ABLATION))


def of_task(folder: Path, task: Task) -> tuple[list[str], list[str]]:
    """Slugs of the complete rankings in a folder: of this task, and of others, which cannot be compared with them."""
    is_of = {slug: read_facts(folder, slug).get("task") == task.hash for slug in slugs_in(folder)}
    return [slug for slug, fits in is_of.items() if fits], [slug for slug, fits in is_of.items() if not fits]


def named_rankings(folder: Path, name: str, task: Task) -> tuple[Rankings, dict[str, Any]]:
    """The rankings in `folder` of a ranker's name or slug.

    Raises:
        DataError: there are none, or they are of another task; names those that there are.
    """
    slugs = slugs_in(folder)
    found = [slug for slug in slugs if slug == name] or [s for s in slugs if read_facts(folder, s).get("name") == name]
    if not found:
        there, verbs = ", ".join(slugs) or "none", f"`whereupon evaluate` or `import-run` with `--split {task.split}`"
        raise DataError(f"{folder} should hold rankings by {name!r} but holds {there}; run {verbs} first.")
    rankings, facts = read_rankings(folder, found[0])
    if facts.get("task") != task.hash:
        raise DataError(
            f"The rankings {found[0]!r} in {folder} are of other data, events or candidates than this configuration's; "
            f"run `whereupon evaluate --split {task.split}` again."
        )
    return rankings, facts


def free_slug(folder: Path, name: str, kind: Kind) -> str:
    """The slug of a ranker that is to be written.

    Raises:
        DataError: the name has no letter a-z or digit, or rankings of another name or kind are there under its slug.
    """
    try:
        slug = slug_of(name)
    except ValueError:
        raise DataError(
            f"The name {name!r} should have letters a-z or digits, of which its files' name is made, and not be "
            "'summary' or 'ablation'; choose another."
        ) from None
    for other in slugs_in(folder):
        facts, there = read_facts(folder, other), ""
        if other == slug and facts.get("kind") != kind:
            there = f"another kind ({facts.get('kind')})"
        elif (other == slug) != (facts.get("name") == name):  # "a b" and "a+b"; a model's files have another name
            there = f"the name {facts.get('name')!r}"
        if there:
            raise DataError(f"{folder} holds rankings {other!r} of {there} already; choose another name.")
    return slug


def refuse_other_kind(folder: Path, slug: str, kind: Kind) -> None:
    """Raise DataError if rankings of a slug would replace those of another kind, such as a run file named "SASRec"."""
    there = read_facts(folder, slug).get("kind", kind) if slug in slugs_in(folder) else kind
    if there != kind:
        raise DataError(
            f"{folder} should be free for the rankings {slug!r} of a {kind} but holds those of a {there}; move "
            f"{slug}.json and {slug}.parquet elsewhere, or make the {there} again under another name."
        )


def replaced(folder: Path, slug: str, task: Task) -> str:
    """One sentence on complete rankings of another task that rankings of this one are about to replace; "": none."""
    if slug not in slugs_in(folder) or read_facts(folder, slug).get("task", task.hash) == task.hash:
        return ""
    return f"the rankings {slug!r} in {folder} are of other data, events or candidates, and are replaced"


def facts_of(config: Config, task: Task, *, name: str, kind: Kind, wall_s: float | None, **more: Any) -> dict[str, Any]:
    """The facts of one ranking of a task, for `write_rankings`, and `more` that JSON knows, such as `settings`.

    `wall_s` is how long the ranking took, fitting included, tuning not; None if unknown. The task's hash says with
    which other rankings this one may be compared; `num_split_events` is how many events a sample was drawn from.
    """
    histories = task.histories
    protocol = {
        "split": histories.manifest.get("settings", {}).get("split", {}), "repeats": task.candidates.repeats,
        "available_from": task.candidates.available_s_I is not None, "num_without_candidate": task.num_without,
    }  # fmt: skip
    return {
        "name": name, "kind": kind, "split": task.split, "task": task.hash, "protocol": protocol,
        "num_split_events": len(evaluated_events(histories, task.split)) - task.num_without,
        "rankers_format": FORMAT, "seed": config.seed, "wall_s": wall_s, "num_items": histories.items.height,
        "data_hash": histories.data_hash, "catalogue_hash": histories.catalogue_hash, "versions": versions(),
        "command": typed_command(), "finished": datetime.now(UTC).isoformat(timespec="seconds"), **more,
    }  # fmt: skip


def finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Metrics as JSON can hold them: NaN (a mean over nothing) and infinity (held impossible) become None."""
    return {name: float(value) if math.isfinite(value) else None for name, value in metrics.items()}


def typed_command() -> str:
    """What was typed to get here; a script is called by its path in the repository."""
    path = Path(sys.argv[0]).resolve()
    program = ["whereupon" if path.name == "cli.py" else path.name]
    if path.suffix == ".py" and path.name != "cli.py":
        program = ["python", str(path.relative_to(_ROOT)) if path.is_relative_to(_ROOT) else path.name]
    return shlex.join([*program, *sys.argv[1:]])


def _matrix(lists: pl.Series, k: int, empty: float) -> NDArray[np.float64]:
    """Lists of at most k numbers as float64 [E, K], filled up by `empty`."""
    count_E = lists.list.len().to_numpy()
    matrix_EK = np.full((len(lists), k), empty, np.float64)
    matrix_EK[np.arange(k) < count_E[:, None]] = lists.explode().drop_nulls().to_numpy()
    return matrix_EK
