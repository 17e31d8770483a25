"""The baselines: families of rankers, each tuned on validation with the same care."""

from collections.abc import Mapping
from typing import Any, Final

from ..histories import Histories
from ..histories.candidates import EvaluatedSplit
from . import (
    als,
    boosted_own,
    boosting,
    cooccurrence,
    demand,
    discovery,
    gwr,
    light_gcn,
    own,
    places,
    popular,
    returns,
    spatial_knn,
    st_cnn,
    transitions,
)  # fmt: skip
from .protocol import Arrays, Family, Fitted, Fitting, Ranker, UnfitDataError, require
from .sequences import SequenceSettings, Transitions, Watched
from .settings import BaselineName

__all__ = ["FAMILIES", "Family", "Ranker", "UnfitDataError"]


def _sequential(fitting: Fitting) -> Fitted:
    """Whatever the split, trained on train and stopped by valid. Raises ModelError where the training diverges."""
    settings = SequenceSettings(**fitting.settings)
    name = _require_torch(settings)
    if not len(Transitions.of(fitting.histories).count_U):
        raise UnfitDataError(
            f"{name} should learn from users with two training events but found none; "
            "raise histories.split.train and run `whereupon prepare` again."
        )
    from .sequences_networks import SequenceRanker, train

    watched = Watched.of(fitting.histories, fitting.repeats)
    return SequenceRanker(train(fitting.histories, settings, fitting.seed, watched).reader)


def _restored(settings: Mapping[str, Any], arrays: Arrays, known: Histories, split: EvaluatedSplit) -> Fitted:
    _require_torch(one := SequenceSettings(**settings))
    from .sequences_networks import SequenceRanker

    return SequenceRanker.restored(one, arrays, known)


def _require_torch(settings: SequenceSettings) -> str:
    """The family's name. Raises UnfitDataError where torch is missing."""
    name = settings.network + " + time" * settings.timed
    require("torch", "train", name)
    return name


def _grid(**fixed: Any) -> list[dict[str, Any]]:
    return [{**fixed, "hidden": hidden, "dropout": dropout} for hidden in (64, 128) for dropout in (0.2, 0.5)]


SEQUENTIAL: Final = (
    Family("GRU4Rec", _grid(network="GRU4Rec"), _sequential, _restored),
    Family("GRU4Rec + time", _grid(network="GRU4Rec", timed=True), _sequential, _restored),
    Family("LSTM", _grid(network="LSTM"), _sequential, _restored),
    Family("LSTM + time", _grid(network="LSTM", timed=True), _sequential, _restored),
    Family("SASRec", _grid(network="SASRec"), _sequential, _restored),
    Family("SASRec + time", _grid(network="SASRec", timed=True), _sequential, _restored),
)
NETWORKS: Final = (*SEQUENTIAL, *light_gcn.FAMILIES, *st_cnn.FAMILIES)
"""Families of which a fit is the training of a network."""
_ALL: Final = (
    popular, own, transitions, places, spatial_knn, gwr, returns, discovery, boosted_own, boosting, cooccurrence, als,
    demand,
)  # fmt: skip
FAMILIES: Final[Mapping[BaselineName, Family]] = {
    family.name: family for some in (*(module.FAMILIES for module in _ALL), NETWORKS) for family in some
}
"""Every family by its name, weak kinds first; `tests/eval/test_settings.py` holds names and settings together."""
