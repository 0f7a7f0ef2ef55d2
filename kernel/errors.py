"""The errors a caller can meet: one class per reason. How they travel is the business of gRPC and HTTP, each in one place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from google.rpc import code_pb2


@dataclass(frozen=True)
class Violation:
    """One thing wrong with a request."""

    field: str
    """Path within the request as the caller wrote it, for example `lines[0].quantity`."""
    reason: str
    """For programs, for example `REQUIRED`."""
    message: str
    """For people: what is wrong and what to send instead."""


class GiposError(Exception):
    """A failure with a reason. Raise one of the subclasses."""

    code: ClassVar[int] = code_pb2.INTERNAL
    """The google.rpc.Code."""
    reason: ClassVar[str] = "INTERNAL"
    """For programs; never changes."""

    def __init__(self, message: str, violations: Sequence[Violation] = (), **facts: str) -> None:
        super().__init__(message)
        self.message = message
        """What happened and what to do, in the words of the product."""
        self.violations = tuple(violations)
        self.facts = facts
        """Every variable in the message, for programs."""
        self.retry_seconds = 0.0
        """When trying again makes sense, in seconds from now; 0 when there is nothing to say."""
        self.policies: tuple[str, ...] = ()
        """The names of the limits that were reached."""


class Invalid(GiposError):
    """The request breaks rules; the violations say which."""

    code = code_pb2.INVALID_ARGUMENT
    reason = "VALIDATION_FAILED"

    def __init__(self, violations: Sequence[Violation], message: str = "") -> None:
        super().__init__(message or _summary(violations), violations)


def _summary(violations: Sequence[Violation]) -> str:
    """One sentence for all: the only one itself, else how many there are."""
    if len(violations) != 1:
        return f"{len(violations)} fields are invalid."
    text = violations[0].message
    leaf = violations[0].field.rpartition(".")[2]
    if text[:1].islower() and leaf and not text.startswith((leaf, leaf.partition("[")[0])):
        text = f"{violations[0].field} {text}"  # "must be a number" says it of the field it stands beside
    return text if text.endswith(".") else f"{text}."


class NotFound(GiposError):
    """The resource does not exist, or belongs to another merchant."""

    code = code_pb2.NOT_FOUND
    reason = "RESOURCE_NOT_FOUND"


class AlreadyExists(GiposError):
    """Something with this unique value exists already."""

    code = code_pb2.ALREADY_EXISTS
    reason = "ALREADY_EXISTS"


class VersionConflict(GiposError):
    """The resource changed since the caller read it."""

    code = code_pb2.ABORTED
    reason = "VERSION_CONFLICT"


class NotRefundable(GiposError):
    """More would be given back than was sold and is left."""

    code = code_pb2.FAILED_PRECONDITION
    reason = "NOT_REFUNDABLE"


class NotEnoughStock(GiposError):
    """Less can be promised to an order than it asks for."""

    code = code_pb2.FAILED_PRECONDITION
    reason = "NOT_ENOUGH_STOCK"


class ReservationEnded(GiposError):
    """The reservation is not open any more."""

    code = code_pb2.FAILED_PRECONDITION
    reason = "RESERVATION_ENDED"


class ConflictSettled(GiposError):
    """The conflict was settled before, the other way."""

    code = code_pb2.FAILED_PRECONDITION
    reason = "CONFLICT_SETTLED"


class Unauthenticated(GiposError):
    """The key is missing, wrong, expired or revoked."""

    code = code_pb2.UNAUTHENTICATED
    reason = "UNAUTHENTICATED"


class PermissionDenied(GiposError):
    """The caller is known but may not do this."""

    code = code_pb2.PERMISSION_DENIED
    reason = "PERMISSION_DENIED"


class OriginNotAllowed(PermissionDenied):
    """A web page of another origin called with a key that does not name it."""

    reason = "ORIGIN_NOT_ALLOWED"


class AddressNotAllowed(PermissionDenied):
    """The key may not be used from this address."""

    reason = "IP_NOT_ALLOWED"


class KeyEnded(GiposError):
    """The key was revoked or has expired, so it cannot be changed any more."""

    code = code_pb2.FAILED_PRECONDITION
    reason = "KEY_ENDED"


class LockOut(GiposError):
    """Afterwards nobody could manage the merchant's keys."""

    code = code_pb2.FAILED_PRECONDITION
    reason = "LOCK_OUT"


class TillRevoked(PermissionDenied):
    """The till was locked out by its owner, or another tablet has taken its place."""

    reason = "TILL_REVOKED"


class TillChanged(GiposError):
    """Something about the till was changed while its link was open; it may come back at once."""

    code = code_pb2.UNAVAILABLE
    reason = "TILL_CHANGED"


class PairingCodeWrong(GiposError):
    """There is no such pairing code, it was used, or it is older than ten minutes: nobody is told which."""

    code = code_pb2.NOT_FOUND
    reason = "PAIRING_CODE_WRONG"


class PairingCodeOther(GiposError):
    """The tablet has been another till and may hold sales of it; the pairing code is not for that till."""

    code = code_pb2.FAILED_PRECONDITION
    reason = "PAIRING_CODE_OTHER_TILL"


class RateLimited(GiposError):
    """Too many requests in too short a time."""

    code = code_pb2.RESOURCE_EXHAUSTED
    reason = "RATE_LIMITED"


class QuotaExceeded(GiposError):
    """The requests that the plan allows in a day are used up."""

    code = code_pb2.RESOURCE_EXHAUSTED
    reason = "QUOTA_EXCEEDED"


class TooManyConcurrent(GiposError):
    """Too many requests of one merchant at the same time."""

    code = code_pb2.RESOURCE_EXHAUSTED
    reason = "CONCURRENCY_LIMITED"


class IdempotencyMismatch(GiposError):
    """An idempotency key was used again with another request."""

    code = code_pb2.FAILED_PRECONDITION
    reason = "IDEMPOTENCY_MISMATCH"


class IdempotencyInProgress(GiposError):
    """The same request is still being worked on."""

    code = code_pb2.ABORTED
    reason = "IDEMPOTENCY_IN_PROGRESS"


class CursorInvalid(GiposError):
    """A page token or cursor that is not ours, or belongs to another listing."""

    code = code_pb2.INVALID_ARGUMENT
    reason = "CURSOR_INVALID"


class CursorExpired(GiposError):
    """The cursor points before the oldest event that is kept."""

    code = code_pb2.OUT_OF_RANGE
    reason = "CURSOR_EXPIRED"


class LimitReached(GiposError):
    """The merchant has as many of these as the plan allows."""

    code = code_pb2.FAILED_PRECONDITION
    reason = "LIMIT_REACHED"


class Unreachable(GiposError):
    """The database is away for a moment; what was under way may or may not have happened."""

    code = code_pb2.UNAVAILABLE
    reason = "DATABASE_UNAVAILABLE"


class Busy(GiposError):
    """The database could not serve the request in time; trying again is safe."""

    code = code_pb2.UNAVAILABLE
    reason = "BUSY"
