"""What any model has to beat: families of rankers, each tuned on validation with the same care."""

from collections.abc import Mapping
from typing import Any, Final

from . import als, cooccurrence, discovery, own, places, popular, returns, transitions
from .protocol import Family, Fitting, Ranker, UnfitDataError, require
from .sequences import SequenceSettings, Transitions, Watched
from .settings import BaselineName

__all__ = ["FAMILIES", "Family", "Ranker", "UnfitDataError"]


def _sequential(fitting: Fitting) -> Ranker:
    """Whatever the split, trained on train and stopped by valid. Raises ModelError where the training diverges."""
    settings = SequenceSettings(**fitting.settings)
    name = settings.network + " + time" * settings.timed
    require("torch", "train", name)
    if not len(Transitions.of(fitting.histories).count_U):
        raise UnfitDataError(
            f"{name} should learn from users with two training events but found none; "
            "raise histories.split.train and run `whereupon prepare` again."
        )
    from .sequences_networks import SequenceRanker, train

    watched = Watched.of(fitting.histories, fitting.repeats)
    return SequenceRanker(train(fitting.histories, settings, fitting.seed, watched))


def _grid(**fixed: Any) -> list[dict[str, Any]]:
    return [{**fixed, "hidden": hidden, "dropout": dropout} for hidden in (64, 128) for dropout in (0.2, 0.5)]


SEQUENTIAL: Final = (
    Family("GRU4Rec", _grid(network="GRU4Rec"), _sequential),
    Family("SASRec", _grid(network="SASRec"), _sequential),
    Family("SASRec + time", _grid(network="SASRec", timed=True), _sequential),
)
_ALL: Final = (popular, own, transitions, places, returns, discovery, cooccurrence, als)
FAMILIES: Final[Mapping[BaselineName, Family]] = {
    family.name: family for some in (*(module.FAMILIES for module in _ALL), SEQUENTIAL) for family in some
}
"""Every family by its name, weak kinds first; `tests/eval/test_settings.py` holds names and settings together."""
