"""Errors that a user can cause and correct.

    WhereuponError            any of the below; the command line prints it as one sentence and exits with 1
    ├── ConfigError           the configuration file or a --set override
    ├── DataError             events, items, weather, or a run folder that lacks them
    │   └── UnknownUserError  nothing is known of a user
    ├── CatalogueError        titles, the token trie, a subset of the catalogue
    ├── PromptError           templates, rendering, the token budget
    ├── ModelError            base models and adapters
    │   └── NonFiniteError    scores that are NaN or infinite
    ├── ServerError           vLLM is missing, its port is taken, or it ended
    ├── StoreError            the database that keeps events
    └── ConflictError         what is sent contradicts what is stored

Each message is one sentence that says what was expected, what was found (file and row), and what to do.
"""


class WhereuponError(Exception):
    """Base of every error that a user can correct."""


class ConfigError(WhereuponError):
    """The configuration is missing, misspelt or contradicts itself."""


class DataError(WhereuponError):
    """Input data or a run folder is missing or does not keep its contract."""


class UnknownUserError(DataError):
    """Nothing is known of a user."""


class CatalogueError(WhereuponError):
    """The catalogue cannot be turned into a token trie, or a subset of it is impossible."""


class PromptError(WhereuponError):
    """A template cannot be rendered, or a prompt cannot fit its budget."""


class ModelError(WhereuponError):
    """A base model or an adapter is missing, corrupt, or does not belong to this data."""


class NonFiniteError(ModelError):
    """A model gives scores that are NaN or infinite: its weights are damaged, or training has ruined its adapter."""


class ServerError(WhereuponError):
    """The server cannot be installed or started, or ended by itself."""


class StoreError(WhereuponError):
    """The database that keeps events cannot be reached, is damaged, locked, full, or of another version."""


class ConflictError(WhereuponError):
    """What is sent contradicts what is stored under the same id."""


def first_line(error: BaseException) -> str:
    """What another library says, short enough for a sentence."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
