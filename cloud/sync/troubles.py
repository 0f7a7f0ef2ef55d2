"""Why an operation of a till could not be stored: a reason for programs, and a sentence for owners and cashiers.

Bahasa Indonesia first, then English, as everywhere in a shop. The sentences are kept with what was put aside.
"""

from __future__ import annotations

from typing import Final

import asyncpg
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from kernel.errors import Unreachable

BAD_DATA: Final = {"21", "22", "23", "54"}
"""Classes of SQLSTATE that say it is the data's own fault: twice the same, data exception, constraint, too large."""
NOT_UNDERSTOOD: Final = "NOT_UNDERSTOOD"
UNSUPPORTED: Final = "UNSUPPORTED"
NOT_STORABLE: Final = "NOT_STORABLE"

TEXTS: Final = {
    NOT_UNDERSTOOD: ("Isinya tidak terbaca; rinciannya ada di catatan server.", "It could not be read; our log has the details."),
    UNSUPPORTED: (
        "Versi cloud ini belum mengenal jenis data ini. Coba lagi setelah cloud diperbarui.",
        "This version of the cloud does not know this kind of operation. Try again when the cloud is newer.",
    ),
    NOT_STORABLE: (
        "Tidak bisa disimpan di basis data; rinciannya ada di catatan server.",
        "The database could not store it; our log has the details.",
    ),
    "SALE_ID_WRONG": ("Penjualan ini tidak punya nomor pengenal yang benar.", "The sale has no id of the right shape."),
    "SALE_EMPTY": ("Penjualan ini tidak berisi barang.", "The sale has no lines."),
    "SALE_PRODUCT_WRONG": (
        "Nomor pengenal suatu barang berisi karakter NUL.",
        "The product id of a line has a NUL character.",
    ),
    "QUANTITY_WRONG": (
        "Ada jumlah barang yang bukan angka dengan paling banyak tiga desimal.",
        "A quantity is not a decimal number with at most three places.",
    ),
    "TOTAL_WRONG": (
        "Total penjualan melebihi sepuluh triliun rupiah.",
        "The total of the sale is more than ten trillion rupiah.",
    ),
    "TIME_WRONG": ("Ada waktu di luar tahun 1 sampai 9999.", "A time is outside the years 1 to 9999."),
    "COUNT_PRODUCT_WRONG": (
        "Hitungan stok ini tidak menyebut produk dengan nomor pengenal yang benar.",
        "The count names no product by an id of the right shape.",
    ),
    "COUNT_NEGATIVE": ("Isi rak tidak mungkin kurang dari nol.", "A shelf cannot hold less than nothing."),
    "COUNT_NOTE_WRONG": (
        "Catatan hitungan stok terlalu panjang atau berisi karakter NUL.",
        "The note of the count is too long or has a NUL character.",
    ),
    "EDIT_EMPTY": ("Perubahan ini tidak menyebut produk atau isiannya.", "The change names no product or no field."),
}
"""Every reason of ours, in both languages. A change of a product may be refused with the catalogue's reasons as well."""


class Trouble(ValueError):
    """An operation cannot be stored, for one of these reasons."""

    def __init__(self, reason: str) -> None:
        super().__init__(said(reason))
        self.reason = reason


def said(reason: str) -> str:
    """The sentence in both languages."""
    return " / ".join(TEXTS[reason])


def of_rules(message: str) -> str:
    """What the catalogue's rules say of a change, for people of both languages."""
    return f"Ditolak oleh aturan katalog. / {message}"


def in_one_line(error: Exception) -> str:
    """In one line; what the database says of a statement is pages long."""
    return str(getattr(error, "orig", None) or error).partition("\n")[0][:300]


def is_bad_data(error: Exception) -> bool:
    """Whether it is an operation's own fault, so that sending it again cannot help.

    By SQLSTATE, because the driver raises many under one class. What does not come from the database at all is a fault in what
    reads operations: it must not stop a queue either.
    """
    source: object = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(error, DBAPIError) and isinstance(getattr(source, "__cause__", None), asyncpg.DataError):
        return True  # the driver could not even put it into a message
    if isinstance(error, DBAPIError | asyncpg.PostgresError):
        return str(getattr(source, "sqlstate", None) or "")[:2] in BAD_DATA
    if isinstance(error, asyncpg.InterfaceError):
        return isinstance(error, asyncpg.DataError)
    return not isinstance(error, OSError | Unreachable | asyncpg.InternalClientError | sa.exc.SQLAlchemyError)
