"""Made-up catalogues that look like real ones: venues and products, as many as one asks for, the same for a seed.

A title is drawn from a few patterns ("Halvorsen's Bakery, Red Hook", "Lumora Trail Backpack 40 l") over lists of real
words and over family names and brands put together from syllables. Words are drawn by Zipf's law, so that many titles
begin alike and some words are rare, as in catalogues of shops. Titles are distinct, and those of a smaller catalogue
are the first ones of a larger one.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

BATCH = 50_000
NUM_CATEGORIES = 24
CENTRE = 40.73, -73.98  # where the items are: degrees, WGS 84
SPREAD_KM = 12.0  # standard deviation to the north and to the east
KM_PER_DEGREE = 111.195


def _words(text: str) -> list[str]:
    return text.split()


def _between_commas(text: str) -> list[str]:
    return [" ".join(part.split()) for part in text.split(",")]


_ADJECTIVES = _words("""
    Golden Blue Little Royal Old New Grand Happy Silver Green Red Corner Central Urban Lucky Fresh Black White Crystal
    Sunny Hidden Wild Modern Classic Sweet Noble Twin Quiet Rustic Copper Velvet Iron Rising Ancient Northern Southern
    Eastern Western Crimson Emerald Amber Misty Brave Gentle Hungry Singing Broken Floating Secret Jolly Salty Smoky
""")
_NOUNS = _words("""
    Dragon Lion Garden Star River Moon Lotus Crown Bridge Harbor Rose Tiger Oak Lantern Anchor Bear Fox Swan Maple Olive
    Pearl Falcon Mill Meadow Orchard Whale Sparrow Barrel Compass Kettle Feather Cedar Phoenix Panda Buffalo Willow
    Mountain Valley Island Canyon Lighthouse Windmill Clover Thistle Juniper Saffron Pepper Ginger Basil Sage Acorn
""")
_VENUES = _between_commas("""
    Cafe,Restaurant,Bar,Pizza,Deli,Bakery,Grill,Market,Hotel,Diner,Kitchen,Coffee,Pharmacy,Gym,Bookstore,Tavern,Lounge,
    Noodle House,Sushi,Barber Shop,Nail Salon,Yoga Studio,Art Gallery,Museum,Theater,Playground,Dog Run,Parking Garage,
    Laundromat,Hardware Store,Ice Cream,Tea House,Wine Bar,Brewery,Steakhouse,Taqueria,Bánh Mì,Ramen-ya,Crêperie,
    Trattoria,Pâtisserie,Tapas,Bodega,Florist,Pet Shop,Toy Store,Record Shop,Library,Elementary School,Medical Center,
    Dental Care,Auto Repair,Car Wash,Bank,Post Office,Gas Station,Bus Stop,Ferry Terminal,Marina,Beach Club,Comedy Club
""")
_PLACES = _between_commas("""
    Downtown,Midtown,Chelsea,SoHo,Harlem,Astoria,Williamsburg,Park Slope,Red Hook,Bushwick,Tribeca,Flushing,Greenpoint,
    East Village,West Village,Upper East Side,Upper West Side,Lower East Side,Long Island City,Bay Ridge,Sunset Park,
    Forest Hills,Jackson Heights,Crown Heights,Brighton Beach,Coney Island,Riverdale,Inwood,Washington Heights,Dumbo,
    Brooklyn,Queens,Bronx,Jersey City,Hoboken,Newark,Boston,Chicago,Seattle,Portland,Austin,Denver,Oakland,San José,
    São Paulo,København,Zürich,Málaga,Kraków,Montréal,Reykjavík,Lyon,Köln,Gdańsk,Praha,Oslo,Lisboa,Bogotá,Québec
""")
_STREETS = _words("""
    Main Broadway Park Washington Lexington Madison Atlantic Bedford Flatbush Fulton Canal Houston Bleecker Amsterdam
    Columbus Grand Nostrand Court Smith Myrtle Jamaica Northern Steinway Fordham Tremont Hudson Varick Delancey Orchard
""")
_PRODUCTS = _between_commas("""
    Backpack,Running Shoes,Rain Jacket,Headphones,Desk Lamp,Water Bottle,Espresso Machine,Office Chair,Winter Gloves,
    Yoga Mat,Keyboard,Phone Case,Mountain Bike,Sleeping Bag,Sunglasses,Wrist Watch,Face Cream,Shampoo,Protein Bar,
    Dark Chocolate,Green Tea,Olive Oil,Cat Food,Dog Leash,Picture Book,Board Game,Building Blocks,Table Lamp,Wool Socks,
    Denim Jeans,T-Shirt,Summer Dress,Leather Belt,Frying Pan,Chef's Knife,Storage Box,Bath Towel,Pillow,Power Drill,
    Garden Hose,Paint Brush,Memory Card,USB Cable,Monitor Stand,Router,Smart Bulb,Air Filter,Car Charger,Camping Stove
