from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from edge.link.client import LinkClient
from edge.link.executions import CommandFailed, Executions
from edge.link.status import LinkState
from edge.link.surroundings import Around
from edge.storage import commands, products
from edge.storage.folder import Storage
from gipos.edge.v1.link_pb2 import (
    Command,
    CommandOutcome,
    CommandResult,
    LinkResponse,
    NotApplied,
    OfflinePolicy,
    OpenDrawer,
    RefreshLane,
)
from kernel.capabilities import ALL

Eventually = Callable[..., Awaitable[Any]]
DONE, FAILED = CommandOutcome.COMMAND_OUTCOME_DONE, CommandOutcome.COMMAND_OUTCOME_FAILED
EXPIRED, UNSUPPORTED = CommandOutcome.COMMAND_OUTCOME_EXPIRED, CommandOutcome.COMMAND_OUTCOME_UNSUPPORTED


def open_drawer(command_id: str = "cmd_1") -> Command:
    return Command(command_id=command_id, open_drawer=OpenDrawer())


class Drawer:
    """Counts how often it was opened; may be jammed or slow."""

    def __init__(self) -> None:
        self.opened = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.trouble: Exception | None = None

    async def open(self, _command: Command) -> str:
        self.opened += 1
        await self.gate.wait()
        if self.trouble is not None:
            raise self.trouble
        return "Open."


@pytest.fixture
def drawer() -> Drawer:
    return Drawer()


async def settled(storage: Storage, drawer: Drawer, command: Command, *, is_late: bool = False) -> CommandResult:
    """What a till that has just started says to a command."""
    told: asyncio.Queue[CommandResult] = asyncio.Queue()
    executions = Executions(storage, {"open_drawer": drawer.open}, told.put_nowait)
    executions.begin(command, is_late=is_late)
    return await told.get()


async def test_a_command_is_done_once_and_told_as_often_as_it_is_asked(storage: Storage, drawer: Drawer) -> None:
    first = await settled(storage, drawer, open_drawer())
    assert (first.outcome, first.message) == (DONE, "Open.")
    assert await settled(storage, drawer, open_drawer(), is_late=True) == first
    assert drawer.opened == 1


async def test_a_crash_in_the_middle_is_reported_as_failed_and_nothing_is_done_twice(storage: Storage, drawer: Drawer) -> None:
    drawer.gate.clear()
    told: list[CommandResult] = []
    executions = Executions(storage, {"open_drawer": drawer.open}, told.append)
    executions.begin(open_drawer(), is_late=False)
    while not drawer.opened:
        await asyncio.sleep(0)
    executions.begin(open_drawer(), is_late=False)  # it comes again while it is under way
    await executions.stop()
    assert told == []
    drawer.gate.set()
    result = await settled(storage, drawer, open_drawer())
    assert result.outcome == FAILED
    assert "nobody knows" in result.message
    assert drawer.opened == 1


@pytest.mark.parametrize(("trouble", "message"), [(CommandFailed("The drawer is jammed."), "jammed"), (OSError(), "fault")])
async def test_what_goes_wrong_is_told(storage: Storage, drawer: Drawer, trouble: Exception, message: str) -> None:
    drawer.trouble = trouble
    result = await settled(storage, drawer, open_drawer())
    assert result.outcome == FAILED
    assert message in result.message


async def test_a_late_command_and_one_of_a_later_version_are_not_done_and_may_be_asked_again(
    storage: Storage, drawer: Drawer
) -> None:
    assert (await settled(storage, drawer, open_drawer(), is_late=True)).outcome == EXPIRED
    assert (await settled(storage, drawer, Command(command_id="cmd_2"))).outcome == UNSUPPORTED
    assert drawer.opened == 0
    assert await storage.store.read(lambda connection: commands.find(connection, "cmd_1")) is None


@pytest.fixture
async def link(cloud: Any, storage: Storage, drawer: Drawer) -> Any:
    cloud.capabilities = sorted(ALL)
    policies: list[OfflinePolicy] = []
    samples: list[tuple[int, ...]] = []

    async def adopt(policy: OfflinePolicy) -> None:
        policies.append(policy)

    client = LinkClient(
        address=f"127.0.0.1:{cloud.port}",
        token="gipos_device_test",
        storage=storage,
        enabled=True,
        software_version="test",
        around=Around(policy=adopt, measured=lambda *times: samples.append(times), abilities={"open_drawer": drawer.open}),
    )
    client.policies = policies  # type: ignore[attr-defined]  # for the tests below
    task = asyncio.create_task(client.run())
    yield client
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_commands_of_the_cloud_are_answered_over_the_link(
    cloud: Any, link: LinkClient, drawer: Drawer, eventually: Eventually
) -> None:
    await eventually(lambda: link.status.state is LinkState.ONLINE)
    for _ in range(2):
        cloud.send(LinkResponse(command=open_drawer()))
    await eventually(lambda: cloud.results)
    assert cloud.results[0].outcome == DONE
    cloud.cut()
    await eventually(lambda: len(cloud.hellos) == 2 and link.status.state is LinkState.ONLINE)
    cloud.send(LinkResponse(command=open_drawer()))
    await eventually(lambda: len(cloud.results) >= 2)
    assert {result.outcome for result in cloud.results} == {DONE}
    assert drawer.opened == 1


async def test_a_refresh_asks_for_the_lane_within_the_stream(
    cloud: Any, link: LinkClient, storage: Storage, eventually: Eventually
) -> None:
    await eventually(lambda: storage.replica.read(products.count))
    command = Command(command_id="cmd_9", refresh_lane=RefreshLane(lane="tenant"))
    cloud.send(LinkResponse(command=command))
    await eventually(lambda: cloud.results)
    assert cloud.results[0].outcome == DONE
    await eventually(lambda: cloud.disputes)
    told: NotApplied = cloud.disputes[0]
    assert (told.lane, told.reason) == ("tenant", "REFRESH")
    assert len(cloud.hellos) == 1


async def test_a_policy_is_handed_over_as_it_came(cloud: Any, link: Any, eventually: Eventually) -> None:
    await eventually(lambda: link.status.state is LinkState.ONLINE)
    cloud.send(LinkResponse(policy=OfflinePolicy(rules=b"x", key_id="key_1")))
    await eventually(lambda: link.policies)
    assert link.policies[0].key_id == "key_1"
