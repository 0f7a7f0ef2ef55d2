"""What the cloud may tell a till to do at its counter: print a copy, open the drawer, print a test page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from edge.hardware.printers.jobs import JobState
from edge.link.executions import Carry, CommandFailed
from edge.storage.print_jobs import PrintRow
from edge.till.receipts import Receipts
from gipos.edge.v1.link_pb2 import Command
from kernel.errors import GiposError

WAIT_SECONDS = 20.0
"""How long a command waits for the paper. Much shorter than a command's own patience."""


class Commands:
    """The counter's side of the cloud's commands."""

    def __init__(self, receipts: Receipts) -> None:
        self._receipts = receipts

    def abilities(self) -> Mapping[str, Carry]:
        """What this till can do, by the command's field name."""
        return {"reprint": self.reprint, "open_drawer": self.open_drawer, "test_print": self.test_print}

    async def reprint(self, command: Command) -> str:
        """Prints a copy of a receipt, marked SALINAN.

        Raises:
            CommandFailed: there is no such sale or no printer, or nobody knows what came out.
        """
        try:
            job = await self._receipts.reprint(command.reprint.sale_id)
        except GiposError as error:
            raise CommandFailed(error.message) from error
        return await self._outcome(job)

    async def open_drawer(self, _: Command) -> str:
        """Opens the cash drawer, at once or not at all.

        Raises:
            CommandFailed: there is no printer to open it with, or it could not.
        """
        try:
            job = await self._receipts.open_drawer()
        except GiposError as error:
            raise CommandFailed(error.message) from error
        return await self._outcome(job)

    async def test_print(self, _: Command) -> str:  # noqa: PT019 (no test and no fixture)
        """Prints a page that shows that the printer works.

        Raises:
            CommandFailed: there is no printer, or it did not.
        """
        try:
            job = await self._receipts.test_print()
        except GiposError as error:
            raise CommandFailed(error.message) from error
        return await self._outcome(job)

    async def _outcome(self, job: PrintRow) -> str:
        row = await self._receipts.settled(job.key, WAIT_SECONDS)
        state = JobState(row.state)
        problem = f" ({row.problem})" if row.problem else ""
        match state:
            case JobState.PRINTED:
                return "Done."
            case JobState.UNKNOWN:
                raise CommandFailed(f"Something was sent to the printer; somebody must look what came out{problem}.")
            case JobState.FAILED:
                raise CommandFailed(f"The printer could not do it{problem}.")
            case JobState.QUEUED | JobState.BLOCKED | JobState.SENDING | JobState.AWAITING_CONFIRM:
                return f"It waits for the printer{problem} and is done when that is ready."
            case _:
                assert_never(state)
