"""Words of a line by their kinds; `tests/serve/app/test_questions.py` reads whole prompts."""

from whereupon.recommend.reading import _by_context, _fields

LINE = "Monday evening 7 cold rain:"


def test_words_that_are_gone_without_a_kind_are_of_it() -> None:
    found = _fields(LINE, {"weather": "Monday evening 7:", "place": LINE, "time": "cold rain:"})
    assert [(kind, words.strip()) for kind, words in found] == [
        ("time", "Monday evening 7"), ("weather", "cold rain"), ("text", ":"),
    ]  # fmt: skip
    assert "".join(words for _, words in found) == LINE


def test_words_that_are_gone_without_either_of_two_kinds_are_of_the_first() -> None:
    found = dict(_fields(LINE, {"weather": "Monday evening 7:", "time": ":"}))
    assert found["weather"].strip() == "cold rain"
    assert found["time"].strip() == "Monday evening 7"


def test_line_that_the_tokens_say_in_another_way_is_left_whole() -> None:
    assert _by_context("Mönday: Park", [("time", "Monday"), ("text", ":")]) == [("text", "Mönday: Park")]
    assert _by_context("Monday: Park", [("time", "Monday"), ("text", ":")]) == [
        ("time", "Monday"), ("text", ":"), ("title", " Park"),
    ]  # fmt: skip
