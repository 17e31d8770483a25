"""Keyed pseudonyms of user ids: they cannot be computed without the key, and equal keys give equal ones."""

import hashlib
import hmac
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import polars as pl

from ..errors import ConfigError
from .settings import PrivacySettings

_FEWEST_BYTES: Final = 16
_FORM: Final = re.compile(r"p([0-9a-f]{32})([0-9a-f]{8})")
_HOW: Final = "such as what `openssl rand -hex 32` prints"


@dataclass(frozen=True)
class Pseudonyms:
    """Pseudonyms by HMAC-SHA256 (RFC 2104) with a secret key.

    A pseudonym ends with a check sum by the same key. So it is recognised, and is its own pseudonym: what was stored
    under pseudonyms can be prepared again beside the raw data.
    """

    key: bytes = field(repr=False)

    @classmethod
    def of(cls, settings: PrivacySettings) -> "Pseudonyms":
        """Those with the key that the settings name. Raises ConfigError: there is no key, or one too short."""
        name, key = settings.key_variable, os.environ.get(settings.key_variable, "").strip().encode()
        if settings.key_file is not None:
            name = str(settings.key_file)
            try:
                key = settings.key_file.read_bytes().strip()
            except OSError as error:
                raise ConfigError(
                    f"histories.privacy.key_file should be a file with a key, {_HOW}, but {name} cannot be read "
                    f"({error.strerror}); write one."
                ) from None
        if not key:
            raise ConfigError(
                f"histories.privacy needs a key, {_HOW}, but {name} holds none; set it, or name a file in "
                "histories.privacy.key_file."
            )
        if len(key) < _FEWEST_BYTES:
            raise ConfigError(
                f"The key of histories.privacy should have at least {_FEWEST_BYTES} bytes but {name} has {len(key)}; "
                f"take a random one, {_HOW}."
            )
        return cls(key)

    @property
    def check(self) -> str:
        """What distinguishes this key from others and does not reveal it."""
        return self._hash("key", "")[:16]

    def of_id(self, user_id: str) -> str:
        """The pseudonym of a user; of a pseudonym with this key, itself."""
        found = _FORM.fullmatch(user_id)
        if found and hmac.compare_digest(self._hash("check", found[1])[:8], found[2]):
            return user_id
        name = self._hash("user", user_id)[:32]
        return f"p{name}{self._hash('check', name)[:8]}"

    def of_ids(self, ids: pl.Series) -> pl.Series:
        """The pseudonyms of a column, each user's computed once."""
        users = ids.unique()
        return ids.replace_strict(users, pl.Series(map(self.of_id, users), dtype=pl.String), return_dtype=pl.String)

    def _hash(self, purpose: str, text: str) -> str:
        return hmac.digest(self.key, f"{purpose}\0{text}".encode(), hashlib.sha256).hex()


def demand_key_outside(settings: PrivacySettings, run: Path, files: Iterable[Path]) -> None:
    """Raise ConfigError where the key lies among what it protects: in the run folder or in a folder of input files."""
    if settings.key_file is None:
        return
    key = settings.key_file.resolve()
    for folder in {run.resolve(), *(file.resolve().parent for file in files)}:
        if key.is_relative_to(folder):
            raise ConfigError(
                f"histories.privacy.key_file should lie outside of the data but {key} is in {folder}; move it to "
                "another folder."
            )
