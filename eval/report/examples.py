"""Ten events in full, drawn by seed within strata of the contender's rank, so that hits and misses are all there.

With each, what the model read: the text of the very tokens, or of the templates without a tokenizer. Nothing is
fetched: a base model that is not on this machine has no tokenizer here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from ...arrays import Int64, ragged
from ...catalogue import Catalogue, Encode
from ...errors import CatalogueError, ModelError, PromptError
from ...histories import Histories
from ...prompts import PromptEncoder, PromptSettings, context_frame
from .parts import explained, first_with_parts
from .runs import Dataset, Ranked, recorded
from .sections import LISTED, Part

if TYPE_CHECKING:
    from ...decode.tokenizer import Tokenizer

NUM_EXAMPLES = 10
STRATA = {"ranked first": 4, "ranked 2 to 10": 3, "not among the first 10": 3}  # how many of each are shown
TAIL_LINES = 12
NO_BUDGET = 10**9
FETCHED = "smollm2-135m"  # the one base model with a name of its own; others are folders or hub ids


def examples(dataset: Dataset, seed: int) -> Part:
    """Ten events, or all where there are fewer; strata that are short of events leave their places to the others.

    `counts` says how many events each stratum has in all, `note` how the prompts were made.
    """
    rank_E = dataset.contender.rankings.rank_E
    stratum_E = np.where(rank_E == 1, 0, np.where((rank_E >= 2) & (rank_E <= LISTED), 1, 2))
    position_Q = _drawn(stratum_E, seed)
    row_Q = np.sort(dataset.row_E[position_Q])  # prompts are made in the order of rows
    prompts, note = prompts_of(dataset.contender, dataset.histories, row_Q)
    prompt_of = dict(zip(row_Q.tolist(), prompts, strict=False))
    parts = first_with_parts(dataset)
    found = [
        {**_example(dataset, position, int(stratum_E[position]), prompt_of.get(int(dataset.row_E[position]))),
         "adds": explained(dataset, position, parts)}
        for position in position_Q.tolist()
    ]  # fmt: skip
    counts = {words: int((stratum_E == code).sum()) for code, words in enumerate(STRATA)}
    return {"examples": found, "counts": counts, "note": note, "seed": seed}


def _drawn(stratum_E: Int64, seed: int) -> Int64:
    """Positions of the events, by stratum and then in time's order of rows: int64 [Q]."""
    shuffled = np.random.default_rng(seed).permutation(len(stratum_E))
    wanted: list[int] = []
    for code, number in enumerate(STRATA.values()):
        wanted += shuffled[stratum_E[shuffled] == code][:number].tolist()
    left = [position for position in shuffled.tolist() if position not in set(wanted)]
    chosen = np.array(sorted(wanted + left[: NUM_EXAMPLES - len(wanted)]), np.int64)
    return chosen[np.argsort(stratum_E[chosen], kind="stable")]


def _example(dataset: Dataset, position: int, stratum: int, prompt: Part | None) -> Part:
    """One event; `prompt` is None where none can be made."""
    histories, row = dataset.histories, int(dataset.row_E[position])
    user, item = int(histories.user_idx_N[row]), int(histories.item_idx_N[row])
    begin = int(histories.offset_U1[user])
    event = histories.events[row : row + 1]
    local, weather = event["local_time"][0], context_frame(event, histories.location)["weather"][0]
    opponent = dataset.opponent
    return {
        "words": list(STRATA)[stratum], "user_id": histories.user_ids[user],
        "when": f"{local:%A} {local.day} {local:%B %Y, %H:%M}", "weather": str(weather),
        "title": _title(dataset, item), "num_past": row - begin,
        "num_visits": int((histories.item_idx_N[begin:row] == item).sum()),
        "contender": _answer(dataset, dataset.contender, position, item),
        "opponent": _answer(dataset, opponent, position, item) if opponent else None, "prompt": prompt,
    }  # fmt: skip


def _answer(dataset: Dataset, ranker: Ranked, position: int, item: int) -> Part:
    """What one ranker said: its first items and where the true one stood (0: not among those known).

    `value` of a guess is its probability or score, `share` that of the list's largest probability, for a bar.
    """
    rankings, log_prob_E = ranker.rankings, ranker.rankings.log_prob_E
    score_K, item_K = rankings.score_EK[position, :LISTED], rankings.item_EK[position, :LISTED]
    value_K = score_K if log_prob_E is None else np.exp(score_K)
    most = 0.0 if log_prob_E is None else float(value_K[0])
    guesses = [
        {"place": place, "title": _title(dataset, other), "value": value, "is_true": other == item,
         "share": value / most if most > 0 else 0.0}
        for place, (other, value) in enumerate(zip(item_K.tolist(), value_K.tolist(), strict=True), start=1)
        if other >= 0
    ]  # fmt: skip
    known = None if log_prob_E is None else float(np.exp(log_prob_E[position]))
    return {"ranker": ranker, "guesses": guesses, "rank": int(rankings.rank_E[position]), "probability": known,
            "is_probability": log_prob_E is not None}  # fmt: skip


