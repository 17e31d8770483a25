"""How long do grammar back ends take to compile a list of titles as a `choice`?

Each is used as vLLM uses it: xgrammar gets an EBNF rule of alternatives, llguidance a `choice`, outlines-core a regular
expression of alternatives. "Compiled" is when a first mask over the vocabulary has been had, since llguidance puts its
work off until then. What is done once per tokenizer is not counted.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from fresh import Outcome, fresh, start_over
from titles import titles

BACKENDS = ("xgrammar", "llguidance", "outlines_core")
Compile = Callable[[list[str]], Callable[[], int]]


def missing() -> list[str]:
    """The back ends that are not installed."""
    return [name for name in BACKENDS if find_spec(name) is None]


def compare(
    tokenizer: str, sizes: list[int], seed: int, *, limit_s: float, limit_gib: float, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """One row per back end and size, ours included; `tokenizer` is a directory of transformers.

    A back end that did not finish is not tried with more titles.
    """
    rows = []
    for backend in ("whereupon", *BACKENDS):
        gave_up = None
        for num in sizes:
            row: dict[str, Any] = {"backend": backend, "num_titles": num}
            if gave_up:
                rows.append(row | {"problem": f"not tried: {gave_up}"})
                continue
            arguments = {"backend": backend, "tokenizer": tokenizer, "num": num, "seed": seed}
            outcome = fresh("grammars", "compile_titles", arguments, limit_s=limit_s, limit_gib=limit_gib)
            rows.append(row | _row(outcome))
            took = outcome.problem or f"{rows[-1]['compile_s']:.3g} s"
            say(f"{backend}, {num:,} titles: {took}")
            if outcome.problem:
                gave_up = f"{outcome.problem} at {num:,}"
    return rows


def _row(outcome: Outcome) -> dict[str, Any]:
    memory = {"peak_added_mib": outcome.added_bytes / 2**20}
    return memory | ({"problem": outcome.problem} if outcome.problem else outcome.value)


def compile_titles(backend: str, tokenizer: str, num: int, seed: int) -> dict[str, Any]:
    """Seconds to compile `num` titles, of which for the first mask, and how many tokens that mask allows."""
    choices = titles(num, seed)
    prepare = {"whereupon": _trie, "xgrammar": _xgrammar, "llguidance": _llguidance, "outlines_core": _outlines}
    compile_choices = prepare[backend](tokenizer)
    start_over()
    began = time.perf_counter()
    first_mask = compile_choices(choices)
    compiled = time.perf_counter()
    num_allowed = first_mask()
    ended = time.perf_counter()
    return {"compile_s": ended - began, "first_mask_s": ended - compiled, "first_tokens": num_allowed}


def _trie(tokenizer: str) -> Compile:
    import polars as pl

    from whereupon.catalogue import Catalogue
    from whereupon.decode.models import load_tokenizer
    from whereupon.decode.settings import ModelSettings

    encode = load_tokenizer(ModelSettings(base=tokenizer))
    encode(["once, so that nothing is set up later"])

    def compile_choices(choices: list[str]) -> Callable[[], int]:
        items = pl.DataFrame({"item_id": [str(i) for i in range(len(choices))], "title": choices})
        trie = Catalogue.build(items, encode).trie
        return lambda: int(trie.child_ptr_B1[1])

    return compile_choices


def _xgrammar(tokenizer: str) -> Compile:
    import xgrammar
    from transformers import AutoTokenizer

    info = xgrammar.TokenizerInfo.from_huggingface(AutoTokenizer.from_pretrained(tokenizer))
    compiler = xgrammar.GrammarCompiler(info, cache_enabled=False)

    def compile_choices(choices: list[str]) -> Callable[[], int]:
        quoted = [re.sub(r'(["\\])', r"\\\1", choice) for choice in choices]
        matcher = xgrammar.GrammarMatcher(
            compiler.compile_grammar("root ::= " + " | ".join(f'"{choice}"' for choice in quoted))
        )
        mask = xgrammar.allocate_token_bitmask(1, info.vocab_size)

        def first_mask() -> int:
            matcher.fill_next_token_bitmask(mask)
            return _num_bits(mask.numpy())

        return first_mask

    return compile_choices


def _llguidance(tokenizer: str) -> Compile:
    import llguidance
    import llguidance.hf
    import llguidance.numpy
    from transformers import AutoTokenizer

    vocabulary = llguidance.hf.from_tokenizer(AutoTokenizer.from_pretrained(tokenizer))

    def compile_choices(choices: list[str]) -> Callable[[], int]:
        matcher = llguidance.LLMatcher(vocabulary, llguidance.grammar_from("choice", json.dumps(choices)))
        _refuse(matcher.get_error())
        mask = llguidance.numpy.allocate_token_bitmask(1, vocabulary.vocab_size)

        def first_mask() -> int:
            llguidance.numpy.fill_next_token_bitmask(matcher, mask)
            _refuse(matcher.get_error())
            return _num_bits(mask)

        return first_mask

    return compile_choices


def _outlines(tokenizer: str) -> Compile:
    import outlines_core
    from transformers import AutoTokenizer

    found = AutoTokenizer.from_pretrained(tokenizer)
    special, ids = set(found.all_special_tokens), byte_tokens(found.get_vocab())
    kept = {text: [i for i in of if found.convert_ids_to_tokens(i) not in special] for text, of in ids.items()}
    vocabulary = outlines_core.Vocabulary(found.eos_token_id, {text: of for text, of in kept.items() if of})

    def compile_choices(choices: list[str]) -> Callable[[], int]:
        index = outlines_core.Index("(" + "|".join(map(re.escape, choices)) + ")", vocabulary)
        return lambda: len(outlines_core.Guide(index).get_tokens())

    return compile_choices


def byte_tokens(vocabulary: dict[str, int]) -> dict[bytes, list[int]]:
    """Token ids by the bytes they stand for; a byte-level BPE vocabulary writes every byte as a printable letter."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    byte_of = {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}
    found: dict[bytes, list[int]] = {}
    for token, number in vocabulary.items():
        if all(letter in byte_of for letter in token):
            found.setdefault(bytes(byte_of[letter] for letter in token), []).append(number)
    return found


def _refuse(error: str) -> None:
    if error:
        raise RuntimeError(error.splitlines()[0])


def _num_bits(mask: Any) -> int:
    return sum(int(word & 0xFFFFFFFF).bit_count() for word in mask.ravel().tolist())
