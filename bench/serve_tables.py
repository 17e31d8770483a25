"""The figures of bench/serve.py as Markdown."""

from __future__ import annotations

from typing import Any

from tables import table

Section = dict[str, Any]
NAMES = {
    "one_token": "one token of the prompt",
    "ours": "whereupon",
    "a_tuned": "(a) client-side beam search, our server's settings",
    "a_stock": "(a) client-side beam search, stock vLLM",
    "b": "(b) offline `LLM.beam_search` under structured outputs",
    "floor": "(c) greedy, unconstrained, one title",
}
CONCURRENCIES = ("1", "8", "32")


def as_markdown(sections: dict[str, Section]) -> str:
    """Speed, quality and agreement, of the parts that are there."""
    found = {
        name: one
        for part in ("online", "offline")
        for name, one in sections.get(part, {}).get("contestants", {}).items()
    }
    of = {name: found[name] for name in NAMES if name in found}
    parts = ["# The server\n\nWritten by `make bench-serve`; all figures are in serve.json.\n"]
    if of:
        parts += [_speed(of), _quality({name: one for name, one in of.items() if one["num_results"]})]
    if "offline" in sections:
        parts.append(_ways(sections["offline"]))
    if "agreement" in sections:
        parts.append(_agreement(sections["agreement"]))
    if "stack" in sections:
        parts.append(_stack(sections["stack"]))
    return "\n".join([*parts, *(_where(part, section) for part, section in sections.items())])


def _speed(of: dict[str, Section]) -> str:
    header = ["p50 / p99 latency in s, requests/s", *(f"{concurrency} at once" for concurrency in CONCURRENCIES)]
    rows = [
        [NAMES[name], *(_at(one["at"].get(concurrency)) for concurrency in CONCURRENCIES)] for name, one in of.items()
    ]
    note = (
        "\nFrom an empty prefix cache, each prompt once. For (b), so many prompts are given to one call, and all wait "
        "for the last. The 99th percentile of few prompts is about their slowest.\n"
    )
    return "## Speed\n\n" + table(header, rows) + note


def _at(times: Section | None) -> str:
    if times is None:
        return ""
    return (
        f"{times['p50_s']:.2f} / {times['p99_s']:.2f}, {times['requests_per_s']:.3f} ({times['num_prompts']} prompts)"
    )


def _quality(of: dict[str, Section]) -> str:
    header = ["", "no title", "duplicates", "answers with ten titles", "of the ten best", "calls", "children lost"]
    rows = [
        [NAMES[name], f"{one['invalid_rate']:.1%}", f"{one['duplicate_rate']:.1%}", f"{one['share_with_ten']:.1%}",
         "" if one.get("overlap") is None else f"{one['overlap']:.1%} ({one['num_overlap']} prompts)",
         f"{one['calls_mean']:.1f}", f"{one['lost_mean']:.1f}"]
        for name, one in of.items()
    ]  # fmt: skip
    note = (
        "\nThe ten best by brute force over all titles. Calls are HTTP requests an answer; children lost are branches "
        "of the trie whose tokens were not among the 20 that the server names. (a) and (b) rank by probabilities of "
        "the whole vocabulary: (a) renormalised among the branches that it is shown, (b) not at all.\n"
    )
    return "## Titles\n\n" + table(header, rows) + note


def _ways(section: Section) -> str:
    lines = [
        f"- backend {way['backend']}, {way['form']}: "
        + (f"refused: {way['refused']}" if "refused" in way else _taken(way))
        for way in section["ways"]
    ]
    lines += [
        f"- {concurrency} at once was not measured: {why}" for concurrency, why in section["not_measured"].items()
    ]
    lines += [
        f"- width {one['width']}, {one['concurrency']} at once: {one['requests_per_s']:.3f} requests/s, "
        f"{one['titles_mean']:.1f} titles an answer, ten in {one['share_with_ten']:.0%}"
        for one in section.get("whole", ())
    ]
    return "## Ways to constrain `LLM.beam_search`\n\n" + "\n".join(lines) + "\n"


def _taken(way: Section) -> str:
    return f"{way['seconds']:.1f} s for one prompt, {way['num_titles']} of {way['num_results']} results are titles"


def _agreement(section: Section) -> str:
    best = section["brute_force"]
    return (
        f"## Agreement with the in-process engine\n\nThe same ten titles in {section['same_top_ten']} of "
        f"{section['num_prompts']} prompts, log-probabilities at most {section['largest_difference']:.1e} apart; the "
        f"engine has the ten best by brute force in {section['engine_as_brute_force']} of {len(best)}.\n"
    )


def _stack(section: Section) -> str:
    stack, alone = section["times"]["stack"], section["times"]["alone"]
    return (
        f"## The stack of rankers\n\nRecommendations for {section['num_users']} people, one at a time, from an empty "
        f"prefix cache: {stack['p50_s']:.3f} s at the median with the stack, {alone['p50_s']:.3f} s without.\n"
    )


def _where(part: str, section: Section) -> str:
    machine, found = section["machine"], section["versions"]
    names = [f"{name} {found[name]}" for name in ("whereupon", "vllm", "torch", "git") if name in found]
    return f"{part}: {machine['cpu']}, {machine['cpu_count']} cores; {', '.join(names)}; {section['date'][:10]}.\n"
