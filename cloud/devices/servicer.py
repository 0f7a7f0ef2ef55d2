"""DeviceService: hands on to who knows. Tills know themselves; the link knows what they could not upload."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlalchemy.ext.asyncio import AsyncConnection

from cloud.platform import idempotency
from cloud.platform.database import Database
from cloud.platform.rpc import caller
from cloud.platform.wakeups import Wakeups
from cloud.sync import quarantine, retries
from cloud.tills import certificates, codes, commands, devices, mail, policies
from cloud.tills.enrolments import Enrolments
from gipos.v1 import devices_pb2, devices_pb2_grpc
from kernel.errors import Invalid, Violation

if TYPE_CHECKING:
    from cloud.platform.rpc import Context


class DeviceServicer(devices_pb2_grpc.DeviceServiceServicer):
    """Answers DeviceService."""

    def __init__(self, database: Database, wakeups: Wakeups, enrolments: Enrolments) -> None:
        self._database = database
        self._wakeups = wakeups
        self._enrolments = enrolments

    async def ListDevices(self, request: devices_pb2.ListDevicesRequest, context: Context) -> devices_pb2.ListDevicesResponse:
        """See devices.proto."""
        tenant_id = caller().tenant_id
        async with self._database.reading(tenant_id) as connection:
            found = await devices.every(connection, tenant_id, outlet_id=request.outlet_id, states=request.states)
            await self._count(connection, found)
        return devices_pb2.ListDevicesResponse(devices=found)

    async def GetDevice(self, request: devices_pb2.GetDeviceRequest, context: Context) -> devices_pb2.Device:
        """See devices.proto."""
        tenant_id = caller().tenant_id
        async with self._database.reading(tenant_id) as connection:
            found = await devices.find(connection, tenant_id, request.id)
            await self._count(connection, [found])
            return found

    @staticmethod
    async def _count(connection: AsyncConnection, found: Sequence[devices_pb2.Device]) -> None:
        """Adds how many operations are put aside: the tills do not know that."""
        counts = await quarantine.open_counts(connection, caller().tenant_id)
        for device in found:
            device.quarantined_operations = counts.get(device.id, 0)

    async def CreatePairingCode(self, request: devices_pb2.CreatePairingCodeRequest, context: Context) -> devices_pb2.PairingCode:
        """See devices.proto."""
        enrolments = self._enrolments
        authority = certificates.fingerprint(enrolments.authorities.keys.trusted[0])
        async with self._database.transaction(caller().tenant_id) as tx:
            return await idempotency.once(
                tx,
                "CreatePairingCode",
                request.request_id,
                request,
                devices_pb2.PairingCode,
                lambda: codes.create(tx, enrolments.ring, request, enrolments.addresses.enrol, authority),
            )

    async def SetDeviceState(self, request: devices_pb2.SetDeviceStateRequest, context: Context) -> devices_pb2.Device:
        """See devices.proto."""
        async with self._database.transaction(caller().tenant_id) as tx:
            changed = await devices.set_state(tx, request.id, request.state, request.reason)
            await self._count(tx.connection, [changed])
        self._enrolments.announce(changed.id)
        return changed

    async def GetOfflinePolicy(self, request: devices_pb2.GetOfflinePolicyRequest, context: Context) -> devices_pb2.OfflinePolicy:
        """See devices.proto."""
        tenant_id = caller().tenant_id
        async with self._database.reading(tenant_id) as connection:
            return await policies.find(connection, tenant_id, request.outlet_id)

    async def SetOfflinePolicy(self, request: devices_pb2.SetOfflinePolicyRequest, context: Context) -> devices_pb2.OfflinePolicy:
        """See devices.proto."""
        tenant_id = caller().tenant_id
        if not request.HasField("policy"):
            raise Invalid([Violation("policy", "REQUIRED", "policy is required.")])
        pins = await policies.hashed_pins(request.policy)
        async with self._database.transaction(tenant_id) as tx:
            made = await policies.put(tx, request.outlet_id, request.policy, pins)
        mail.ring(self._wakeups, tenant_id, request.outlet_id)
        return made

    async def SendCommand(self, request: devices_pb2.SendCommandRequest, context: Context) -> devices_pb2.DeviceCommand:
        """See devices.proto."""
        tenant_id = caller().tenant_id
        async with self._database.transaction(tenant_id) as tx:
            made = await idempotency.once(
                tx, "SendCommand", request.request_id, request, devices_pb2.DeviceCommand, lambda: commands.create(tx, request)
            )
        mail.ring(self._wakeups, tenant_id, request.device_id)
        return made

    async def GetCommand(self, request: devices_pb2.GetCommandRequest, context: Context) -> devices_pb2.DeviceCommand:
        """See devices.proto."""
        tenant_id = caller().tenant_id
        async with self._database.reading(tenant_id) as connection:
            return await commands.find(connection, tenant_id, request.device_id, request.id)

    async def ListQuarantine(
        self, request: devices_pb2.ListQuarantineRequest, context: Context
    ) -> devices_pb2.ListQuarantineResponse:
        """See devices.proto."""
        async with self._database.reading(caller().tenant_id) as connection:
            return await quarantine.page(connection, caller(), request)

    async def RetryQuarantined(
        self, request: devices_pb2.RetryQuarantinedRequest, context: Context
    ) -> devices_pb2.QuarantinedOperation:
        """See devices.proto."""
        return await retries.retry(self._database, caller(), request.device_id, request.id)

    async def DiscardQuarantined(
        self, request: devices_pb2.DiscardQuarantinedRequest, context: Context
    ) -> devices_pb2.QuarantinedOperation:
        """See devices.proto."""
        async with self._database.transaction(caller().tenant_id) as tx:
            return await quarantine.discard(tx, caller(), request.device_id, request.id, request.reason)
