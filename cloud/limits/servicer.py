"""UsageService over gRPC."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloud.limits import usage
from cloud.platform.database import Database
from cloud.platform.rpc import caller
from gipos.v1 import usage_pb2, usage_pb2_grpc
from kernel.errors import Invalid, Violation

if TYPE_CHECKING:
    from cloud.platform.rpc import Context

DAYS = 7
MOST_DAYS = 90


class UsageServicer(usage_pb2_grpc.UsageServiceServicer):
    """Answers UsageService."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def GetUsage(self, request: usage_pb2.GetUsageRequest, context: Context) -> usage_pb2.Usage:
        """See usage.proto."""
        if not 0 <= request.days <= MOST_DAYS:
            raise Invalid([Violation("days", "OUT_OF_RANGE", f"days must be from 1 to {MOST_DAYS}.")])
        tenant_id = caller().tenant_id
        async with self._database.snapshot(tenant_id) as connection:
            return await usage.report(connection, tenant_id, request.days or DAYS)
