"""Our transcoder against Envoy's: thousands of requests to both, and whatever comes out differently is in the table or a mistake.

`GIPOS_DIFFERENTIAL_REQUESTS` and `GIPOS_DIFFERENTIAL_SEED` ask for more, or for others.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from gateway_rest.contract import installed

from .cases import Request, generate
from .differences import DIFFERENCES, Difference
from .envoy import Envoy
from .outcomes import Case, Point
from .pages import page
from .wires import Wire

REQUESTS = int(os.environ.get("GIPOS_DIFFERENTIAL_REQUESTS", "5000"))
SEED = int(os.environ.get("GIPOS_DIFFERENTIAL_SEED", "1"))
PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "differences-from-envoy.md"
SHOWN = 20


def claimed(case: Case, point: Point) -> list[Difference]:
    return [difference for difference in DIFFERENCES if difference.claims(case, point)]


@pytest.mark.timeout(60 + REQUESTS // 20)
async def test_whatever_is_asked_both_do_the_same_or_differ_as_listed(sides: Any) -> None:
    unlisted: list[str] = []
    reached = 0
    for request in generate(sides.bindings, SEED, REQUESTS):
        case = await sides.ask(request)
        reached += case.envoy.call is not None and case.envoy.call == case.ours.call
        unlisted += [f"{point}\n    {request}" for point in case.points() if not claimed(case, point)]
    assert not unlisted, f"{len(unlisted)} differences are not in the table:\n" + "\n".join(unlisted[:SHOWN])
    # Else the generator makes nothing but nonsense, and agreement means little.
    assert reached > REQUESTS // 4


async def test_every_difference_of_the_table_is_there(sides: Any) -> None:
    wrong: list[str] = []
    for difference in DIFFERENCES:
        case = await sides.ask(difference.example)
        points = list(case.points())
        if not any(difference.claims(case, point) for point in points):
            wrong.append(f"{difference.id}: {difference.example} shows {points}")
        wrong += [f"{difference.id}: {point} is not in the table" for point in points if not claimed(case, point)]
    assert not wrong, "\n".join(wrong)


def test_the_page_says_what_the_table_says() -> None:
    assert PAGE.read_text("utf-8") == page(), f"Run `python -m {page.__module__}` to write {PAGE.name} anew."


def test_differences_have_names_of_their_own() -> None:
    assert len({difference.id for difference in DIFFERENCES}) == len(DIFFERENCES)


async def test_envoy_takes_the_products_contract_as_it_is(tmp_path: Path) -> None:
    """Envoy may stand at the edge of a fleet and transcode there, from the very file our gateway reads."""
    contract = installed()
    services = [
        f"{file.package}.{service.name}"
        for file in contract.files.file
        if file.package in contract.packages
        for service in file.service
    ]
    assert services
    async with Envoy(contract, services, backend=9, folder=tmp_path) as envoy:
        # Nothing listens behind it: a route that is found is unavailable, one that is not is not found.
        wire = Wire(envoy.port)
        found = await wire.send("1", Request("GET", "/api/v1/products/prd_1"))
        missing = await wire.send("2", Request("GET", "/api/v1/nothing"))
        wire.close()
    assert (found.status, missing.status) == (503, 404)
