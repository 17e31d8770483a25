"""The card in an adapter's folder, and the refusal of an adapter that does not belong to a run. Loads no model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import DataError, ModelError, first_line
from ..files import read_object
from .identity import adapter_hash

ADAPTER_CARD = "whereupon.json"
# What must agree between an adapter and the run it is used in, and what to say if it does not. Items are not among
# them: they come and go without training, as long as their titles are made the same way.
MUST_AGREE = {
    "base_hash": "base model",
    "tokenizer": "tokenizer",
    "template_hash": "prompt template",
    "chat_hash": "chat format",
    "prompts": "set of prompt settings",
    "title_recipe": "recipe of titles",
}


def read_card(folder: Path) -> dict[str, Any]:
    """The adapter's `whereupon.json`, which is written last, and beside it `adapter_hash`: that of its weights.

    Raises ModelError where a file is missing or the card is damaged.
    """
    if not (folder / ADAPTER_CARD).is_file():
        raise ModelError(
            f"There is no trained adapter in {folder} (no {ADAPTER_CARD}): run `whereupon finetune` first."
        )
    try:
        card = read_object(folder / ADAPTER_CARD)
        float(card["temperature"])
    except (DataError, KeyError, TypeError, ValueError) as error:
        what = f"{ADAPTER_CARD}: {first_line(error)}"
        raise ModelError(f"The adapter in {folder} is corrupt ({what}): run `whereupon finetune` again.") from error
    return card | {"adapter_hash": adapter_hash(folder)}


def check_card(card: dict[str, Any], folder: Path, expected: dict[str, Any]) -> None:
    """Raise ModelError unless the adapter was trained for what `expected` says (see `adapter_identity`), if it does."""
    for key, name in MUST_AGREE.items():
        if key not in expected or card.get(key) == expected[key]:
            continue
        found, wanted = card.get(key), expected[key]
        if key == "base_hash" and quantization_of(card) != quantization_of(expected):
            raise ModelError(_otherwise_quantized(card, folder, expected))
        if key == "base_hash":  # with the name, which says more where it differs
            names = [Path(str(of.get("base_model"))).name for of in (card, expected)]
            found, wanted = f"{names[0]}, hash {_short(found)}", f"{names[1]}, hash {_short(wanted)}"
        if isinstance(found, dict) and isinstance(wanted, dict):
            names = [name for name in wanted if found.get(name) != wanted[name]] or sorted(found.keys() - wanted.keys())
            found, wanted = ({name: of.get(name) for name in names} for of in (found, wanted))
        raise ModelError(
            f"The adapter in {folder} was trained for another {name} ({_short(found)}) than this run's "
            f"({_short(wanted)}): run `whereupon finetune` again, or use the configuration of its training."
        )


def quantization_of(card: dict[str, Any]) -> str:
    """What `model.quantize` was in a training, by its card; cards of old say nothing of it and mean none."""
    return str(card.get("quantize", "none"))


def _otherwise_quantized(card: dict[str, Any], folder: Path, expected: dict[str, Any]) -> str:
    trained, here = (Path(str(of.get("base_model"))).name for of in (card, expected))
    return (
        f"The adapter in {folder} was trained on {trained} with model.quantize {quantization_of(card)}, and this run "
        f"has {here} with {quantization_of(expected)}: an adapter makes up for the rounding of its own base model. Set "
        f"model.quantize to {quantization_of(card)}, or with that run `whereupon export --merge` and use the merged "
        "model as model.base."
    )


def check_data(card: dict[str, Any], folder: Path, data_hash: str) -> None:
    """Raise DataError unless the adapter was trained on the data of this hash.

    What was trained on other data, or on another split of the same, may have seen the events that it is evaluated on.
    """
    if card.get("data_hash") == data_hash:
        return
    raise DataError(
        f"The adapter in {folder} was trained on other data than this run holds: expected data_hash "
        f"{_short(data_hash)}, found {_short(card.get('data_hash'))}. Run `whereupon finetune` here again, or evaluate "
        "in the run that holds the data of its training."
    )


def _short(value: Any) -> str:
    """As text, a dictionary without its braces, a hash by its beginning."""
    text = ", ".join(f"{name}: {v}" for name, v in value.items()) if isinstance(value, dict) else str(value)
    return text if len(text) <= 60 else f"{text[:16]}..."
