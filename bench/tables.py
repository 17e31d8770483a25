"""The figures of bench/search.py as Markdown."""

from __future__ import annotations

from typing import Any

Section = dict[str, Any]
KINDS = {"radius": "radius", "category": "category", "ids": "list of ids"}


def as_markdown(sections: dict[str, Section]) -> str:
    """One table for each part that is there."""
    parts = ["# Search over a catalogue\n\nWritten by `make bench-search`; all figures are in search.json.\n"]
    tables = {"trie": _trie, "nyc": _nyc, "grammars": _grammars}
    parts += [tables[name](section) + _where(section) for name, section in sections.items()]
    return "\n".join(parts)


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; all but the first column to the right."""
    lines = [header, ["---", *("---:" for _ in header[1:])], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _where(section: Section) -> str:
    machine, found = section["machine"], section["versions"]
    names = [f"{name} {found[name]}" for name in ("whereupon", "torch", "transformers", "git") if name in found]
    return f"\n{machine['cpu']}, {machine['cpu_count']} cores; {', '.join(names)}; {section['date'][:10]}.\n"


def _trie(section: Section) -> str:
    sizes = section["sizes"]
    lines: list[tuple[str, Any]] = [
        ("build: tokenise, s", lambda row: row["build"]["tokenise_s"]),
        ("build: trie, s", lambda row: row["build"]["trie_s"]),
        ("build: write a snapshot, s", lambda row: row["build"]["write_s"]),
        ("build: peak memory beyond the items, MiB", lambda row: row["build"]["peak_added_mib"]),
        ("trie in memory, bytes per item", lambda row: row["build"]["trie_bytes_per_item"]),
        ("the same edges as tensors, bytes per item", lambda row: row["build"]["engine_bytes_per_item"]),
        ("snapshot with ids, titles and attributes, MiB", lambda row: row["build"]["file_mib"]),
        ("load to the first answer, nothing in the page cache, s", lambda row: row["load"]["total_s"]),
        ("load to the first answer, again, s", lambda row: row["load_again"]["total_s"]),
        ("add 1,000 items, s", lambda row: row["change"]["add_s"]),
        ("replace 1,000 items, s", lambda row: row["change"]["replace_s"]),
        ("remove 1,000 items, s", lambda row: row["change"]["remove_s"]),
        ("write the changed catalogue, s", lambda row: row["change"]["write_s"]),
        *((f"filter that keeps 10 %, by {text}, ms", lambda row, kind=kind: row["filter"]["kinds"][kind]["median_ms"])
          for kind, text in KINDS.items()),
        *((f"step of {text}, {kind.replace('_', '-')}, ms", lambda row, kind=kind, key=key: row["step"][kind][key])
          for kind in ("best_first", "beam") for key, text in (("root", "the root"), ("nodes_32", "32 nodes"))),
    ]  # fmt: skip
    rows = [[text, *(_shown(of(row)) for row in sizes)] for text, of in lines]
    header = ["", *(f"{row['num_items']:,} titles" for row in sizes)]
    tokens = ", ".join(f"{row['build']['tokens_per_title']:.1f}" for row in sizes)
    note = (
        f"\nMade-up titles (bench/titles.py) of {tokens} tokens on average. Steps: median and 90th percentile from the "
        "model's hidden states to the nodes of the next round, where 32 or more are expanded.\n"
    )
    return "## The trie\n\n" + table(header, rows) + note


def _nyc(section: Section) -> str:
    seconds = section["seconds"]
    names = {
        "read": "whereupon: read the prompt", "search": "whereupon: search", "ours": "whereupon: both",
        "beam_search": "transformers: beam search", "brute_force": "brute force, the prompt having been read",
    }  # fmt: skip
    ndcg = {"ours": section["ndcg"]["ours"], "beam_search": section["ndcg"]["beam_search"]}
    rows = [
        [text, *(_shown(seconds[name][key]) for key in ("median", "p90", "total")),
         f"{ndcg[name]:.4f}" if name in ndcg else ""]
        for name, text in names.items() if name in seconds
    ]  # fmt: skip
    note = (
        f"\n{section['num_prompts']} prompts of nyc-checkins (3,248 titles), of {section['prompt_tokens_median']:.0f} "
        f"tokens in the median; {section['num_brute_force']} of them by brute force, whose ten titles whereupon found "
        f"in {section['same_as_brute_force']}. Proven exact: {section['exact_share']:.1%}. Beam search "
        f"({section['beam_search_invalid_share']:.1%} of its results no title, "
        f"{section['beam_search_duplicate_share']:.1%} duplicates) has {section['beam_search_shares_with_ours']:.1%} "
        "of its titles in common with whereupon; it ranks by another probability (bench/beams.py). whereupon is "
        f"{section['speed_up_total']:.1f} times as fast in total.\n"
    )
    return "## Top-10 of nyc-checkins\n\n" + table(["", "median s", "p90 s", "total s", "nDCG@10"], rows) + note


def _grammars(section: Section) -> str:
    sizes = sorted({row["num_titles"] for row in section["rows"]})
    backends = list(dict.fromkeys(row["backend"] for row in section["rows"]))
    cells = {(row["backend"], row["num_titles"]): _compiled(row) for row in section["rows"]}
    named = {name: f"{name.replace('_', '-')} {section['versions'].get(name, '')}".strip() for name in backends}
    rows = [[named[name], *(cells.get((name, num), "") for num in sizes)] for name in backends]
    note = (
        "\nSeconds until a first mask (whereupon: until the trie, tokenisation included) and memory that it took on "
        f"top; at most {section['limit_s']:g} s and {section['limit_gib']:g} GiB each.\n"
    )
    return "## Compiling titles as a `choice`\n\n" + table(["", *(f"{num:,} titles" for num in sizes)], rows) + note


def _compiled(row: Section) -> str:
    return row["problem"] if "problem" in row else f"{_shown(row['compile_s'])} s, {row['peak_added_mib']:.0f} MiB"


def _shown(value: Any) -> str:
    """Three digits; a median with its 90th percentile as "0.45 / 0.51"."""
    if isinstance(value, dict):
        return f"{_shown(value['ms_median'])} / {_shown(value['ms_p90'])}" if value["num_steps"] else "none"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}"
