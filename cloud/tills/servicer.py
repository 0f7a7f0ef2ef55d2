"""EnrolmentService: what a tablet asks before it is a till, and when its certificate gets old."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloud.platform import calls
from cloud.tills.enrolments import Enrolments
from gipos.edge.v1 import enrolment_pb2, enrolment_pb2_grpc
from kernel import business_days

if TYPE_CHECKING:
    from cloud.platform.rpc import Context


class EnrolmentServicer(enrolment_pb2_grpc.EnrolmentServiceServicer):
    """Answers EnrolmentService, to callers that nobody knows yet."""

    def __init__(self, enrolments: Enrolments) -> None:
        self._enrolments = enrolments

    async def GetAuthorities(
        self, request: enrolment_pb2.GetAuthoritiesRequest, context: Context
    ) -> enrolment_pb2.GetAuthoritiesResponse:
        """See enrolment.proto."""
        keys = self._enrolments.authorities.keys
        response = enrolment_pb2.GetAuthoritiesResponse(authorities=keys.trusted, policy_keys=keys.policy_keys)
        response.server_time.FromDatetime(business_days.now())
        return response

    async def Enrol(self, request: enrolment_pb2.EnrolRequest, context: Context) -> enrolment_pb2.EnrolResponse:
        """See enrolment.proto."""
        return await self._enrolments.enrol(calls.call(), request)

    async def RenewCertificate(
        self, request: enrolment_pb2.RenewCertificateRequest, context: Context
    ) -> enrolment_pb2.RenewCertificateResponse:
        """See enrolment.proto."""
        return await self._enrolments.renew(calls.call(), request)
