"""The cloud's doors with TLS: one that asks for a till's certificate, one for everybody else. Both renew while open.

Nothing is decided here about who may do what: a certificate of ours only gets a caller as far as authentication.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, cast

import grpc
import structlog

from cloud.platform.jobs import DATABASE_ERRORS
from cloud.tills import authorities, certificates
from cloud.tills.authorities import Authorities
from kernel import business_days

RENEWED_AFTER = timedelta(days=7)
"""How long one key of a door is used."""
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")

logger = structlog.get_logger()


class Doors:
    """The certificates of this process, and how gRPC asks for them."""

    def __init__(self, issued_by: Authorities, names: Sequence[str]) -> None:
        self._authorities = issued_by
        self._names = (*LOCAL_NAMES, socket.gethostname(), *names)
        self._configuration = self._issue()
        self._issued_at = business_days.now()
        self._trusted = self._authorities.keys.trusted
        # Each door tells by identity whether it has the newest.
        self._given: list[grpc.ServerCertificateConfiguration | None] = []

    def credentials(self, *, for_tills: bool) -> grpc.ServerCredentials:
        """For a port: with a certificate of every client, or of none."""
        place = len(self._given)
        self._given.append(self._configuration)

        def renewed() -> grpc.ServerCertificateConfiguration | None:
            # Called by gRPC's threads in the middle of a handshake: only looks.
            newest = self._configuration
            if self._given[place] is newest:
                return None
            self._given[place] = newest
            return newest

        # "None for unchanged" is documented of the fetcher; the stubs have forgotten it.
        made: grpc.ServerCredentials = grpc.dynamic_ssl_server_credentials(
            self._configuration, cast("Any", renewed), require_client_authentication=for_tills
        )
        return made

    async def run(self) -> None:
        """Looks for new authorities and renews, until cancelled."""
        while True:
            await asyncio.sleep(authorities.LOOK_SECONDS)
            try:
                await self.look()
            except DATABASE_ERRORS as error:
                logger.warning("authorities_not_read", error=repr(error))

    async def look(self) -> None:
        """Looks for new authorities and renews what is to be renewed.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, OSError: the database is away; what there is goes on.
        """
        await self._authorities.load()
        self.renew()

    def renew(self, *, at_once: bool = False) -> None:
        """Makes a new certificate when the present one is old, or other authorities are trusted."""
        now = business_days.now()
        trusted = self._authorities.keys.trusted
        if at_once or now - self._issued_at >= RENEWED_AFTER or list(trusted) != list(self._trusted):
            self._configuration = self._issue()
            self._issued_at, self._trusted = now, trusted
            logger.info("door_certificate_renewed", authorities=len(trusted))

    def _issue(self) -> grpc.ServerCertificateConfiguration:
        keys = self._authorities.keys
        chain, key = certificates.for_door(keys.issuer, self._names)
        made: grpc.ServerCertificateConfiguration = grpc.ssl_server_certificate_configuration(
            [(key, chain)], root_certificates=certificates.pem(keys.trusted)
        )
        return made
