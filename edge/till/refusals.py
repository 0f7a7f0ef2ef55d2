"""Why the till says no: one class per reason, beside those every program shares."""

from __future__ import annotations

from google.rpc import code_pb2

from kernel.errors import GiposError


class TillNotReady(GiposError):
    """The till has never heard from the cloud, so it has no outlet, number or prices."""

    code = code_pb2.FAILED_PRECONDITION
    reason = "TILL_NOT_READY"


class ProductNotForSale(GiposError):
    """The product is known but archived or switched off."""

    code = code_pb2.FAILED_PRECONDITION
    reason = "PRODUCT_NOT_FOR_SALE"


class CartEmpty(GiposError):
    """There is nothing to sell."""

    code = code_pb2.FAILED_PRECONDITION
    reason = "CART_EMPTY"


class PrintNotUnknown(GiposError):
    """A print job that is not in doubt needs nobody's word."""

    code = code_pb2.FAILED_PRECONDITION
    reason = "PRINT_NOT_UNKNOWN"


class PrinterMissing(GiposError):
    """The till has no printer."""

    code = code_pb2.FAILED_PRECONDITION
    reason = "PRINTER_MISSING"


class OfflineLimitReached(GiposError):
    """The owner's rules do not let this till make this sale without the cloud."""

    code = code_pb2.FAILED_PRECONDITION
    reason = "OFFLINE_LIMIT_REACHED"


class OverrideNotPossible(GiposError):
    """There is no PIN that lifts the offline limits."""

    code = code_pb2.FAILED_PRECONDITION
    reason = "OVERRIDE_NOT_POSSIBLE"


class PinWrong(GiposError):
    """It is no supervisor's PIN."""

    code = code_pb2.PERMISSION_DENIED
    reason = "PIN_WRONG"


class PinLocked(GiposError):
    """Too many wrong PINs were tried."""

    code = code_pb2.RESOURCE_EXHAUSTED
    reason = "PIN_LOCKED"


class CatalogueComplete(GiposError):
    """A price may only be typed while the till has no complete catalogue."""

    code = code_pb2.FAILED_PRECONDITION
    reason = "CATALOGUE_COMPLETE"
