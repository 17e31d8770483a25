"""Completions: distinct titles for any prompt, as OpenAI's clients read them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from whereupon.config import Config, load_config
from whereupon.histories import prepare
from whereupon.recommend import RequestContext
from whereupon.recommend.shown import show_prompt
from whereupon.tests.serve.app.answers import AT, completed, recommended

pytestmark = pytest.mark.usefixtures("vllm_imported")
TITLES = {"Old Cinema", "City Park", "Bar One", "Bar Two", "Bar Three"}


def test_completion_gives_distinct_titles_best_first_with_ids_and_probabilities(server: Any) -> None:
    found = completed(server, n=5, logprobs=1)
    texts, probabilities = zip(*((c["text"], c["probability"]) for c in found["choices"]), strict=True)
    assert set(texts) == TITLES
    assert list(probabilities) == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1, abs=1e-5)
    assert [choice["index"] for choice in found["choices"]] == [0, 1, 2, 3, 4]
    assert {choice["item_id"] for choice in found["choices"]} == {"cinema", "park", "bar1", "bar2", "bar3"}
    first = found["choices"][0]
    assert np.exp(first["logprobs"]["token_logprobs"][0]) == pytest.approx(first["probability"])
    assert found["whereupon"]["exact"] is True


def test_more_than_there_is_gives_all_and_says_so(server: Any) -> None:
    found = completed(server, n=9)
    assert len(found["choices"]) == 5
    assert "9 were requested, but there are no more than 5" in found["whereupon"]["reason"]


def test_openai_client_reads_choices_and_extras(server: Any) -> None:
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url="http://testserver/v1", api_key="none", http_client=server)
    found = client.completions.create(
        model="run", prompt="Friday evening:", n=3, extra_body={"vllm_xargs": {"catalogue": "run"}}
    )
    assert len({choice.text for choice in found.choices} & TITLES) == 3
    assert found.choices[0].probability >= found.choices[1].probability
    with pytest.raises(openai.NotFoundError, match="no catalogue"):
        client.completions.create(model="run", prompt="x", extra_body={"vllm_xargs": {"catalogue": "other"}})


def test_stream_of_a_single_choice_is_its_title(server: Any) -> None:
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url="http://testserver/v1", api_key="none", http_client=server)
    best = completed(server, n=1)["choices"][0]["text"]
    chunks = client.completions.create(
        model="run", prompt="Friday evening:", stream=True, extra_body={"vllm_xargs": {"catalogue": "run"}}
    )
    assert "".join(chunk.choices[0].text for chunk in chunks) == best


def test_several_prompts_give_n_choices_each(server: Any) -> None:
    texts = ["Friday evening:", "Monday morning:"]
    found = completed(server, prompt=texts, n=2)
    alone = [choice["text"] for text in texts for choice in completed(server, prompt=text, n=2)["choices"]]
    assert [choice["text"] for choice in found["choices"]] == alone


def test_token_ids_are_the_text_they_stand_for(server: Any) -> None:
    ids = server.app.state.whereupon.recommender.tokenizer.tokenizer("Friday evening:").input_ids
    strip = [{**choice, "logprobs": None} for choice in completed(server, prompt=ids, n=5)["choices"]]
    assert strip == completed(server, n=5)["choices"]


@pytest.fixture(scope="session")
def foreign_town(make_town: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A town with a BOS token, a tokenizer that joins line ends, and prompts that are filled up with empty lines."""
    from whereupon.finetune.train import finetune

    path = make_town(tmp_path_factory.mktemp("foreign"), people=4, bos="<s>")
    config = load_config(path, ["finetune.epochs=0.1", "prompts.align_tokens=32"])
    prepare(config.histories, config.catalogue, config.run, config.seed)
    finetune(config)
    return config


def shown(config: Config, capsys: pytest.CaptureFixture[str], user: str, *, ids: bool) -> str:
    capsys.readouterr()
    show_prompt(config, user, RequestContext(AT, "rain, 18 C"), ids=ids)
    return capsys.readouterr().out.removesuffix("\n")


@pytest.mark.parametrize("user", ["p00", "p03"])
def test_text_of_prompt_show_is_the_models_prompt_token_for_token(
    start: Any, foreign_town: Config, capsys: pytest.CaptureFixture[str], user: str
) -> None:
    from vllm.entrypoints.openai.completion.protocol import CompletionRequest

    from whereupon.serve.app.plugin import _token_ids

    server = start(config=foreign_town)
    text = shown(foreign_town, capsys, user, ids=False)
    expected = json.loads(shown(foreign_town, capsys, user, ids=True))
    service = server.app.state.whereupon
    as_a_whole = service.recommender.tokenizer.tokenizer(text).input_ids
    assert text.startswith("What one person chose, oldest first.\n\n")
    assert as_a_whole[0] == expected[0]
    assert as_a_whole != expected, "line ends are joined where the text is read as a whole"

    def read(prompt: Any, **fields: Any) -> Any:
        return _token_ids(service, service.recommender.catalogues.current, CompletionRequest(prompt=prompt, **fields))

    assert read(text) == read(expected) == [expected]
    assert read(f"<s>{text}") == read(f"<s>{text}", add_special_tokens=False) == [expected]
    assert read(text, add_special_tokens=False) == [expected[1:]]
    by_text, by_ids = (completed(server, prompt=prompt, n=5) for prompt in (text, expected))
    assert by_text["choices"] == by_ids["choices"]
    assert by_text["usage"]["prompt_tokens"] == len(expected)
    assert len(expected) % 32 == 0
    recommendations = recommended(server, user_id=user, context={"at": AT, "weather": "rain, 18 C"})
    assert recommendations["prompt_tokens"] == len(expected)


def test_sampling_is_distinct_and_repeats_with_its_seed(server: Any) -> None:
    draws = [
        tuple(c["text"] for c in completed(server, n=3, temperature=1.5, seed=seed)["choices"]) for seed in range(8)
    ]
    assert all(len(set(draw)) == 3 for draw in draws)
    assert len(set(draws)) > 1
    assert draws[3] == tuple(c["text"] for c in completed(server, n=3, temperature=1.5, seed=3)["choices"])


def test_beam_of_full_width_finds_the_exact_answer(server: Any) -> None:
    assert completed(server, n=5, use_beam_search=True)["choices"] == completed(server, n=5)["choices"]


def test_filters_hide_items_and_change_no_probability(server: Any) -> None:
    everything = {c["text"]: c["probability"] for c in completed(server, n=5)["choices"]}
    found = completed(server, n=5, xargs={"only": ["bar1", "park"]})
    assert {c["text"]: c["probability"] for c in found["choices"]} == pytest.approx(
        {title: everything[title] for title in ("Bar One", "City Park")}
    )
    assert found["whereupon"]["num_candidates"] == 2
    some = recommended(server, filters={"exclude": ["park"]})
    assert {item["item_id"] for item in some["data"]} == {"cinema", "bar1", "bar2", "bar3"}
