"""`whereupon prompt diff` and `whereupon prompt lint`: prompts compared and checked. No adapter is read."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

import numpy as np
import yaml
from pydantic import ValidationError
from rich.table import Table
from rich.text import Text

from ..console import say, show
from ..decode.models import build_encoder, load_tokenizer
from ..decode.tokenizer import Tokenizer
from ..errors import ConfigError, first_line
from ..histories import read_histories
from ..histories.privacy import privacy_of_run
from ..prompts import PromptEncoder, PromptSettings
from ..prompts.lint import Finding, lint
from .context import RequestContext, open_question
from .private_store import known_as
from .prompt import Prompt, prompt_of
from .settings import RecommendConfig


def diff_prompts(
    config: RecommendConfig, one: str, other: str, user: str | None, context: RequestContext, time_zone: str | None
) -> None:
    """Print how two prompts of one question differ, and what each costs.

    `one`, `other`: a template set, or settings of `prompts` such as "template=places; budget_tokens=512". `user` None
    is who has the most events. Raises ConfigError for settings that cannot be, and what the prompts of a run raise.
    """
    chosen = [changed(config.prompts, text) for text in (one, other)]
    histories, tokenizer = read_histories(config.run), load_tokenizer(config.model)
    if user is None:
        index = int(np.diff(histories.offset_U1).argmax())
    else:
        privacy = privacy_of_run(config.histories.privacy, histories.manifest.get("privacy"))
        index = histories.user(known_as(privacy, user))
    start, end = histories.offset_U1[index : index + 2].tolist()
    query = open_question(histories, histories.events[start:end], context, time_zone)
    encoders = [
        build_encoder(histories.items, histories.events, histories.location, settings, tokenizer) for settings in chosen
    ]
    prompts = [prompt_of(encoder, query) for encoder in encoders]
    texts = [_lines(prompt, encoder, tokenizer) for prompt, encoder in zip(prompts, encoders, strict=True)]
    num_events = (prompts[0].num_lines + 1, prompts[1].num_lines + 1)
    lines = Text("\n").join(
        [Text(f"- {one}", "red"), Text(f"+ {other}", "green"), *difference(texts[0], texts[1], num_events)]
    )
    show(lines, wrap=False)
    show(_costs([one, other], prompts, encoders))
    say(f"user {histories.user_ids[index]}, {prompts[0].num_events} events before the question")


def lint_prompts(config: RecommendConfig) -> list[Finding]:
    """Print what is wrong with the prompts of a run, and return it."""
    histories, tokenizer = read_histories(config.run), load_tokenizer(config.model)
    encoder = build_encoder(histories.items, histories.events, histories.location, config.prompts, tokenizer)
    found = lint(encoder, histories.events, len(histories.user_ids), tokenizer.control_tokens)
    for one in found:
        show(
            Text.assemble((one.level, "red" if one.level == "error" else "yellow"), f" {one.rule}: {one.says}"),
            wrap=False,
        )
    num_errors = sum(one.level == "error" for one in found)
    name = encoder.templates.folder.name
    say(f"template {name}: {num_errors} errors, {len(found) - num_errors} warnings, {histories.events.height:,} events")
    return found


def changed(settings: PromptSettings, text: str) -> PromptSettings:
    """Settings with another template, or with what "KEY=VALUE; KEY=VALUE" says. Raises ConfigError."""
    given = text if "=" in text else f"template={text}"
    pairs = [part.partition("=") for part in given.split(";") if part.strip()]
    try:
        changes = {key.strip().removeprefix("prompts."): yaml.safe_load(value) for key, _, value in pairs}
        return PromptSettings.model_validate({**settings.model_dump(), **changes})
    except (ValidationError, yaml.YAMLError) as error:
        expected = "a template set, or settings such as 'template=places; budget_tokens=512'"
        raise ConfigError(f"{text!r}: expected {expected} ({_problem(error)}).") from None


def _problem(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return first_line(error)


def difference(one: list[str], other: list[str], num_events: tuple[int, int]) -> Iterator[Text]:
    """Lines of two prompts: what one alone has in red, the other in green, and equal lines dim.

    `num_events`: how many lines at the end of each are events and the question. Both end with the same question, so
    these are compared event by event from the end, and what stands before them line by line.
    """
    heads = [lines[: len(lines) - num] for lines, num in zip((one, other), num_events, strict=True)]
    for kind, start, end, begin, stop in difflib.SequenceMatcher(
        None, heads[0], heads[1], autojunk=False
    ).get_opcodes():
        if kind == "equal":
            yield from (Text(f"  {line}", "dim") for line in heads[0][start:end])
        yield from (Text(f"- {line}", "red") for line in heads[0][start:end] if kind != "equal")
        yield from (Text(f"+ {line}", "green") for line in heads[1][begin:stop] if kind != "equal")
    both = min(num_events)
    yield from (Text(f"- {line}", "red") for line in one[len(heads[0]) : len(one) - both])
    yield from (Text(f"+ {line}", "green") for line in other[len(heads[1]) : len(other) - both])
    for line, its in zip(one[len(one) - both :], other[len(other) - both :], strict=True):
        yield from [Text(f"  {line}", "dim")] if line == its else _pair(line, its)


def _pair(one: str, other: str) -> Iterator[Text]:
    """Two lines; the words that differ in bold."""
    words = [line.split(" ") for line in (one, other)]
    blocks = difflib.SequenceMatcher(None, words[0], words[1], autojunk=False).get_matching_blocks()
    for side, (sign, style) in enumerate((("-", "red"), ("+", "green"))):
        same = {index for block in blocks for index in range(block[side], block[side] + block.size)}
        said = [Text(word, style if n in same else f"bold {style}") for n, word in enumerate(words[side])]
        yield Text.assemble((f"{sign} ", style), Text(" ").join(said))


def _lines(prompt: Prompt, encoder: PromptEncoder, tokenizer: Tokenizer) -> list[str]:
    return tokenizer.decode(prompt.tokens_L.tolist()[len(encoder.prefix) :]).splitlines()


def _costs(names: list[str], prompts: list[Prompt], encoders: list[PromptEncoder]) -> Table:
    table = Table(box=None, pad_edge=False)
    others = any(encoder.settings.similar_tokens for encoder in encoders)
    headings = [
        "",
        "tokens",
        "budget",
        "events",
        "tokens an event",
        "profile",
        *(["others"] if others else []),
        "preamble",
    ]
    for heading in headings:
        table.add_column(heading, justify="left" if not heading else "right")
    for sign, name, prompt, encoder in zip("-+", names, prompts, encoders, strict=True):
        rest = len(prompt.tokens_L) - prompt.num_profile_tokens - prompt.num_similar_tokens - len(encoder.preamble)
        mean = f"{rest / max(1, prompt.num_lines + 1):.1f}"  # the question has a line too
        numbers = [len(prompt.tokens_L), encoder.settings.budget_tokens, prompt.num_lines, mean,
                   prompt.num_profile_tokens, *([prompt.num_similar_tokens] if others else []),
                   len(encoder.preamble)]  # fmt: skip
        table.add_row(f"{sign} {name}", *map(str, numbers))
    return table
