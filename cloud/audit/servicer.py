"""AuditService over gRPC: the trail, its export and its proof."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from cloud.audit import checkpoints, listing, verification
from cloud.platform.database import Database
from cloud.platform.keyring import Keyring
from cloud.platform.rpc import caller
from gipos.v1 import audit_pb2, audit_pb2_grpc

if TYPE_CHECKING:
    from cloud.platform.rpc import Context


class AuditServicer(audit_pb2_grpc.AuditServiceServicer):
    """Answers AuditService."""

    def __init__(self, database: Database, keyring: Keyring, folder: Path) -> None:
        self._database = database
        self._keyring = keyring
        self._folder = folder

    async def ListAuditEntries(
        self, request: audit_pb2.ListAuditEntriesRequest, context: Context
    ) -> audit_pb2.ListAuditEntriesResponse:
        """See audit.proto."""
        tenant_id = caller().tenant_id
        async with self._database.reading(tenant_id) as connection:
            return await listing.page(connection, tenant_id, request)

    async def ExportAuditEntries(
        self, request: audit_pb2.ExportAuditEntriesRequest, context: Context
    ) -> AsyncIterator[audit_pb2.AuditEntry]:
        """See audit.proto."""
        async for entry in listing.export(self._database, caller().tenant_id, request):
            yield entry

    async def VerifyAuditLog(
        self, request: audit_pb2.VerifyAuditLogRequest, context: Context
    ) -> audit_pb2.VerifyAuditLogResponse:
        """See audit.proto."""
        known = await asyncio.to_thread(checkpoints.read, self._folder, self._keyring)
        verdict = await verification.tenant(self._database, self._keyring, known, caller().tenant_id)
        finding = verdict.finding
        return audit_pb2.VerifyAuditLogResponse(
            intact=finding is None,
            checked=verdict.checked,
            broken_sequence=finding.seq if finding else 0,
            problem=finding.problem if finding else "",
            head_sequence=verdict.head_seq,
            head_hash=verdict.head_hash.hex(),
        )
