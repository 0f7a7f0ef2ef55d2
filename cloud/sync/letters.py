"""What waits for a till beside the log, its policy and its commands: read and handed to its session."""

from __future__ import annotations

from cloud.platform.calls import Caller
from cloud.sync.processes import Process
from cloud.sync.sessions import Session
from cloud.tills import commands, policies
from kernel import capabilities


async def hand_over(process: Process, who: Caller, session: Session, rules: bytes) -> bytes:
    """Hands over what there is; the rules of the policy the till has then, of which these were sent last.

    Raises:
        Busy, Unreachable: as Database says. Trying again is safe.
    """
    async with process.database.reading(who.tenant_id) as connection:
        policy = await policies.current(connection, who.tenant_id, who.till_id)
        waiting = await commands.waiting(connection, who.tenant_id, who.till_id)
    if waiting:
        able = capabilities.COMMANDS in session.capabilities
        for command in await commands.sent(process.database, who, waiting, able=able):
            session.command(command)
    if policy is not None and policy.rules != rules:
        session.policy(policy)
        return policy.rules
    return rules
