"""Commands of the cloud, each carried out at most once: noted before anything is done, settled after, told as often as asked.

What was begun and not settled when the program ended is reported as failed: nobody knows how far it came, and a drawer that opens
twice is worse than one that does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

import structlog

from edge.storage import commands
from edge.storage.commands import Begun
from edge.storage.folder import Storage
from gipos.edge.v1.link_pb2 import Command, CommandOutcome, CommandResult

_log = structlog.get_logger(__name__)

PATIENCE_SECONDS = 60.0
"""A command that takes longer has failed as far as the cloud is concerned."""


class CommandFailed(Exception):
    """A command could not be carried out; the message says why, for people."""


Carry: TypeAlias = Callable[[Command], Awaitable[str]]
"""Does what a command asks for and returns a sentence for people, or nothing. Raises CommandFailed."""


class Executions:
    """The commands of one till.

    Args:
        storage: the till's files.
        abilities: what this till can do, by the command's field name, for example "reprint".
        told: is given each result, once it is stored.
    """

    def __init__(self, storage: Storage, abilities: Mapping[str, Carry], told: Callable[[CommandResult], None]) -> None:
        self._storage = storage
        self._abilities = dict(abilities)
        self._told = told
        self._running: dict[str, asyncio.Task[None]] = {}

    def begin(self, command: Command, *, is_late: bool) -> None:
        """Carries a command out in a task of its own, unless it is known already."""
        command_id = command.command_id
        if command_id in self._running:
            return  # it came again while it is under way; the result will be told
        task = asyncio.create_task(self._settle(command, is_late=is_late))
        self._running[command_id] = task
        task.add_done_callback(lambda _: self._running.pop(command_id, None))

    async def stop(self) -> None:
        """Ends what is under way. It is reported as failed when the cloud asks again."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _settle(self, command: Command, *, is_late: bool) -> None:
        try:
            result = await self._result(command, is_late=is_late)
        except Exception:  # noqa: BLE001 (a broken file must not end the link; the cloud sends the command again)
            _log.exception("command_lost", command_id=command.command_id)
            return
        self._told(result)

    async def _result(self, command: Command, *, is_late: bool) -> CommandResult:
        command_id, kind = command.command_id, command.WhichOneof("body")
        store, now_ms = self._storage.store, self._storage.clock()
        known = await store.read(lambda connection: commands.find(connection, command_id))
        if known is not None:
            return _told_before(command_id, known)
        if kind is None or kind not in self._abilities:
            text = "This till's program does not know this command."
            return CommandResult(command_id=command_id, outcome=CommandOutcome.COMMAND_OUTCOME_UNSUPPORTED, message=text)
        if is_late:
            text = "It came after its time."
            return CommandResult(command_id=command_id, outcome=CommandOutcome.COMMAND_OUTCOME_EXPIRED, message=text)
        # Committed before anything is done: from here on it can only be reported.
        if not await store.write(lambda connection: commands.begin(connection, command_id, now_ms)):
            return _told_before(command_id, Begun(0, ""))
        outcome, message = await self._carry_out(kind, command)
        await store.write(lambda connection: commands.settle(connection, command_id, outcome, message))
        _log.info("command_settled", command_id=command_id, kind=kind, outcome=int(outcome))
        return CommandResult(command_id=command_id, outcome=outcome, message=message)

    async def _carry_out(self, kind: str, command: Command) -> tuple[CommandOutcome.ValueType, str]:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return CommandOutcome.COMMAND_OUTCOME_DONE, await self._abilities[kind](command)
        except CommandFailed as error:
            return CommandOutcome.COMMAND_OUTCOME_FAILED, str(error)
        except TimeoutError:
            return CommandOutcome.COMMAND_OUTCOME_FAILED, "It took too long; nobody knows whether it was done."
        except Exception:  # noqa: BLE001 (one command must not end the others; the log has all of it)
            _log.exception("command_failed", command_id=command.command_id, kind=kind)
            return CommandOutcome.COMMAND_OUTCOME_FAILED, "An internal fault; the till's log has the details."


def _told_before(command_id: str, known: Begun) -> CommandResult:
    if known.outcome:
        outcome = CommandOutcome.Value(CommandOutcome.keys()[known.outcome])
        return CommandResult(command_id=command_id, outcome=outcome, message=known.message)
    text = "The till's program ended in the middle; nobody knows whether it was done."
    return CommandResult(command_id=command_id, outcome=CommandOutcome.COMMAND_OUTCOME_FAILED, message=text)
