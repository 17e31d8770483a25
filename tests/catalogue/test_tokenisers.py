"""Titles under the tokenizers that there are: what the model reads is the title, spaces, accents, line end and all."""

import unicodedata
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from whereupon.catalogue import Catalogue, CatalogueSettings, unique_titles
from whereupon.decode import tokenizer as decode_tokenizer
from whereupon.decode.search import score_all
from whereupon.decode.transformers_engine import TransformersEngine
from whereupon.errors import CatalogueError, ModelError
from whereupon.tests.decode.tiny import byte_tokenizer, tiny_config, tiny_model

Made = Callable[[], Tokenizer]

TITLES = [
    "Blue Cafe", "Blue Cafe 2", "Blue Cafe North", "Blue", "Bar (Old Town)", "Crème brûlée", "喫茶店", "Joe's", "a",
    "aa", "Blue-Cafe", "42", "B & B", "No. 5, Main St.",
]  # fmt: skip
CONTEXTS = ["Monday 9 am, rain:", "Mo: ", "At last, a day of sun:"]
TRAINING = [f" {title}\n" for title in TITLES] + CONTEXTS + ["What one person chose, oldest first.\n"]


def _byte_level(prefix_space: bool = False, normalizer: Any = None) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=340, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TRAINING, trainer)
    return tokenizer


def _punctuation_takes_line_ends() -> Tokenizer:
    """As in Llama 3 and Qwen: " (Old Town)\\n" ends in the one token ")\\n"."""
    tokenizer, alphabet = _byte_level(), pre_tokenizers.ByteLevel.alphabet()
    words = Regex(r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(words, "isolated"), to_bytes])
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TRAINING * 3, trainer)
    assert tokenizer.token_to_id(")Ċ") is not None
    return tokenizer


def _metaspace(model: str, scheme: str, split: bool = True) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram() if model == "unigram" else models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split)
    tokenizer.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme=scheme, split=split)]
    )
    return _trained(tokenizer, model)


