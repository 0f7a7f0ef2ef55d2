"""Who is calling. REST and gRPC callers pass this one door: a key or token becomes a caller with a tenant and scopes.

Whoever was here within the last minute is recognised from memory, which changes.py keeps honest. That way is kept as short as it
can be: every call takes it.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import Callable, Iterable, Sequence

import structlog

from cloud.accounts import credentials, till_credentials
from cloud.accounts.attempts import Attempts
from cloud.accounts.changes import Changes
from cloud.accounts.credentials import Credential, Known
from cloud.accounts.uses import Uses
from cloud.platform import peers
from cloud.platform.calls import NOBODY, Call, Caller
from cloud.platform.database import Database
from cloud.platform.wakeups import Wakeups
from kernel.errors import (
    AddressNotAllowed,
    GiposError,
    OriginNotAllowed,
    PermissionDenied,
    TillChanged,
    TillRevoked,
    Unauthenticated,
)
from kernel.scopes import scope_of

__all__ = ["Authentication", "scope_of"]

logger = structlog.get_logger()

CACHE_SECONDS = 60.0
"""How long a look-up is believed when nobody says that anything changed."""
UNSEEN_SECONDS = 1.0
"""How long it is believed when it cannot be known whether anything changed: so much longer a revoked key works at most."""
CACHE_SIZE = 10_000
TELLING_SECONDS = 0.5
"""How long a link that is to end may wait to hear why."""
TRUSTED_PROXIES = ("127.0.0.0/8", "::1")

OPEN = frozenset(
    f"/gipos.v1.OAuthService/{name}" for name in ("IssueToken", "RevokeToken", "IntrospectToken", "PrepareAuthorization")
)
"""Methods that identify their callers themselves. They are served for calls.NOBODY."""
ENROLMENT = frozenset(f"/gipos.edge.v1.EnrolmentService/{name}" for name in ("GetAuthorities", "Enrol", "RenewCertificate"))
"""The same, for tablets that have no credential yet or no longer; who guesses codes is slowed down where they are looked at."""
TICKETS = frozenset({"/gipos.v1.DashboardService/RedeemDashboardTicket"})
"""The same again: what is shown there is used up by it, and who guesses is slowed down there."""
_DASHBOARD = "/gipos.v1.DashboardService/WatchTopics"
"""All that a pass opens."""
_LINK = "/gipos.edge.v1."
_TILLS_ONLY = "a till"
"""What the link needs instead of a scope."""


class Authentication:
    """Resolves keys and tokens, with a memory."""

    def __init__(
        self,
        database: Database,
        wakeups: Wakeups,
        *,
        trusted_proxies: Sequence[str] = TRUSTED_PROXIES,
    ) -> None:
        self._database = database
        self._wakeups = wakeups
        self._address_of = peers.resolver(trusted_proxies)
        self._needs: dict[str, str] = {}
        # By the credential itself: hashing it each time would cost as much as all the rest. It never leaves the memory of the
        # process, where the calls' own metadata holds it anyway, and a dict compares only what has the same keyed 64-bit hash.
        self._known: dict[Credential, Known] = {}
        self._by_subject: dict[str, set[Credential]] = {}
        self._uses = Uses(database)
        self._looking: dict[Credential, asyncio.Task[Known]] = {}
        self._telling: set[asyncio.Task[None]] = set()
        self._changed = 0
        self._streams: dict[str, list[Call]] = {}
        self.changes = Changes(database, wakeups, self._forget)
        self.also_told: list[Callable[[Iterable[str]], None]] = []
        """Hear the ids of keys and others that changed, after this."""
        self.failures = Attempts("failed sign-ins", 30, 1, time.monotonic)
        """Unknown keys and wrong client secrets."""
        self._device_failures = Attempts("failed sign-ins", 30, 1, time.monotonic)
        """Tills apart: an integration with an old key must not keep the till beside it from connecting."""
        self._open_calls = Attempts("requests to OAuth", 100, 10, time.monotonic)

    async def run(self) -> None:
        """Hears of changes and writes uses, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.changes.run())
            tasks.create_task(self._uses.run())

    async def stop(self) -> None:
        """Writes what is still in memory. Called when no more calls come."""
        await self._uses.flush()

    async def __call__(self, call: Call) -> Caller:
        """The caller of a call; also settles the call's address.

        Raises:
            Unauthenticated: no key, not a key, unknown, expired or revoked.
            RateLimited: too many of these from this address.
            PermissionDenied: the key lacks the scope, or may not be used from this address or web page; the till is locked out.
        """
        metadata = call.metadata
        call.address = address = self._address_of(call.address, metadata.get("x-forwarded-for", ""))
        method = call.method
        need = self._needs.get(method)
        if need is None:
            if method in OPEN:
                return self._nobody(call)
            if method in ENROLMENT or method in TICKETS:
                return NOBODY
            need = self._needs[method] = _TILLS_ONLY if method.startswith(_LINK) else scope_of(method)
        authorization = metadata.get("authorization", "")
        credential: Credential = authorization[7:] if authorization[:7] == "Bearer " else ""
        known = self._known.get(credential)
        if known is None or call.certificate:
            credential = _credential(call)
            known = self._known.get(credential)
        now = time.monotonic()
        if known is None or not self._holds(known, now):
            known = await self._identify(call, credential, known)
        caller = call.caller = known.caller  # known from here on, so that a refusal is told of somebody
        if caller.till_id:
            if need is not _TILLS_ONLY:
                raise PermissionDenied("A device token opens the link only. Use an API key for this call.")
            return caller
        if need is _TILLS_ONLY:
            raise PermissionDenied("Only a till with its certificate or device token may open a link.")
        if caller.kind == credentials.DASHBOARD and method != _DASHBOARD:
            raise PermissionDenied("A dashboard's pass opens the dashboards' stream only. Use an API key for this call.")
        if known.networks and not self._is_near(known, address):
            self._note_foreign(known, address)
        use = known.use
        if use is not None:
            use.used_at = now
            use.address = address
        origin = metadata.get("origin")
        if origin is not None:
            _check_origin(call, known, origin)
        if need and need not in caller.scopes:
            raise PermissionDenied(f"This key lacks the scope {need}. Use a key that has it.", scope=need)
        return caller

    def hold(self, call: Call) -> Held:
        """Is held as long as a stream of an authenticated call is open. When its key or token changes or ends, the stream ends.

        Whoever still may opens it again, and goes on where it was.
        """
        return Held(self, call)

    async def _hold(self, call: Call) -> tuple[Known, asyncio.TimerHandle | None]:
        credential = _credential(call)
        while (known := self._known.get(credential)) is None:
            # Not what a look-up answers: one that a change has overtaken is not remembered, for it may have read what was before,
            # and whoever was held by that would never be told.
            await self._identify(call, credential, None)
        if call.caller is not None and known.caller != call.caller:
            raise _changed(call.caller)  # between the door and here: it was let in as somebody else
        left = known.ends_at - time.monotonic()
        timer = asyncio.get_running_loop().call_later(left, self._end, call) if math.isfinite(left) else None
        for subject in known.subjects:
            self._streams.setdefault(subject, []).append(call)
        return known, timer

    def _let_go(self, call: Call, known: Known, timer: asyncio.TimerHandle | None) -> None:
        if timer is not None:
            timer.cancel()
        for subject in known.subjects:
            # By identity: two calls may look the same.
            rest = [other for other in self._streams.pop(subject, ()) if other is not call]
            if rest:
                self._streams[subject] = rest

    def _end(self, call: Call) -> None:
        # Nothing is cancelled: a stream that is in the middle of sending could not be ended properly any more.
        if call.caller is not None and call.caller.till_id:
            task = asyncio.create_task(self._end_link(call))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)
            return
        call.refusal = _changed(call.caller)
        if call.caller is not None:
            self._wakeups.touch(call.caller.tenant_id, {})

    async def _end_link(self, call: Call) -> None:
        """Ends the stream of a till with what it would hear if it came back: its cashier is to know why."""
        assert call.caller is not None, "only links of known tills are held"
        refusal = _changed(call.caller)
        try:
            async with asyncio.timeout(TELLING_SECONDS):
                await self._identify(call, _credential(call), None)
        except (Unauthenticated, TillRevoked) as error:
            refusal = error
        except Exception as error:  # noqa: BLE001 (whatever is the matter, the stream ends; the till hears more when it comes back)
            logger.warning("till_not_looked_up", till_id=call.caller.till_id, error=repr(error))
        call.refusal = refusal
        self._wakeups.touch(call.caller.tenant_id, {})

    def _holds(self, known: Known, now: float) -> bool:
        found_at, looked_at = known.found_at, self.changes.looked_at
        return (
            now < known.ends_at
            and now - found_at < CACHE_SECONDS
            and (now - looked_at < UNSEEN_SECONDS or now - found_at < UNSEEN_SECONDS)
        )

    def _nobody(self, call: Call) -> Caller:
        self._open_calls.require(call)
        self._open_calls.count(call)
        self.failures.require(call)
        return NOBODY

    async def _identify(self, call: Call, credential: Credential, stale: Known | None) -> Known:
        if not credential and call.method.startswith(_LINK):
            raise Unauthenticated(
                "A till shows who it is by its certificate or its device token (authorization: Bearer gipos_device_…), and this"
                " call has neither. A tablet gets its certificate when it is paired: python -m edge enroll."
            )
        if not credential:
            raise Unauthenticated("An API key is missing. Send the header Authorization: Bearer gipos_test_… or gipos_live_….")
        failures = self._device_failures if credentials.is_till(credential) else self.failures
        if isinstance(credential, str) and not credentials.is_credential(credential):
            # Costs nothing and asks nobody, so it need not be counted.
            raise Unauthenticated("This is not a key: its checksum is wrong. Check that it was copied whole.")
        if stale is None:
            failures.require(call)
        looking = self._looking.get(credential)
        if looking is None:
            # Many calls of one key arrive at once; one look serves them all, and none of them can cancel it for the others.
            looking = self._looking[credential] = asyncio.create_task(self._look_up(credential, call.certificate))
            looking.add_done_callback(lambda task: self._looked(credential, task))
        try:
            return await asyncio.shield(looking)
        except (Unauthenticated, TillRevoked):
            failures.count(call)
            raise

    async def _look_up(self, credential: Credential, certificate: bytes) -> Known:
        changed = self._changed
        try:
            known = await self._found(credential, certificate)
        except (Unauthenticated, TillRevoked):
            self._drop(credential)
            raise
        if known.caller.kind == "api_key":
            known.use = self._uses.of(known.caller.tenant_id, known.caller.key_id)
        if changed == self._changed:  # else what was read may be of yesterday: good for the calls that wait, not to be kept
            self._remember(credential, known)
        return known

    async def _found(self, credential: Credential, certificate: bytes) -> Known:
        if isinstance(credential, str) and not credentials.is_till(credential):
            async with self._database.identifying() as connection:
                return await credentials.look_up(connection, credential)
        try:
            return await credentials.look_up_till(self._database.identities, credential)
        except Unauthenticated:
            if not certificate:
                raise
            async with self._database.identifying() as connection:
                if not await till_credentials.adopt(connection, certificate):
                    raise
        return await credentials.look_up_till(self._database.identities, credential)

    def _looked(self, credential: Credential, task: asyncio.Task[Known]) -> None:
        self._looking.pop(credential, None)
        if not task.cancelled():
            task.exception()  # told to whoever waits; if all of them have left, nobody misses it

    def _remember(self, credential: Credential, known: Known) -> None:
        self._drop(credential)
        while len(self._known) >= CACHE_SIZE:
            self._drop(next(iter(self._known)))
        self._known[credential] = known
        for subject in known.subjects:
            self._by_subject.setdefault(subject, set()).add(credential)

    def _drop(self, credential: Credential) -> None:
        known = self._known.pop(credential, None)
        if known is None:
            return
        for subject in known.subjects:
            rest = self._by_subject.get(subject, set())
            rest.discard(credential)
            if not rest:
                self._by_subject.pop(subject, None)

    def _forget(self, changed: Iterable[str]) -> None:
        self._changed += 1
        subject_ids = list(changed)
        for subject_id in subject_ids:
            for call in self._streams.get(subject_id, ()):
                self._end(call)
            for credential in list(self._by_subject.get(subject_id, ())):
                self._drop(credential)
        for tell in self.also_told:
            tell(subject_ids)

    def _is_near(self, known: Known, address: str) -> bool:
        near = known.near.get(address)
        if near is None:
            if len(known.near) >= CACHE_SIZE:
                known.near.clear()
            near = known.near[address] = peers.is_within(address, known.networks)
        return near

    def _note_foreign(self, known: Known, address: str) -> None:
        if known.use is not None:
            known.use.foreign_count += 1
        if not known.is_dry_run:
            where = address or "(unknown)"
            message = f"This key may not be used from the address {where}. Add it to allowed_addresses, or use another key."
            raise AddressNotAllowed(message, ip=where)


