"""What is trained is what is served: one text for each event, token for token."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest

from whereupon.catalogue import Catalogue
from whereupon.catalogue.catalogue import Encode
from whereupon.histories import Histories
from whereupon.prompts import PromptEncoder, PromptSettings
from whereupon.recommend.context import RequestContext, parse_weather
from whereupon.tests.recommend.questions import build_prompt

MakeHistories = Callable[..., Histories]
SAID = ["rain, 3 C", "clear, 25 C windy", "snow, -5 C", "calm"]
PLACES = {"EWR": "40.69,-74.17", "JFK": "40.64,-73.78"}


def _travels(make_histories: MakeHistories, location: str) -> tuple[Histories, list[RequestContext]]:
    """Flights of Ada, Bo and Cy whose weather and place can be said on the command line."""
    random = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    moments = []
    time = datetime(2013, 1, 1)
    for index in range(90):
        time += timedelta(hours=int(random.integers(1, 60)))
        said, origin = SAID[random.integers(4)], list(PLACES)[random.integers(2)]
        columns = dict.fromkeys(("temperature_c", "precipitation_mm", "snowfall_cm", "wind_mps")) | parse_weather(said)
        row = {
            "user": ("Ada", "Bo", "Cy")[index % 3],
            "at": time.isoformat(),
            "item": int(random.integers(3)),
        }
        rows.append(row | {"origin": origin, "carrier": "UA"} | columns)
        if row["user"] == "Ada":
            moments.append(RequestContext(time.isoformat(), said, PLACES[origin] if location == "context" else None))
    return make_histories(rows, location=location), moments


@pytest.mark.parametrize(
    ("template", "location"), [("flights", "context"), ("plain", "outcome"), ("checkins", "outcome")]
)
@pytest.mark.parametrize(("profile_tokens", "similar_tokens"), [(0, 0), (24, 0), (24, 40)])
def test_training_text_up_to_each_title_is_the_prompt_of_that_event(
    make_histories: MakeHistories, make_words: Callable[[], Encode], template: str, location: str, profile_tokens: int,
    similar_tokens: int,
) -> None:  # fmt: skip
    histories, moments = _travels(make_histories, location)
    items = histories.items
    words = make_words()
    catalogue = Catalogue.build(items, words)
    settings = PromptSettings(
        template=template, budget_tokens=110 + similar_tokens, profile_tokens=profile_tokens,
        similar_tokens=similar_tokens, similar_every=4, similar_hours=1000,
    )  # fmt: skip
    encoder = PromptEncoder.build(settings, catalogue, words, location, (7,)).with_others(histories.events)
    num_users = len(histories.user_ids)
    text = encoder.text(histories.events, num_users)
    windows = text.windows.select(text.windows.user_W == histories.user("Ada"))
    trained = {}
    for w, window in enumerate(text.encode_windows(windows)):
        for row in range(windows.target_W[w], windows.end_W[w]):
            trained[row] = window.tokens_L[: window.title_start_V[row - windows.start_W[w]]].tolist()
    served = {row: build_prompt(histories, encoder, "Ada", moments[row]) for row in range(1, len(moments))}
    assert {row: prompt.tokens_L.tolist() for row, prompt in served.items()} == {
        row: tokens for row, tokens in trained.items() if row
    }
    assert len(windows) > 3
    assert (served[len(moments) - 1].num_profile_tokens > 0) == (profile_tokens > 0)
    assert (max(prompt.num_similar_tokens for prompt in served.values()) > 0) == (similar_tokens > 0)
    assert served[len(moments) - 1].num_events == len(moments) - 1 > served[len(moments) - 1].num_lines