def _prepended() -> Tokenizer:
    """As in Llama 2: a space is put before every text, whether it begins with one or not."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return _trained(tokenizer, "bpe")


def _trained(tokenizer: Tokenizer, model: str) -> Tokenizer:
    specials = ["<unk>", "<s>"]
    trainer: Any
    if model == "unigram":
        trainer = trainers.UnigramTrainer(
            vocab_size=120, special_tokens=specials, unk_token="<unk>", show_progress=False
        )
        tokenizer.train_from_iterator(TRAINING * 3, trainer)
    else:  # bytes for all that was not seen in training, the line end among it
        specials += [f"<0x{byte:02X}>" for byte in range(256)]
        trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=specials, show_progress=False)
        tokenizer.train_from_iterator([line.replace("\n", "").replace("喫", "") for line in TRAINING * 3], trainer)
    return tokenizer


MAKERS: dict[str, Made] = {
    "byte-level": _byte_level,
    "byte-level, space put first": lambda: _byte_level(prefix_space=True),
    "byte-level, NFC": lambda: _byte_level(normalizer=normalizers.NFC()),
    "byte-level, punctuation takes line ends": _punctuation_takes_line_ends,
    "Metaspace, Unigram": lambda: _metaspace("unigram", "always"),
    "Metaspace, Unigram, whole lines": lambda: _metaspace("unigram", "first", split=False),
    "Metaspace, BPE": lambda: _metaspace("bpe", "always"),
    "Metaspace, BPE, first": lambda: _metaspace("bpe", "first"),
    "Metaspace, BPE, first, whole lines": lambda: _metaspace("bpe", "first", split=False),
    "Metaspace, BPE, no space put first": lambda: _metaspace("bpe", "never"),
    "SentencePiece as in Llama 2": _prepended,
}


@pytest.fixture(scope="module", name="raw", params=MAKERS, ids=str)
def _raw(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=MAKERS[request.param](), bos_token="<s>")


@pytest.fixture(scope="module", name="encode")
def _encode(raw: PreTrainedTokenizerFast) -> decode_tokenizer.Tokenizer:
    return decode_tokenizer.Tokenizer(raw)


def _catalogue(titles: list[str], encode: decode_tokenizer.Tokenizer) -> Catalogue:
    return Catalogue.build(pl.DataFrame({"item_id": [f"i{n}" for n in range(len(titles))], "title": titles}), encode)


def test_every_title_comes_back_with_its_space_and_its_line_end(encode: decode_tokenizer.Tokenizer) -> None:
    trie = _catalogue(TITLES, encode).trie
    assert [encode.decode(trie.title_tokens(item).tolist()) for item in range(len(TITLES))] == [
        f" {t}\n" for t in TITLES
    ]


def test_line_end_stands_at_the_end_of_a_title_and_nowhere_else(encode: decode_tokenizer.Tokenizer) -> None:
    trie = _catalogue(TITLES, encode).trie
    for item in range(len(TITLES)):
        *inner, last = trie.title_tokens(item).tolist()
        assert "\n" not in encode.decode(inner)
        assert encode.decode([last]).endswith("\n")


def test_pieces_of_a_prompt_joined_are_the_prompt(encode: decode_tokenizer.Tokenizer) -> None:
    pieces = ["What one person chose.\n", CONTEXTS[0], " Blue Cafe\n", CONTEXTS[1], " aa\n", CONTEXTS[2], " 喫茶店\n"]
    assert encode.decode([token for ids in encode(pieces) for token in ids]) == "".join(pieces)


def test_one_branch_leads_to_each_title(encode: decode_tokenizer.Tokenizer) -> None:
    """The texts of a title's edges, each from its node on, are the beginnings of that title and of no other one's."""
    trie = _catalogue(TITLES, encode).trie
    assert trie.num_nodes
    for item, title in enumerate(TITLES):
        tokens = trie.title_tokens(item).tolist()
        _, node, edge = trie.decisions(np.array([item]))
        assert [tokens[depth] for depth in trie.depth_B[node]] == trie.child_token_C[edge].tolist()
        assert f" {title}\n".startswith(encode.decode(tokens[: trie.depth_B[node[-1]]]).rstrip("�"))


def test_tokens_do_not_depend_on_the_texts_beside(encode: decode_tokenizer.Tokenizer) -> None:
    together = encode([f" {title}\n" for title in TITLES])
    assert [encode([f" {title}\n"])[0] for title in TITLES] == together
    assert encode([]) == []


def test_tokens_are_those_that_the_tokenizer_gives_within_a_line(
    raw: PreTrainedTokenizerFast, encode: decode_tokenizer.Tokenizer
) -> None:
    """A line's end before it, which is where every context and (but for its colon) every title stands."""
    whole = raw("\n Blue Cafe\n", add_special_tokens=False).input_ids
    title = encode([" Blue Cafe\n"])[0]
    assert whole[-len(title) :] == title


def test_padding_and_truncation_of_the_tokenizer_do_no_harm(
    raw: PreTrainedTokenizerFast, encode: decode_tokenizer.Tokenizer
) -> None:
    before, fingerprint = encode([" Blue Cafe North\n", " a\n"]), encode.fingerprint
    raw.backend_tokenizer.enable_padding(pad_id=0, pad_token="<s>", length=64)
    raw.backend_tokenizer.enable_truncation(2)
    assert encode([" Blue Cafe North\n", " a\n"]) == before
    raw.backend_tokenizer.enable_truncation(2)
    assert encode.fingerprint == fingerprint


def test_fingerprints_differ_between_tokenizers() -> None:
    made = [
        decode_tokenizer.Tokenizer(PreTrainedTokenizerFast(tokenizer_object=MAKERS[name](), bos_token="<s>"))
        for name in ("byte-level", "byte-level, NFC", "SentencePiece as in Llama 2")
    ]
    assert len({one.fingerprint for one in made}) == 3


