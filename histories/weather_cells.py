"""Quantities of a weather table in our units: flags and codes are read, marks and impossible values left out.

No sensor can say what is left out here: a temperature above 60 or below -90 degrees Celsius reaches no event. Values
that would fit in another unit are not converted by guess: a sentence asks for the setting.
"""

from dataclasses import dataclass
from typing import Final

import polars as pl

from ..errors import DataError
from .parsing import counted_floats, to_text
from .reading import ROW
from .rejects import Notes
from .settings import WeatherSettings

# field of a table -> (our column, factor, summand): ours = field * factor + summand
_UNITS: Final[dict[str, tuple[str, float, float]]] = {
    "temperature_c": ("temperature_c", 1.0, 0.0),
    "temperature_f": ("temperature_c", 5 / 9, -160 / 9),
    "temperature_k": ("temperature_c", 1.0, -273.15),
    "precipitation_mm": ("precipitation_mm", 1.0, 0.0),
    "precipitation_m": ("precipitation_mm", 1000.0, 0.0),
    "precipitation_in": ("precipitation_mm", 25.4, 0.0),
    "snowfall_cm": ("snowfall_cm", 1.0, 0.0),
    "snowfall_in": ("snowfall_cm", 2.54, 0.0),
    "snow_depth_cm": ("snow_depth_cm", 1.0, 0.0),
    "snow_depth_in": ("snow_depth_cm", 2.54, 0.0),
    "wind_mps": ("wind_mps", 1.0, 0.0),
    "wind_kmh": ("wind_mps", 1 / 3.6, 0.0),
    "wind_mph": ("wind_mps", 0.44704, 0.0),
    "wind_kn": ("wind_mps", 1852 / 3600, 0.0),
}
# A day's extremes stand for its mean where no mean is given.
_EXTREMES: Final = {
    f"temperature_{unit}": (f"temperature_max_{unit}", f"temperature_min_{unit}") for unit in ("c", "f", "k")
}
QUANTITY_FIELDS: Final = (*_UNITS, *(name for pair in _EXTREMES.values() for name in pair), "condition")
# What is possible anywhere on earth, a little beyond the records.
_BOUNDS: Final = {
    "temperature_c": (-90.0, 60.0),
    "precipitation_mm": (0.0, 2000.0),
    "snowfall_cm": (0.0, 300.0),
    "snow_depth_cm": (0.0, 1200.0),
    "wind_mps": (0.0, 115.0),
}
# Numbers that files write for "missing"; smaller ones (99.9 of anything) could be values.
_MARKS: Final = (999.0, 999.9, 9999.0, 9999.9, 99999.0, 32767.0, -99.0, -99.9, -999.0, -999.9, -9999.0, -32768.0)
_MARKS_OF_RAIN: Final = (99.99,)
_TRACE: Final = r"^\s*[Tt]s?\s*$"  # "too little to measure"
_FLAGGED: Final = r"^\s*([+-]?\d*\.?\d+)\s*[A-Za-z*]$"
# Coded fields of ISD (NOAA's Integrated Surface Data): value in tenths, and a mark of all nines.
_ISD: Final = {
    "temperature_c": (r"^([+-]\d{4}),\w$", "+9999"),
    "wind_mps": (r"^\d{3},\w,\w,(\d{4}),\w$", "9999"),
    "precipitation_mm": (r"^\d{2},(\d{4}),\w,\w$", "9999"),
}
_MANY: Final = 0.05  # of the values: so many impossible ones are no errors of a sensor but another unit
_KELVIN: Final = (180.0, 340.0)
_LEAST_RAIN_MM: Final = 0.1


@dataclass(frozen=True)
class Quantities:
    """Columns in our units, named ours with an underscore before; `coded`: whether any was a coded field of ISD."""

    columns: list[pl.Series]
    coded: bool


def quantities(raw: pl.DataFrame, settings: WeatherSettings, source: str, notes: Notes) -> Quantities:
    """The weather in `raw`; `notes` counts what is left out, by column.

    Raises DataError: no weather in the table, a scale for a column that it lacks, or values in another unit.
    """
    for name in settings.scale:
        if name not in raw.columns:
            raise DataError(
                f"histories.weather.scale names {name!r}, which {settings.path} does not have; name one of its columns "
                "as histories.weather.columns calls it."
            )
    reader = _Reader(raw, settings, source, notes)
    found: dict[str, pl.Series] = {}
    for field, (column, _, _) in _UNITS.items():
        extremes = _EXTREMES.get(field, ())
        if field in raw.columns:
            value = reader.read(field, field)
        elif extremes and set(extremes) <= set(raw.columns):
            high, low = (reader.read(name, field) for name in extremes)
            value = (high + low) / 2
        else:
            continue
        # Six decimals keep every instrument's digits and drop the dust of the conversion.
        found.setdefault(column, value.round(6).alias(f"_{column}"))
    if "condition" in raw.columns:
        found["condition"] = to_text(raw["condition"]).alias("_condition")
    if not found:
        raise DataError(
            f"{settings.path} should have a weather column ({', '.join(_UNITS)} or condition) "
            f"but has only {', '.join(name for name in raw.columns if name != ROW)}; name it in "
            "histories.weather.columns."
        )
    return Quantities(list(found.values()), reader.coded)


