"""A cloud with its two doors with TLS, and tablets that pair with it over real sockets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from cloud import demo, server
from cloud.accounts import till_credentials
from cloud.platform import keyring
from cloud.platform.database import Database
from cloud.settings import Settings
from cloud.tills import authorities, certificates
from gipos.edge.v1 import enrolment_pb2, enrolment_pb2_grpc, link_pb2, link_pb2_grpc
from gipos.v1 import devices_pb2, devices_pb2_grpc
from kernel import business_days

DOOR_NAME = "link.gipos.internal"


@dataclass
class Tablet:
    """A key, and what it became."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    enrolment_id: str = "first"
    enrolled: enrolment_pb2.EnrolResponse | None = None

    @property
    def request(self) -> bytes:
        """PKCS #10."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "till")])
        made = x509.CertificateSigningRequestBuilder().subject_name(name).sign(self.key, hashes.SHA256())
        return made.public_bytes(serialization.Encoding.DER)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())

    @property
    def till_id(self) -> str:
        assert self.enrolled is not None
        return self.enrolled.till.id

    @property
    def certificate(self) -> x509.Certificate:
        assert self.enrolled is not None
        return x509.load_der_x509_certificate(self.enrolled.certificates[0])


def pem(*certificates: bytes) -> bytes:
    return b"".join(x509.load_der_x509_certificate(each).public_bytes(serialization.Encoding.PEM) for each in certificates)


@dataclass
class Doors:
    """A cloud, its ports, and stubs for its owner."""

    made: dict[str, Any]
    cloud: server.Cloud
    channel: grpc.aio.Channel
    settings: Settings

    @property
    def database(self) -> Database:
        return self.cloud.database

    @property
    def tenant_id(self) -> str:
        return str(self.made["tenant_id"])

    @property
    def outlet_id(self) -> str:
        return str(self.made["outlets"][0]["id"])

    @property
    def auth(self) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self.made['api_key']}")]

    @property
    def devices(self) -> Any:
        return devices_pb2_grpc.DeviceServiceStub(self.channel)

    @property
    def enrolment(self) -> Any:
        return enrolment_pb2_grpc.EnrolmentServiceStub(self.channel)

    async def code(self, **fields: Any) -> str:
        """A pairing code for the first outlet."""
        request = devices_pb2.CreatePairingCodeRequest(**({"outlet_id": self.outlet_id} | fields))
        made: devices_pb2.PairingCode = await self.devices.CreatePairingCode(request, metadata=self.auth)
        return made.code

    async def enrol(self, tablet: Tablet, code: str, **fields: Any) -> enrolment_pb2.EnrolResponse:
        """Asks once, over the door without a certificate."""
        request = enrolment_pb2.EnrolRequest(
            code=code, certificate_request=tablet.request, enrolment_id=tablet.enrolment_id, hardware="Test", **fields
        )
        async with self.secure(self.cloud.enrol_port) as channel:
            stub: Any = enrolment_pb2_grpc.EnrolmentServiceStub(channel)
            tablet.enrolled = await stub.Enrol(request)
        assert tablet.enrolled is not None
        return tablet.enrolled

    async def paired(self, **fields: Any) -> Tablet:
        """A tablet that is a till now."""
        tablet = Tablet()
        await self.enrol(tablet, await self.code(**fields))
        return tablet

    async def trusted(self) -> list[bytes]:
        answer = await self.enrolment.GetAuthorities(enrolment_pb2.GetAuthoritiesRequest())
        return list(answer.authorities)

    async def keys(self) -> authorities.Keys:
        """What the cloud signs with."""
        ring = keyring.find(self.settings)
        assert ring is not None
        async with self.database.across_tenants() as connection:
            return await authorities.read(connection, ring, business_days.now())

    async def grow_old(self, tablet: Tablet, age: timedelta) -> None:
        """Gives the tablet the certificate it would have if it had been paired so long ago, and makes the cloud know that one."""
        keys = await self.keys()
        old = certificates.for_till(
            keys.issuer, tablet.key.public_key(), self.tenant_id, tablet.till_id, business_days.now() - age
        )
        assert tablet.enrolled is not None
        async with self.database.across_tenants() as connection:
            await connection.execute(sa.text("DELETE FROM till_certificates WHERE till_id = :id"), {"id": tablet.till_id})
            await till_credentials.certify(connection, self.tenant_id, tablet.till_id, old)
        tablet.enrolled.certificates[0] = old

    @asynccontextmanager
    async def secure(
        self,
        port: int,
        tablet: Tablet | None = None,
        *,
        certificates: list[bytes] | None = None,
        trusted: list[bytes] | None = None,
    ) -> AsyncIterator[grpc.aio.Channel]:
        """A channel with TLS, with the tablet's certificate when there is one."""
        own = certificates or (list(tablet.enrolled.certificates) if tablet is not None and tablet.enrolled else None)
        credentials = grpc.ssl_channel_credentials(
            pem(*(trusted or await self.trusted())),
            tablet.key_pem if tablet is not None and own else None,
            pem(*own) if own else None,
        )
        options = [("grpc.ssl_target_name_override", DOOR_NAME), ("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options) as channel:
            yield channel

    @asynccontextmanager
    async def link(self, tablet: Tablet, *, port: int = 0, **how: Any) -> AsyncIterator[Any]:
        """An open link: a call whose Welcome was read."""
        async with self.secure(port or self.cloud.link_port, tablet, **how) as channel:
            stub: Any = link_pb2_grpc.EdgeLinkServiceStub(channel)
            call = stub.Link()
            await call.write(link_pb2.LinkRequest(hello=link_pb2.Hello(store_epoch=1, software_version="test")))
            first = await call.read()
            assert first is not grpc.aio.EOF
            yield call
            call.cancel()


@asynccontextmanager
async def opened(database_url: str, folder: Path) -> AsyncIterator[Doors]:
    settings = Settings(database_url=database_url, data_dir=folder / "data", drain_seconds=0.2, database_connections=6)
    async with server.running(settings, link_port=0, enrol_port=0) as cloud:
        state = folder / "demo.json"
        await demo.create(cloud.database, state, "")
        async with grpc.aio.insecure_channel(f"127.0.0.1:{cloud.port}") as channel:
            yield Doors(json.loads(state.read_text()), cloud, channel, settings)


@pytest.fixture
async def doors(database_url: str, tmp_path: Path) -> AsyncIterator[Doors]:
    async with opened(database_url, tmp_path) as made:
        yield made


@pytest.fixture
async def two_clouds(database_url: str, tmp_path: Path) -> AsyncIterator[tuple[Doors, Doors]]:
    """Two on one database: what one of them does, the other must know."""
    async with opened(database_url, tmp_path) as first, opened(database_url, tmp_path) as second:
        yield first, second


@pytest.fixture
def new_tablet() -> type[Tablet]:
    return Tablet


@pytest.fixture
def reason_of() -> Callable[[Awaitable[Any]], Awaitable[tuple[str, str]]]:
    """The reason and the words with which a call is refused."""

    async def refused(call: Awaitable[Any]) -> tuple[str, str]:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        info = error_details_pb2.ErrorInfo()
        status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]  # it reads the trailing metadata of either kind
        for detail in status.details if status is not None else ():
            if detail.Unpack(info):
                return info.reason, str(caught.value.details())
        return caught.value.code().name, str(caught.value.details())

    return refused