def test_text_that_merges_with_one_anchor_is_tokenised_behind_another() -> None:
    """With a token for two line ends, a text that begins with one cannot be cut off behind a line end."""
    tokenizer = _metaspace("bpe", "always", split=False)
    pieces = tokenizer.get_vocab() | {"\n": 900, "\n\n": 901}
    tokenizer.model = models.BPE(pieces, [("\n", "\n")], unk_token="<unk>")
    encode = decode_tokenizer.Tokenizer(PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>"))
    assert encode.decode(encode(["\na", "a"])[0]) == "\na"


def test_byte_level_tokens_are_those_of_transformers() -> None:
    raw = PreTrainedTokenizerFast(tokenizer_object=_byte_level())
    texts = [*TRAINING, "", " ", "\n\n", "  two  spaces "]
    assert decode_tokenizer.Tokenizer(raw)(texts) == raw(texts, add_special_tokens=False).input_ids


# Unicode


def test_unicode_forms_of_a_title_are_one_title_and_come_back_composed(encode: decode_tokenizer.Tokenizer) -> None:
    written = [unicodedata.normalize("NFD", "Crème brûlée"), "Crème brûlée"]
    items = pl.DataFrame({"item_id": ["a", "b"], "title": written})
    titles, _ = unique_titles(items, CatalogueSettings())
    assert titles == ["Crème brûlée", "Crème brûlée 2"]
    trie = _catalogue(titles, encode).trie
    assert [encode.decode(trie.title_tokens(item).tolist()) for item in (0, 1)] == [f" {title}\n" for title in titles]


@pytest.mark.parametrize(
    ("normalizer", "titles"),
    [
        (normalizers.NFC(), ["Crème", unicodedata.normalize("NFD", "Crème")]),
        (normalizers.NFKC(), ["Cafe 2", "Cafe ²"]),
        (normalizers.Lowercase(), ["bar", "Bar"]),
    ],
    ids=["NFC", "NFKC", "lower case"],
)
def test_titles_that_a_tokenizer_makes_alike_are_refused_by_name(normalizer: Any, titles: list[str]) -> None:
    encode = decode_tokenizer.Tokenizer(PreTrainedTokenizerFast(tokenizer_object=_byte_level(normalizer=normalizer)))
    with pytest.raises(CatalogueError, match=f"^The titles '{titles[0]}' and '{titles[1]}' have the same tokens"):
        _catalogue(titles, encode)


def test_titles_of_unknown_letters_are_refused_where_they_are_alike() -> None:
    encode = decode_tokenizer.Tokenizer(
        PreTrainedTokenizerFast(tokenizer_object=_metaspace("unigram", "always"), bos_token="<s>")
    )
    with pytest.raises(CatalogueError, match=r"^The titles 'Bar Ж' and 'Bar Я' have the same tokens"):
        _catalogue(["Bar Ж", "Bar Я", "Blue"], encode)


# Tokenizers and models that do not fit


def test_tokenizer_that_drops_line_ends_is_refused() -> None:
    """As those of T5 and XLNet do."""
    tokenizer = _metaspace("unigram", "always")
    tokenizer.normalizer = normalizers.Replace(Regex(r"\s+"), " ")
    with pytest.raises(
        ModelError, match=r"does not give back the spaces and line ends of a text; expected .* model\.base\.$"
    ):
        decode_tokenizer.Tokenizer(PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>"))


@pytest.mark.usefixtures("one_thread")
def test_model_with_more_rows_than_the_tokenizer_has_tokens_ranks_titles_only() -> None:
    """Rows that pad a vocabulary carry any logits; no edge leads there, so nothing of the distribution is lost."""
    encode = decode_tokenizer.Tokenizer(byte_tokenizer())
    size = len(encode.tokenizer)
    trie = _catalogue(TITLES, encode).trie
    assert trie.token_P.max() < size
    for rows in (size, size + 62):
        model = tiny_model(tiny_config("llama", vocab_size=rows, max_position_embeddings=256))
        engine = TransformersEngine(model, trie)
        log_probs = score_all(engine.read(np.array(encode(["Monday:"])[0], np.int32), np.array([6])), trie)
        assert abs(np.exp(log_probs.astype(np.float64)).sum() - 1) < 1e-5
    short = tiny_model(tiny_config("llama", vocab_size=int(trie.token_P.max()), max_position_embeddings=256))
    with pytest.raises(ModelError, match="expected a tokenizer that belongs to the model"):
        TransformersEngine(short, trie)
