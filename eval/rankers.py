"""Finished rankings by the names that people give to rankers."""

from pathlib import Path
from typing import Any

from ..errors import DataError
from .facts import Kind
from .protocol import Task
from .rankings import Rankings, read_facts, read_rankings, slug_of, slugs_in


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
