"""Shipped template packs, the variables that only they name, and adapters of before that must stay valid."""

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import polars as pl
import pytest

from whereupon.catalogue import Catalogue
from whereupon.errors import PromptError
from whereupon.prompts import FEATURES, PromptEncoder, PromptSettings, encode_text, features_of, load_templates
from whereupon.prompts.chinese import in_chinese
from whereupon.prompts.kinds import CONTEXT_KINDS
from whereupon.prompts.templates import SHIPPED

Events = Callable[..., pl.DataFrame]
MakeEncoder = Callable[..., PromptEncoder]
PACKS = sorted({path.name for path in SHIPPED.iterdir()} - {"checkins", "flights", "movies", "plain"})
TITLES = ["Bar", "Park"]
EVERY_COMBINATION = [kinds for count in range(4) for kinds in itertools.combinations(CONTEXT_KINDS, count)]


def _chat(message: str) -> str:
    return f"<user>{message}</user>\n<assistant>"


def _encoder(make_words: Callable[[], Any], template: str, location: str = "outcome", **settings: Any) -> PromptEncoder:
    words = make_words()
    items = pl.DataFrame({"item_id": ["i0", "i1"], "title": TITLES, "district": ["Soho", "Chelsea"]})
    asked = PromptSettings(template=template, **settings)
    return PromptEncoder.build(asked, Catalogue.build(items, words), words, location, (), _chat)


def _walk(events: Events) -> pl.DataFrame:
    rows = [
        (0, "2024-01-01T22:00", 0),
        (0, "2024-01-02T22:00", 0),
        (0, "2024-01-03T09:00", 1),
        (0, "2024-01-03T12:00", 0),
    ]
    return events(rows, latitude=[40.70, 40.70, 40.72, 40.70], longitude=[-74.0] * 4,
                  temperature_c=[-3.0, 1.0, 2.0, 3.0], precipitation_mm=[0.0, 0.0, 0.0, 4.0])  # fmt: skip


def _lines(encoder: PromptEncoder, output: pl.DataFrame) -> list[str]:
    text = encoder.text(output, 1)
    window = text.encode_windows(text.windows)[0]
    return cast(Any, encoder.encode).text(window.tokens_L.tolist()).splitlines()  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", PACKS)
@pytest.mark.parametrize("kinds", EVERY_COMBINATION, ids="+".join)
def test_pack_reads_well_whatever_is_left_out(
    name: str, kinds: tuple[str, ...], events: Events, make_words: Callable[[], Any]
) -> None:
    encoder = _encoder(make_words, name, leave_out=kinds)
    for line in _lines(encoder, _walk(events))[-4:]:
        said = line.removesuffix(" Bar").removesuffix(" Park")
        assert said != line
        assert said.endswith(":")
        assert not re.search(r"  |, ?[,:]|\(\)|None|^[ ,]", said), line


@pytest.mark.parametrize("name", PACKS)
def test_pack_has_a_version_that_its_fingerprint_holds(name: str, tmp_path: Path) -> None:
    pack = load_templates(name)
    assert pack.pack.version >= 1
    folder = tmp_path / name
    folder.mkdir()
    for path in (SHIPPED / name).iterdir():
        text = path.read_text(encoding="utf-8")
        (folder / path.name).write_text(text.replace("version: 1", "version: 2"), encoding="utf-8")
    assert load_templates(str(folder)).fingerprint != pack.fingerprint


def test_broken_pack_file_is_one_sentence(tmp_path: Path) -> None:
    for name in ("preamble", "context", "profile"):
        (tmp_path / f"{name}.j2").write_text("x")
    (tmp_path / "pack.yaml").write_text("version: none")
    with pytest.raises(PromptError, match=r"pack\.yaml should hold `version: 1`"):
        load_templates(str(tmp_path))


@pytest.mark.parametrize("name", ["checkins", "flights", "movies", "plain"])
def test_sets_of_before_have_the_fingerprint_that_adapters_know(name: str, make_encoder: MakeEncoder) -> None:
    known = {
        "checkins": "e8bd4948daae4525", "flights": "cc62b2450d0e0eec", "movies": "448dcbc93b2cb3fc",
        "plain": "5eda2396a1e215d6",
    }  # fmt: skip
    encoder = make_encoder(TITLES, template=name)
    assert encoder.templates.fingerprint[:16] == known[name]
    assert set(encoder.identity["prompts"]) == {"budget_tokens", "profile_tokens", "keep_fraction", "profile_order"}
    assert not features_of(encoder.settings, encoder.templates, encoder.catalogue.items).wanted


def test_settings_of_places_and_holidays_are_part_of_the_identity(make_words: Callable[[], Any]) -> None:
    encoder = _encoder(make_words, "places", place_column="district", holiday_country="US")
    assert {"place_column": "district", "holiday_country": "US"}.items() <= encoder.identity["prompts"].items()


