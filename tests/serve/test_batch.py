"""Rankings for all users, with an engine that computes what vLLM would."""

import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from whereupon.config import Config
from whereupon.decode.adapters import current_adapter
from whereupon.errors import DataError
from whereupon.recommend import Recommender
from whereupon.recommend.context import RequestContext
from whereupon.recommend.selection import RequestFilters
from whereupon.recommend.shown import recommend_verb
from whereupon.serve.app.service import Service
from whereupon.serve.batch import parts, verb
from whereupon.serve.batch.parts import Answers, Parts, Query
from whereupon.tests.serve.local_client import local_engine

recommend_all = partial(verb.recommend_all, engine=local_engine)
RAIN = RequestContext(weather="rain, 18 C")


@pytest.fixture
def config(vllm_imported: None, town_copy: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> Config:
    """A run whose batches have parts of a single user."""
    monkeypatch.setattr(parts, "PART_USERS", 1)
    return town_copy()


def test_every_user_gets_what_recommend_says(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recommend_all(config, tmp_path / "all.parquet", context=RAIN, filters=RequestFilters(), k=3)
    found = pl.read_parquet(tmp_path / "all.parquet")
    assert dict(found.schema) == {name: kind() for name, kind in parts.SCHEMA.items()}
    assert found["user_id"].unique().sort().to_list() == ["p00", "p01", "p02", "p03"]
    capsys.readouterr()
    for user in ("p00", "p03"):
        recommend_verb(config, user, RAIN, RequestFilters(), k=3, versus=None, as_json=True)
        [alone] = json.loads(capsys.readouterr().out)
        own = found.filter(user_id=user)
        assert own["item_id"].to_list() == [item["item_id"] for item in alone["items"]]
        assert own["probability"].to_list() == pytest.approx([item["probability"] for item in alone["items"]], abs=1e-4)
    assert not (tmp_path / "all.parquet.parts").exists()


def test_killed_run_goes_on_with_the_users_that_are_missing(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, asked, recommend = tmp_path / "all.parquet", [], Service.recommend

    async def until_the_third(self: Service, request: Any, *rest: Any, **named: Any) -> Any:
        asked.append(request.user_id)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return await recommend(self, request, *rest, **named)

    monkeypatch.setattr(Service, "recommend", until_the_third)
    with pytest.raises(KeyboardInterrupt):
        recommend_all(config, out, context=RAIN, filters=RequestFilters(), k=2)
    assert not out.exists()
    recommend_all(config, out, context=RAIN, filters=RequestFilters(), k=2)
    assert asked == ["p00", "p01", "p02", "p02", "p03"]
    assert pl.read_parquet(out)["user_id"].to_list() == [user for user in ("p00", "p01", "p02", "p03") for _ in "12"]


def test_parts_of_another_question_are_not_used(config: Config, tmp_path: Path) -> None:
    other = Parts(tmp_path / "all.parquet", ["p00", "p01", "p02", "p03"], "another question")
    other.write(0, Answers([], Counter()).as_parquet())
    recommend_all(config, tmp_path / "all.parquet", context=RAIN, filters=RequestFilters(), k=1)
    assert pl.read_parquet(tmp_path / "all.parquet").height == 4


def test_parts_from_before_another_calibration_are_not_used(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identities, honest = [], Query.identity
    monkeypatch.setattr(Query, "identity", lambda *given: identities.append(honest(*given)) or identities[-1])
    pools = current_adapter(config.run) / "pools.json"
    calibrated = json.loads(pools.read_text())
    for temperature in (0.5, 5.0, 5.0):
        calibrated["pools"]["new"]["temperature"] = temperature
        pools.write_text(json.dumps(calibrated))
        recommend_all(config, tmp_path / "all.parquet", context=RAIN, filters=RequestFilters(), k=3)
    assert identities[0] != identities[1] == identities[2]


def test_everybody_is_answered_on_top_of_rankers_as_recommend_does(
    config: Config, on_top_copy: Callable[..., Config], tmp_path: Path
) -> None:
    on_top = on_top_copy()
    recommend_all(on_top, tmp_path / "all.parquet", context=RAIN, filters=RequestFilters(), k=5)
    found = pl.read_parquet(tmp_path / "all.parquet")
    with Recommender.load(on_top) as recommender:
        for user in recommender.user_ids:
            alone = recommender.recommend(user, weather=RAIN.weather, k=5)
            own = found.filter(user_id=user)
            assert own["item_id"].to_list() == alone["item_id"].to_list()
            assert own["probability"].to_list() == pytest.approx(alone["probability"].to_list(), abs=1e-4)
            assert own["probability"].sum() == pytest.approx(1, abs=1e-4)


def test_users_who_cannot_be_answered_are_counted(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recommend_all(
        config, tmp_path / "all.parquet", context=RequestContext(at="2024-01-01T00:00"), filters=RequestFilters(), k=1
    )
    captured = capsys.readouterr()
    assert captured.out == f"0 rows in {tmp_path / 'all.parquet'}\n"
    assert "not answered: 4 users. The user has no event before 2024-01-01 00:00:00" in captured.err.replace("\n", " ")


def test_folder_for_a_file_is_refused(config: Config, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is a folder; name a Parquet file"):
        recommend_all(config, tmp_path, context=RAIN, filters=RequestFilters(), k=1)


def test_run_that_goes_on_counts_again_who_was_not_answered_before(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, asked, recommend = tmp_path / "all.parquet", [], Service.recommend

    async def until_the_third(self: Service, request: Any, *rest: Any, **named: Any) -> Any:
        asked.append(request.user_id)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return await recommend(self, request, *rest, **named)

    monkeypatch.setattr(Service, "recommend", until_the_third)
    before_all = RequestContext(at="2024-01-01T00:00")
    with pytest.raises(KeyboardInterrupt):
        recommend_all(config, out, context=before_all, filters=RequestFilters(), k=2)
    capsys.readouterr()
    recommend_all(config, out, context=before_all, filters=RequestFilters(), k=2)
    said = capsys.readouterr().err
    assert "2 of 4 users were answered before" in said
    assert "not answered: 4 users." in said
