"""Why an operation of a till could not be stored: a reason for programs, and a sentence for owners and cashiers.

Bahasa Indonesia first, then English, as everywhere in a shop. The sentences are kept with what was put aside.
"""

from __future__ import annotations

from typing import Final

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
    "QUANTITY_WRONG": (
        "Ada jumlah barang yang bukan angka dengan paling banyak tiga desimal.",
        "A quantity is not a decimal number with at most three places.",
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
