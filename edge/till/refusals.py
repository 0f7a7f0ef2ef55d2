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
