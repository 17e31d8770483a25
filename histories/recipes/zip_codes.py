"""Where a postal code of the United States or Canada is: state or province, and its time zone.

The United States Postal Service gives each state ranges of the first three digits; Canada Post gives each province
first letters. The zone is that of most people of the range; where a state has two, ranges part only along well-known
borders of zones. No coordinates follow from this.
"""

from typing import Final

import polars as pl

_EASTERN, _CENTRAL, _MOUNTAIN, _PACIFIC = (
    "America/New_York", "America/Chicago", "America/Denver", "America/Los_Angeles",
)  # fmt: skip

# First and last three digits of a range, state, zone. Military post (09x, 340, 962-966) is nowhere in particular.
_UNITED_STATES: Final = (
    (5, 5, "New York", _EASTERN), (6, 7, "Puerto Rico", "America/Puerto_Rico"),
    (8, 8, "Virgin Islands", "America/Puerto_Rico"), (9, 9, "Puerto Rico", "America/Puerto_Rico"),
    (10, 27, "Massachusetts", _EASTERN), (28, 29, "Rhode Island", _EASTERN), (30, 38, "New Hampshire", _EASTERN),
    (39, 49, "Maine", _EASTERN), (50, 54, "Vermont", _EASTERN), (55, 55, "Massachusetts", _EASTERN),
    (56, 59, "Vermont", _EASTERN), (60, 69, "Connecticut", _EASTERN), (70, 89, "New Jersey", _EASTERN),
    (100, 149, "New York", _EASTERN), (150, 196, "Pennsylvania", _EASTERN), (197, 199, "Delaware", _EASTERN),
    (200, 200, "Washington, D.C.", _EASTERN), (201, 201, "Virginia", _EASTERN),
    (202, 205, "Washington, D.C.", _EASTERN),
    (206, 219, "Maryland", _EASTERN), (220, 246, "Virginia", _EASTERN), (247, 268, "West Virginia", _EASTERN),
    (270, 289, "North Carolina", _EASTERN), (290, 299, "South Carolina", _EASTERN), (300, 319, "Georgia", _EASTERN),
    (320, 323, "Florida", _EASTERN), (324, 325, "Florida", _CENTRAL), (326, 339, "Florida", _EASTERN),
    (341, 349, "Florida", _EASTERN), (350, 369, "Alabama", _CENTRAL), (370, 372, "Tennessee", _CENTRAL),
    (373, 374, "Tennessee", _EASTERN), (375, 375, "Tennessee", _CENTRAL), (376, 379, "Tennessee", _EASTERN),
    (380, 385, "Tennessee", _CENTRAL), (386, 397, "Mississippi", _CENTRAL), (398, 399, "Georgia", _EASTERN),
    (400, 419, "Kentucky", _EASTERN), (420, 424, "Kentucky", _CENTRAL), (425, 427, "Kentucky", _EASTERN),
    (430, 459, "Ohio", _EASTERN), (460, 462, "Indiana", "America/Indiana/Indianapolis"),
    (463, 464, "Indiana", _CENTRAL), (465, 475, "Indiana", "America/Indiana/Indianapolis"),
    (476, 477, "Indiana", _CENTRAL), (478, 479, "Indiana", "America/Indiana/Indianapolis"),
    (480, 499, "Michigan", "America/Detroit"), (500, 528, "Iowa", _CENTRAL), (530, 549, "Wisconsin", _CENTRAL),
    (550, 567, "Minnesota", _CENTRAL), (569, 569, "Washington, D.C.", _EASTERN), (570, 576, "South Dakota", _CENTRAL),
    (577, 577, "South Dakota", _MOUNTAIN), (580, 588, "North Dakota", _CENTRAL), (590, 599, "Montana", _MOUNTAIN),
    (600, 629, "Illinois", _CENTRAL), (630, 658, "Missouri", _CENTRAL), (660, 679, "Kansas", _CENTRAL),
    (680, 692, "Nebraska", _CENTRAL), (693, 693, "Nebraska", _MOUNTAIN), (700, 714, "Louisiana", _CENTRAL),
    (716, 729, "Arkansas", _CENTRAL), (730, 732, "Oklahoma", _CENTRAL), (733, 733, "Texas", _CENTRAL),
    (734, 749, "Oklahoma", _CENTRAL), (750, 797, "Texas", _CENTRAL), (798, 799, "Texas", _MOUNTAIN),
    (800, 816, "Colorado", _MOUNTAIN), (820, 831, "Wyoming", _MOUNTAIN), (832, 834, "Idaho", _MOUNTAIN),
    (835, 835, "Idaho", _PACIFIC), (836, 837, "Idaho", _MOUNTAIN), (838, 838, "Idaho", _PACIFIC),
    (840, 847, "Utah", _MOUNTAIN), (850, 865, "Arizona", "America/Phoenix"), (870, 884, "New Mexico", _MOUNTAIN),
    (885, 885, "Texas", _MOUNTAIN), (889, 898, "Nevada", _PACIFIC), (900, 961, "California", _PACIFIC),
    (967, 968, "Hawaii", "Pacific/Honolulu"), (969, 969, "Guam", "Pacific/Guam"), (970, 979, "Oregon", _PACIFIC),
    (980, 994, "Washington", _PACIFIC), (995, 999, "Alaska", "America/Anchorage"),
)  # fmt: skip
_CANADA: Final = {
    "A": ("Newfoundland", "America/St_Johns"), "B": ("Nova Scotia", "America/Halifax"),
    "C": ("Prince Edward Island", "America/Halifax"), "E": ("New Brunswick", "America/Moncton"),
    **dict.fromkeys("GHJ", ("Quebec", "America/Toronto")), **dict.fromkeys("KLMNP", ("Ontario", "America/Toronto")),
    "R": ("Manitoba", "America/Winnipeg"), "S": ("Saskatchewan", "America/Regina"),
    "T": ("Alberta", "America/Edmonton"), "V": ("British Columbia", "America/Vancouver"),
    "X": ("Northwest Territories", "America/Edmonton"), "Y": ("Yukon", "America/Whitehorse"),
}  # fmt: skip
_FILLED_IN = ("00000", "99999")  # what a form is left with by somebody who does not say


def places_of(codes: pl.Series) -> pl.DataFrame:
    """`place` (state or province) and `time_zone` (IANA name) of each postal code, in order; null where unknown.

    Args:
        codes: strings: five digits or nine with a hyphen (United States), letter, digit and letter first (Canada).
    """
    by_prefix = {f"{prefix:03}": row[2:] for row in _UNITED_STATES for prefix in range(row[0], row[1] + 1)}
    table = pl.DataFrame(
        [(prefix, *found) for prefix, found in (by_prefix | _CANADA).items()],
        schema={"_prefix": pl.String, "place": pl.String, "time_zone": pl.String},
        orient="row",
    )
    code = pl.col("code").str.strip_chars().str.to_uppercase()
    digits = pl.when(~code.is_in(_FILLED_IN)).then(code.str.extract(r"^(\d{3})\d{2}(-?\d{4})?$"))
    letter = code.str.extract(r"^([A-Z])\d[A-Z]")
    prefixes = pl.DataFrame({"code": codes.cast(pl.String)}).select(pl.coalesce(digits, letter).alias("_prefix"))
    return prefixes.join(table, on="_prefix", how="left", maintain_order="left").drop("_prefix")
