"""Tiny random models of several architectures, tokenizers of a few bytes, and the naive scoring of titles."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    PhiConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

VOCABULARY = 64
Titles = list[list[int]]

_SHARED = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 128, "initializer_range": 0.3,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip


def tiny_config(architecture: str, **changes: Any) -> PreTrainedConfig:
    """llama (grouped queries), qwen2 (tied embeddings), phi (bias in the output layer) or gpt2 (learnt positions)."""
    if architecture == "gpt2":
        gpt2 = {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 128, "vocab_size": VOCABULARY}
        return GPT2Config(**gpt2 | {"initializer_range": 0.3, "bos_token_id": 1, "eos_token_id": 2} | changes)
    if architecture == "phi":
        return PhiConfig(**_SHARED | changes)
    if architecture == "qwen2":
        return Qwen2Config(**_SHARED | {"num_key_value_heads": 2, "tie_word_embeddings": True} | changes)
    return LlamaConfig(**_SHARED | {"num_key_value_heads": 2} | changes)


def tiny_model(config: PreTrainedConfig, seed: int = 0) -> PreTrainedModel:
    """Random weights, biases included, float32."""
    torch.manual_seed(seed)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.3)
    return model


def random_titles(seed: int, num: int, shared: Sequence[int] = ()) -> Titles:
    """`num` distinct titles of one to six tokens out of few, behind the `shared` ones; token 3 ends each."""
    generator, titles = np.random.default_rng(seed), set()
    while len(titles) < num:
        titles.add(tuple(generator.integers(4, 10, generator.integers(1, 7)).tolist()))
    in_order = sorted(titles)
    return [[*shared, *in_order[i], 3] for i in generator.permutation(num)]


def random_text(seed: int, length: int) -> np.ndarray:
    """int32 [length]"""
    return np.random.default_rng(seed).integers(4, VOCABULARY, length).astype(np.int32)


@torch.inference_mode()
def naive_log_probs(model: PreTrainedModel, text: np.ndarray, titles: Titles, temperature: float = 1.0) -> np.ndarray:
    """float64: log-probability of each title after the text, by the model's own logits over text and title, softmaxed
    over those tokens that continue some title."""
    found = []
    for title in titles:
        ids = torch.tensor([[*text.tolist(), *title]])
        logits_TV = model(input_ids=ids).logits[0, len(text) - 1 :].double() / temperature
        total = 0.0
        for depth, token in enumerate(title):
            allowed = sorted({other[depth] for other in titles if other[:depth] == title[:depth]})
            total += float(torch.log_softmax(logits_TV[depth, allowed], 0)[allowed.index(token)])
        found.append(total)
    return np.array(found)


def byte_tokenizer(folder: Path | None = None, *, before: str = "", after: str = "") -> PreTrainedTokenizerFast:
    """A token for each byte, and the special tokens `before` and `after`, which are added around every text."""
    specials = ["<s>", "</s>"]
    vocabulary = {letter: i for i, letter in enumerate([*specials, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=" ".join(filter(None, [before, "$A", after])),
        special_tokens=[(token, vocabulary[token]) for token in specials],
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    if folder is not None:
        fast.save_pretrained(folder)
    return fast