def _title(dataset: Dataset, item: int) -> str:
    return str(dataset.histories.items["title"][item])


def prompts_of(ranker: Ranked, histories: Histories, row_Q: Int64) -> tuple[list[Part], str]:
    """The prompts of the events `row_Q` as the ranker had them, by the settings in its facts; and a sentence on that.

    `tail` are the last lines of a prompt, up to the open question; `num_lines` are not shown, `num_tokens` 0: unknown.
    Other rankers read no prompts: theirs are those that the run's model would read by its last evaluation's settings.
    """
    own = ranker.facts.get("settings") or {}
    config = own if "prompts" in own else recorded(ranker.run).get("evaluate", {}).get("config")
    if not config:
        return [], "With what settings prompts were made is not recorded, so none are shown."
    try:
        settings = PromptSettings.model_validate(config.get("prompts", {}))
    except ValidationError:
        return [], "The run's prompt settings are those of another version, so no prompts are shown."
    model = config.get("model", {})
    base = str(model.get("base", FETCHED))
    name, template = Path(base).name, f"template {settings.template!r}"
    tokenizer = _tokenizer(base, model.get("revision"))
    try:
        if tokenizer:
            prompts = _rendered(
                settings, tokenizer, tokenizer.decode, tokenizer.prefix, histories, row_Q, tokenizer.chat
            )
            read = "read" if ranker.kind == "model" else "would read"
            budget = f"at most {settings.budget_tokens:,} tokens with the answer"
            return prompts, f"Prompts are those that {name} {read}, token for token: {template}, {budget}."
        whole = settings.model_copy(update={"budget_tokens": NO_BUDGET, "align_tokens": 1})
        characters = (lambda texts: [list(map(ord, one)) for one in texts]), (lambda ids: "".join(map(chr, ids)))
        prompts = _rendered(whole, *characters, (), histories, row_Q)
        note = f"The tokenizer of {name} is not on this machine: prompts are the whole history by the {template}"
        return [{**one, "num_tokens": 0} for one in prompts], f"{note}, without the token budget."
    except (PromptError, CatalogueError) as error:
        return [], f"No prompts are shown: {error}"


def _tokenizer(base: str, revision: str | None) -> Tokenizer | None:
    """The base model's tokenizer if it is on this machine, and the packages to read it."""
    try:
        is_kept = base == FETCHED or Path(base).is_absolute()
        if not is_kept:  # looked for before transformers is loaded, which takes seconds
            from huggingface_hub import try_to_load_from_cache

            if not isinstance(try_to_load_from_cache(base, "tokenizer_config.json", revision=revision), str):
                return None
        from transformers import AutoTokenizer

        from ...decode.base_models import resolve_base_model
        from ...decode.tokenizer import Tokenizer

        where: str | Path = resolve_base_model(base) if is_kept else base
        read: Any = AutoTokenizer.from_pretrained(where, revision=revision or "main", local_files_only=True)
        return Tokenizer(read)
    except (ImportError, ModelError, OSError, ValueError):  # transformers has a mind of its own as to which
        return None


def _rendered(
    settings: PromptSettings, encode: Encode, decode: Callable[[Sequence[int]], str], prefix: tuple[int, ...],
    histories: Histories, row_Q: Int64, chat: Callable[[str], str] | None = None,
) -> list[Part]:  # fmt: skip
    catalogue = Catalogue.build(histories.items, encode)
    encoder = PromptEncoder.build(settings, catalogue, encode, histories.location, prefix, chat)
    user_U, offset_U1 = np.unique(histories.user_idx_N[row_Q]), histories.offset_U1.astype(np.int64)
    _, row_X = ragged(offset_U1[user_U], offset_U1[user_U + 1] - offset_U1[user_U])  # all rows of these users
    text = encoder.text(histories.events[row_X], len(histories.user_ids))
    windows, prompts = text.windows, []
    for event in np.searchsorted(row_X, row_Q).tolist():
        one = windows.select((windows.target_W <= event) & (event < windows.end_W))
        window = text.encode_windows(one, one.target_W)[0]  # filled up as in the evaluation
        end = int(window.title_start_V[event - int(one.start_W[0])])
        lines = decode(window.tokens_L[:end].tolist()).split("\n")
        tail = "\n".join(lines[-TAIL_LINES:])
        prompts.append({"tail": tail, "num_lines": max(0, len(lines) - TAIL_LINES), "num_tokens": end})
    return prompts
