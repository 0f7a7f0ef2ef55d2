"""The story of one sale, through real processes. The chapters check what they tell; see scripts/story."""

from __future__ import annotations

from typing import Any

import pytest

from scripts.story.chapters import Story
from scripts.story.world import World


@pytest.mark.timeout(600)
async def test_one_sale_travels_through_everything_and_nothing_is_lost_or_doubled(platform: Any) -> None:
    lines: list[str] = []
    async with World.open(platform) as world:
        await Story(world, lines.append).tell()
    assert [line[:2] for line in lines if line[0].isdigit()] == ["1.", "2.", "3.", "4.", "5."]