""")
_LINES = _words("Trail City Pro Air Lite Max Ultra Classic Sport Eco Plus Nova Core Flex Prime Alpine Aero Mini")
_UNITS = _words("ml l g kg cm mm W pcs GB oz")
_STARTS = [
    onset + vowel + coda
    for vowel in "aeiou"
    for coda in ("", "n", "r", "l", "s", "m", "t", "nd")
    for onset in _words("B Br C Ch Cl D Dr F Fl G Gr H J K Kr L M N P Pr R S Sh St T Th Tr V W Y Z")
]
_MIDDLES = _words("a e i o u an en in on ar er or al el il am em ov ak ek ick ass ell ott und ing")
_ENDS = _words("""
    son sen berg mann ski sky ez ini elli ova evic ard ton ley man stein ström feld wood land dale more ham ford by ini
    akis oglu ian yan enko uk ishi moto yama saki
""")
_BRAND_ENDS = _words("ora ex ix ano ium ella ique ona era ify ura ento axis eon isto ova omi ett iva ado")


def titles(num: int, seed: int) -> list[str]:
    """`num` distinct titles."""
    found: dict[str, None] = {}
    rng = np.random.default_rng(seed)
    while len(found) < num:
        found.update(dict.fromkeys(_batch(rng)))
    return list(found)[:num]


def items(num: int, seed: int) -> pl.DataFrame:
    """A catalogue of `num` items: `item_id`, `title`, `category`, `latitude`, `longitude`."""
    rng = np.random.default_rng([seed, 1])
    category = _zipf(rng, NUM_CATEGORIES, num)
    north, east = rng.normal(0, SPREAD_KM / KM_PER_DEGREE, (2, num))
    return pl.DataFrame({
        "item_id": [f"i{i}" for i in range(num)],
        "title": titles(num, seed),
        "category": pl.Series([f"category {i}" for i in range(NUM_CATEGORIES)]).gather(category),
        "latitude": CENTRE[0] + north,
        "longitude": CENTRE[1] + east / np.cos(np.deg2rad(CENTRE[0])),
    })  # fmt: skip


def _batch(rng: np.random.Generator) -> Iterator[str]:
    """Some titles, not distinct. All that is random is drawn at once; only joining words goes title by title."""

    def words(of: list[str]) -> list[str]:
        return [of[i] for i in _zipf(rng, len(of), BATCH)]

    names = [a + b + c for a, b, c in zip(words(_STARTS), words(_MIDDLES), words(_ENDS), strict=True)]
    brands = [a + b for a, b in zip(words(_STARTS), words(_BRAND_ENDS), strict=True)]
    number = (np.exp(rng.uniform(0, np.log(990), BATCH)) + 1).astype(int)
    columns = (
        names, brands, words(_ADJECTIVES), words(_NOUNS), words(_VENUES), words(_PLACES), words(_STREETS),
        words(_PRODUCTS), words(_LINES), words(_UNITS), number.tolist(), rng.integers(0, 8, BATCH).tolist(),
    )  # fmt: skip
    for name, brand, adjective, noun, venue, place, street, product, line, unit, n, pattern in zip(
        *columns, strict=True
    ):
        if pattern == 0:
            yield f"{name}'s {venue}"
        elif pattern == 1:
            yield f"{adjective} {noun} {venue}, {place}"
        elif pattern == 2:
            yield f"The {adjective} {noun} {venue}"
        elif pattern == 3:
            yield f"{street} St & {n} {venue}"
        elif pattern == 4:
            yield f"{name} {venue} {place}"
        elif pattern == 5:
            yield f"{brand} {product} {n} {unit}"
        elif pattern == 6:
            yield f"{brand} {adjective} {product}"
        else:
            yield f"{brand} {noun} {line}"


def _zipf(rng: np.random.Generator, num_kinds: int, num: int) -> NDArray[np.int64]:
    """int64 [num]: kinds drawn with probability proportional to 1 / (rank + 2); kind 0 is the most frequent."""
    weight = 1 / (np.arange(num_kinds) + 3)
    return rng.choice(num_kinds, num, p=weight / weight.sum())