def test_places_name_the_last_place_and_never_the_chosen_one(events: Events, make_words: Callable[[], Any]) -> None:
    lines = _lines(_encoder(make_words, "places", place_column="district"), _walk(events))
    assert "Soho" not in lines[1]
    assert "from Soho" in lines[2]
    assert "from Soho at home:" in lines[3]
    assert "from Chelsea 2 km from home, moved 2 km north:" in lines[4]


def test_descriptive_says_what_is_new(events: Events, make_words: Callable[[], Any]) -> None:
    lines = _lines(_encoder(make_words, "descriptive"), _walk(events))
    assert "1 day after the last, dusk" in lines[2]
    assert "3 hours after the last, dawn, rain began" in lines[4]
    chinese = _lines(_encoder(make_words, "descriptive-zh"), _walk(events))
    assert "距上次3小时, 黎明, 开始下雨" in chinese[4]
    assert "离家2公里, 向北走了2公里" in chinese[4]


def test_column_that_items_lack_is_one_sentence(make_words: Callable[[], Any]) -> None:
    with pytest.raises(PromptError, match=r"prompts\.place_column names 'borough', .* they have district\.$"):
        _encoder(make_words, "places", place_column="borough")


def test_context_column_of_ones_own_goes_before_a_variable_of_its_name(
    events: Events, make_words: Callable[[], Any], tmp_path: Path
) -> None:
    for name, text in (("preamble", "Log."), ("context", "{{ speed }}:"), ("profile", "x{{ count }}:")):
        (tmp_path / f"{name}.j2").write_text(text)
    encoder = _encoder(make_words, str(tmp_path))
    assert _lines(encoder, events([(0, "2024-01-01T22:00", 0)], speed=["slow"]))[1] == "slow: Bar"


def test_chat_puts_the_preamble_into_the_format_of_the_model(events: Events, make_words: Callable[[], Any]) -> None:
    encoder = _encoder(make_words, "chat")
    lines = _lines(encoder, _walk(events))
    assert lines[0].startswith("<user>Below is")
    assert lines[0].endswith("</user>")
    assert lines[1] == "<assistant>"
    assert lines[2] == "Monday evening 10 freezing: Bar"


def test_chat_as_text_has_the_tokens_of_the_prompt(events: Events, make_words: Callable[[], Any]) -> None:
    encoder = _encoder(make_words, "chat")
    text = encoder.text(_walk(events), 1)
    tokens = text.encode_windows(text.windows)[0].tokens_L.tolist()
    assert encode_text(encoder, cast(Any, encoder.encode).text(tokens), pl.Series(TITLES)) == tokens


def test_chat_format_that_begins_with_the_first_tokens_has_them_once(make_words: Callable[[], Any]) -> None:
    words = make_words()
    begin = words(["<s>"])[0]
    catalogue = Catalogue.build(pl.DataFrame({"item_id": ["i0"], "title": ["Bar"]}), words)
    asked = PromptSettings(template="chat")
    encoder = PromptEncoder.build(asked, catalogue, words, "outcome", tuple(begin), lambda said: f"<s> {said}\n")
    assert encoder.preamble.tolist().count(begin[0]) == 1


def test_chat_without_a_format_is_one_sentence(make_encoder: MakeEncoder) -> None:
    with pytest.raises(PromptError, match=r"set chat is a chat, and this tokenizer has no chat template; choose"):
        _ = make_encoder(TITLES, template="chat").preamble


@pytest.mark.parametrize(
    ("words", "chinese"),
    [("morning 8, evening 7", "早上8点, 晚上7点"), ("cold snow windy", "冷 雪 有风"), ("2 km", "2公里"),
     ("300 m", "300米"), ("1 day", "1天"), ("20 minutes", "20分钟"), ("north-east", "东北"), ("hail", "hail"),
     (None, "")],
)  # fmt: skip
def test_words_of_variables_are_said_in_chinese(words: str | None, chinese: str) -> None:
    assert in_chinese(words) == chinese


@pytest.mark.parametrize("location", ["context", "outcome"])
def test_variables_of_an_event_know_nothing_of_what_follows(
    events: Events, make_words: Callable[[], Any], location: str, tmp_path: Path
) -> None:
    """Each event's line is what it is when all that comes after it, and its own outcome, is another one."""
    every = " ".join(f"{{{{ {name} }}}}" for name in FEATURES)
    for name, text in (("preamble", "Log."), ("context", every + ":"), ("profile", "x{{ count }}:")):
        (tmp_path / f"{name}.j2").write_text(text)
    encoder = _encoder(make_words, str(tmp_path), location, place_column="district", holiday_country="US")
    output = _walk(events)
    whole = encoder.context(output)
    for n in range(output.height):
        other = output[: n + 1].with_row_index("_n")
        if location == "outcome":
            last = pl.col("_n") == n
            other = other.with_columns(
                pl.when(last).then(pl.lit(-1, pl.Int32)).otherwise("item_idx").alias("item_idx"),
                pl.when(last).then(10.0).otherwise("latitude").alias("latitude"),
            )
        assert encoder.context(other.drop("_n")).select(FEATURES).row(n) == whole.select(FEATURES).row(n)
