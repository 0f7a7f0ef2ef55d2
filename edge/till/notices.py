"""What a cashier should be told besides the sale at hand: offline limits, disk, clock, a store that was mended.

Pure: states in, JSON out. Every text in Bahasa Indonesia first, then in English.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from edge.storage.recovery import Recovery
from edge.storage.space import Room
from edge.till.limits import Finding
from gipos.edge.v1.link_pb2 import ClockState

_DISK = {
    Room.LOW: (
        "Penyimpanan tablet hampir penuh (sisa {free} MB). Hapus foto atau aplikasi yang tidak dipakai.",
        "The tablet's disk is almost full ({free} MB left). Delete photos or apps nobody uses.",
    ),
    Room.FULL: (
        "Penyimpanan tablet penuh. Penjualan baru ditolak sampai ada ruang: hapus foto atau aplikasi yang tidak dipakai.",
        "The tablet's disk is full. New sales are refused until there is room: delete photos or apps nobody uses.",
    ),
}
_CLOCK = (
    "Jam tablet salah. Penjualan tetap jalan dan ditandai; sambungkan internet agar jam dibetulkan.",
    "The tablet's clock is wrong. Sales go on and are marked; connect the internet to have the time corrected.",
)
_RECOVERY = (
    "Berkas penjualan rusak dan dipulihkan: {sales} penjualan, {unreadable} baris tidak terbaca. Beri tahu pemilik ({kept_as}).",
    "The sales file was damaged and has been restored: {sales} sales, {unreadable} rows unreadable. Tell the owner ({kept_as}).",
)
_CATALOGUE = (
    "Katalog belum lengkap. Barang yang tidak ditemukan bisa dijual dengan mengetik nama dan harga.",
    "The catalogue is incomplete. Goods that are not found can be sold by typing name and price.",
)
RECOVERY_SHOWN_MS = 7 * 24 * 3600 * 1000
"""So long people are told of a mended store."""


def warnings(
    limits: Iterable[Finding],
    *,
    room: Room,
    free: int,
    clock: ClockState.ValueType,
    recovery: Recovery | None = None,
    now_ms: int = 0,
    catalogue_complete: bool = True,
) -> list[dict[str, Any]]:
    """Everything to be warned of, the most urgent first."""
    found = []
    if room in _DISK:
        found.append(_notice("disk", *(text.format(free=free // 1_000_000) for text in _DISK[room])))
    found += [{**_notice(one.limit, one.indonesian, one.english), "percent": one.percent} for one in limits]
    if clock == ClockState.CLOCK_STATE_WRONG:
        found.append(_notice("clock", *_CLOCK))
    if not catalogue_complete:
        found.append(_notice("catalogue", *_CATALOGUE))
    if recovery is not None and 0 <= now_ms - recovery.at_ms < RECOVERY_SHOWN_MS:
        values = {"sales": recovery.sales, "unreadable": recovery.unreadable, "kept_as": recovery.kept_as}
        found.append(_notice("store_recovered", *(text.format(**values) for text in _RECOVERY)))
    return found


def _notice(kind: str, indonesian: str, english: str) -> dict[str, Any]:
    return {"kind": kind, "message": {"id": indonesian, "en": english}}
