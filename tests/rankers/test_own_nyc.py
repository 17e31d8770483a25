"""The baselines on real data; runs where WHEREUPON_NYC_CHECKINS names the folder of the three files."""

import os
from pathlib import Path

import pytest

from whereupon.catalogue.settings import CatalogueSettings
from whereupon.eval import FAMILIES, evaluated_events, summarise
from whereupon.eval.protocol import read_task
from whereupon.eval.ranked import rank
from whereupon.eval.settings import EvaluateSettings
from whereupon.histories import Histories, HistoriesSettings, prepare, read_histories
from whereupon.rankers.settings import BaselineName

FOLDER = os.environ.get("WHEREUPON_NYC_CHECKINS")

pytestmark = pytest.mark.skipif(not FOLDER, reason="WHEREUPON_NYC_CHECKINS is not set")


@pytest.fixture(scope="module")
def histories(tmp_path_factory: pytest.TempPathFactory) -> Histories:
    run = tmp_path_factory.mktemp("nyc")
    prepare(HistoriesSettings(recipe="nyc-checkins", path=Path(str(FOLDER))), CatalogueSettings(), run)
    return read_histories(run)


def test_evaluated_events_of_nyc_checkins_are_those_of_the_reference(histories: Histories) -> None:
    assert len(evaluated_events(histories, "test")) == 4113


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("popularity", (0.004, 0.023, 0.039, 0.019)),
        ("own counts", (0.197, 0.555, 0.694, 0.430)),
        ("own counts + transitions", (0.254, 0.612, 0.720, 0.480)),
        ("context-weighted own events", (0.334, 0.653, 0.751, 0.536)),
    ],
)
def test_baseline_on_nyc_checkins_reproduces_the_reference(
    histories: Histories, name: BaselineName, reference: tuple[float, ...]
) -> None:
    family, task = FAMILIES[name], read_task(histories, "test", EvaluateSettings())
    metrics = summarise(rank(family.ranker(histories, "test", family.grid()[0], 0), task, 10).rank_E)
    found = [metrics[column] for column in ("recall@1", "recall@5", "recall@10", "nDCG@10")]
    assert found == pytest.approx(reference, abs=0.005)
