"""The animated tour of the page that README shows: docs/tour.webp, which `bench/page.py --pictures docs` writes."""

from __future__ import annotations

from PIL import Image, ImageSequence

from whereupon.tests.doc_blocks import ROOT, links

TOUR = ROOT / "docs" / "tour.webp"


def test_readme_shows_a_tour_that_is_small_animated_and_about_twenty_seconds_long() -> None:
    assert "docs/tour.webp" in links(ROOT / "README.md")
    assert TOUR.stat().st_size < 1_500_000
    with Image.open(TOUR) as tour:
        durations_ms = []
        for scene in ImageSequence.Iterator(tour):
            scene.load()
            durations_ms.append(scene.info["duration"])
        assert len(durations_ms) >= 6
        assert tour.info["loop"] == 0
        assert tour.width >= 1000
    assert 15_000 <= sum(durations_ms) <= 25_000