class _Reader:
    """Reads one column after the other; `coded` becomes true with the first coded field."""

    def __init__(self, raw: pl.DataFrame, settings: WeatherSettings, source: str, notes: Notes) -> None:
        self._raw, self._settings, self._source, self._notes = raw, settings, source, notes
        self.coded = False

    def read(self, name: str, field: str) -> pl.Series:
        """The column `name` in our unit, that of `field` converted; what is impossible is null and counted."""
        what, column = f"{self._source}, {name}", _UNITS[field][0]
        scaled = self._numbers(name, column, what) * self._settings.scale.get(name, 1.0)
        _, factor, summand = _UNITS[field]
        value = scaled * factor + summand
        low, high = _BOUNDS[column]
        _refuse_units(scaled, value, name, self._settings)
        impossible = ~value.is_between(low, high)
        if num := int(impossible.sum()):
            self._notes[f"{what}: impossible values, left empty"] += num
        return value.set(impossible.fill_null(False), None)

    def _numbers(self, name: str, column: str, what: str) -> pl.Series:
        """Numbers of the cells, without the marks for a missing one."""
        cells = self._raw[name]
        if cells.dtype == pl.String:
            coded = _coded(cells, column)
            if coded is not None:
                self.coded = True
                self._notes.remarks.append(f"{what}: read as coded fields of ISD, in tenths")
                return coded
            cells = self._unflagged(cells, column, what)
        numbers = counted_floats(cells, self._notes, what)
        marks = [*_MARKS, *(_MARKS_OF_RAIN if column == "precipitation_mm" else ())]
        is_mark = numbers.is_in(marks).fill_null(False)
        if num := int(is_mark.sum()):
            self._notes[f"{what}: marks such as 9999.9, taken as missing"] += num
        return numbers.set(is_mark, None)

    def _unflagged(self, cells: pl.Series, column: str, what: str) -> pl.Series:
        """Cells without a letter behind the number; a trace of rain or snow is 0."""
        if column in ("precipitation_mm", "snowfall_cm", "snow_depth_cm"):
            cells = cells.str.replace(_TRACE, "0")
        flagged = cells.str.contains(_FLAGGED)
        if num := int(flagged.sum()):
            self._notes[f"{what}: numbers with a flag such as 44s, read without it"] += num
            cells = cells.str.replace(_FLAGGED, "$1")
        return cells


def _coded(cells: pl.Series, column: str) -> pl.Series | None:
    """Values of ISD's coded fields; None where cells are none."""
    if column not in _ISD:
        return None
    pattern, mark = _ISD[column]
    text = cells.str.strip_chars()
    fits = text.str.contains(pattern)
    if not fits.any() or int(fits.sum()) < 0.5 * int((text != "").sum()):
        return None
    value = text.str.extract(pattern)
    return value.set((value == mark).fill_null(False), None).cast(pl.Float64, strict=False) / 10


def _refuse_units(scaled: pl.Series, value: pl.Series, name: str, settings: WeatherSettings) -> None:
    """Raise DataError for a column that is impossible in its unit and possible in another one."""
    where = f"{settings.path} should have {name}"
    scale = f"set histories.weather.scale, such as {{{name}: 0.1}}"
    odd = scaled.filter(~value.is_between(*_BOUNDS["temperature_c"])).to_list()
    if name.startswith("temperature") and len(odd) > _MANY * value.count():
        quantity, unit = name.rsplit("_", 1)
        within = int(scaled.is_between(*_KELVIN).sum())
        if unit != "k" and within > (1 - _MANY) * scaled.count():
            raise DataError(
                f"{where} in degrees, but values like {odd[0]:g} are Kelvin or tenths of a degree; if Kelvin, call the "
                f"column {quantity}_k in histories.weather.columns, if tenths, {scale}."
            )
        raise DataError(
            f"{where} in degrees, but values like {odd[0]:g} are possible only as tenths or in another unit; {scale} "
            "(in GHCN-Daily, precipitation is in tenths, too)."
        )
    if name == "precipitation_mm":
        wet = [float(fall) for fall in value.filter(value > 0).top_k(3)]
        if len(wet) == 3 and max(wet) < _LEAST_RAIN_MM:
            raise DataError(
                f"{where}, but its largest value is {max(wet):g}, as if in metres; call the column precipitation_m in "
                "histories.weather.columns, or set histories.weather.scale."
            )