class Held:
    """The hold of one open stream, see `Authentication.hold`. A class, not a generator: there is one for each open stream."""

    __slots__ = ("_authentication", "_call", "_known", "_timer")

    def __init__(self, authentication: Authentication, call: Call) -> None:
        self._authentication = authentication
        self._call = call
        self._known: Known | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> None:
        self._known, self._timer = await self._authentication._hold(self._call)  # noqa: SLF001 (the two are one)

    async def __aexit__(self, *_: object) -> None:
        assert self._known is not None
        self._authentication._let_go(self._call, self._known, self._timer)  # noqa: SLF001 (as above)


def _changed(caller: Caller | None) -> GiposError:
    """What ends a stream whose caller is not what it was."""
    if caller is not None and caller.till_id:
        return TillChanged("The till's state or certificate was changed. Connect again.")
    return Unauthenticated("The key was changed or has ended while the stream was open. Open it again.")


def _check_origin(call: Call, known: Known, origin: str) -> None:
    if origin not in known.origins and "*" not in known.origins:
        raise OriginNotAllowed(
            f"This key may not be used from web pages of {origin[:200]}. Add it to allowed_origins, or call from your server.",
            origin=origin[:200],
        )
    call.headers.append(("access-control-allow-origin", origin))


def _credential(call: Call) -> Credential:
    if call.certificate:
        return hashlib.sha256(call.certificate).digest()
    metadata = call.metadata
    scheme, _, value = metadata.get("authorization", "").partition(" ")
    credential = value.strip() if scheme.lower() == "bearer" else ""
    return credential or metadata.get("x-api-key", "").strip()
