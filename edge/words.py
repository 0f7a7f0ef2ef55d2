"""What people read who pair a tablet or sell with it: Bahasa Indonesia first, then English. Nothing else is decided here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Said:
    """A sentence in both languages."""

    indonesian: str
    english: str

    @property
    def text(self) -> str:
        """Both in a line."""
        return f"{self.indonesian} / {self.english}" if self.indonesian else ""

    def filled(self, **values: object) -> Said:
        """With values in the places of their names."""
        return Said(self.indonesian.format(**values), self.english.format(**values))


NOTHING: Final = Said("", "")

# The line at the top of the till: the state, and how much waits.
STATES: Final = {
    "connecting": Said("Menyambungkan… \u2013 tetap bisa jualan", "Connecting… \u2013 you can keep selling"),
    "online": Said("Online", "Online"),
    "offline": Said("Offline \u2013 tetap bisa jualan", "Offline \u2013 you can keep selling"),
    "switched_off": Said(
        "Offline dipilih di tablet ini \u2013 tetap bisa jualan", "Offline was chosen on this tablet \u2013 you can keep selling"
    ),
}
UNSENT: Final = Said("Belum terkirim {count}", "{count} not sent")
ALL_SENT: Final = Said("Semua terkirim", "All sent")

# Why the link is not as it should be.
UNREACHABLE: Final = Said(
    "Server GiPos tidak bisa dihubungi. Periksa Wi-Fi atau internet toko; penjualan tersimpan di tablet.",
    "The GiPos cloud cannot be reached. Check the Wi-Fi or the shop's internet; sales are kept on the tablet.",
)
INTERRUPTED: Final = Said(
    "Sambungan terputus. Tablet menyambung lagi sendiri; penjualan tersimpan di tablet.",
    "The connection was interrupted. The tablet connects again by itself; sales are kept on it.",
)
SILENT: Final = Said(
    "Server GiPos tidak terdengar lagi. Tablet menyambung lagi sendiri; penjualan tersimpan di tablet.",
    "Nothing was heard from the GiPos cloud. The tablet connects again by itself; sales are kept on it.",
)
RESTARTING: Final = Said(
    "Server GiPos sedang dimulai ulang atau penuh. Tablet menyambung lagi sebentar lagi.",
    "The GiPos cloud restarts or is full. The tablet connects again in a moment.",
)
UNKNOWN_TILL: Final = Said(
    "Server GiPos tidak mengenal kasir ini. Penjualan tetap tersimpan; pasangkan tablet lagi dengan kode pemasangan"
    " (atau perbaiki GIPOS_EDGE_TOKEN).",
    "The GiPos cloud does not know this till's certificate or device token. Sales are kept; pair the tablet again with a"
    " pairing code (or correct GIPOS_EDGE_TOKEN).",
)
LOCKED_OUT: Final = Said(
    "Kasir ini dikunci oleh pemilik. Penjualan yang belum terkirim tetap aman di tablet ini; hubungi pemilik.",
    "This till was locked out by its owner. Sales that were not sent are safe on this tablet; call the owner.",
)
REPLACED: Final = Said(
    "Kasir ini sudah dipasang di tablet lain. Penjualan yang belum terkirim tetap aman di tablet ini; hubungi pemilik.",
    "Another tablet was paired in place of this one. Sales that were not sent are safe on this tablet; call the owner.",
)
TWO_TABLETS: Final = Said(
    "Tablet lain sedang memakai kasir ini. Satu kasir hanya untuk satu tablet; penjualan tersimpan, hubungi pemilik.",
    "Another tablet is using this till. One till is for one tablet; sales are kept, call the owner.",
)
NOT_LET_IN: Final = Said(
    "Server GiPos menolak kasir ini. Penjualan tersimpan di tablet; hubungi pemilik. ({details})",
    "The GiPos cloud does not let this till in. Sales are kept on the tablet; call the owner. ({details})",
)
CHANGED: Final = Said(
    "Pengaturan kasir ini baru diubah. Tablet menyambung lagi sendiri.",
    "Something about this till was just changed. The tablet connects again by itself.",
)
SUSPENDED: Final = Said(
    "Kasir ini dihentikan sementara oleh pemilik: penjualan disimpan di sini dan baru dikirim setelah diaktifkan lagi.",
    "The owner has suspended this till: its sales are kept here and are not uploaded until it is active again.",
)
RETIRED: Final = Said(
    "Kasir ini dipensiunkan oleh pemilik: yang ada masih dikirim, tetapi harga dan stok tidak diperbarui lagi.",
    "The owner has retired this till: it uploads what it has and is told no changes any more.",
)
OTHER_TILL: Final = Said(
    "Folder data ini milik kasir {mine}, tetapi token perangkat untuk kasir {theirs}. Pakai token yang benar, atau folder data"
    " lain.",
    "This data folder belongs to till {mine}, but the device token is for till {theirs}. Use the right token, or another"
    " data folder.",
)
RENUMBERED: Final = Said(
    "Tablet lain pernah memakai nama kasir ini. Penjualan diberi nomor kirim baru dan dikirim lagi; tidak ada yang hilang.",
    "Another tablet has lived under this till's name. Sales are numbered anew for sending and sent again; nothing is lost.",
)
HOLE: Final = Said(
    "Daftar penjualan di tablet ini berlubang: penjualan tersimpan tetapi tidak bisa dikirim. Hubungi bantuan GiPos.",
    "The till's list of sales has a hole; sales are kept but cannot be uploaded. Call support.",
)
FORGOTTEN: Final = Said(
    "Server GiPos kehilangan catatan lama. Semua penjualan yang masih ada di tablet diberi nomor kirim baru dan dikirim lagi.",
    "The GiPos cloud has lost records of long ago. All sales this till still has are numbered anew for sending and sent again.",
)
ODD_NUMBERS: Final = Said(
    "Server GiPos menyebut nomor kiriman yang tidak mungkin, jadi tablet tidak mengikutinya. Penjualan tersimpan di tablet; kalau"
    " berulang, hubungi bantuan GiPos.",
    "The GiPos cloud names numbers of sent sales that cannot be, so the tablet does not follow it. Sales are kept on the tablet;"
    " if it happens again, call support.",
)
IDENTITY_UNUSABLE: Final = Said(
    "Identitas kasir di tablet ini rusak, jadi tablet tidak bisa menyambung ke server GiPos. Tetap bisa jualan; penjualan"
    " tersimpan di tablet. Minta pemilik membuat kode pemasangan baru, lalu pasangkan tablet lagi.",
    "The till's identity on this tablet is damaged, so it cannot connect to the GiPos cloud. You can keep selling; sales are kept"
    " on the tablet. Ask the owner for a new pairing code, then pair the tablet again.",
)
NOT_STORED: Final = Said(
    "Server GiPos menerima penjualan tetapi tidak menyimpannya. Tablet menyambung lagi sendiri; penjualan tersimpan di tablet.",
    "The GiPos cloud takes sales and does not store them. The tablet connects again by itself; sales are kept on it.",
)
DISK_FULL: Final = Said(
    "Penyimpanan tablet penuh, jadi harga dan stok tidak bisa diperbarui. Hapus foto atau aplikasi yang tidak dipakai.",
    "The tablet's disk is full, so prices and stock cannot be updated. Delete photos or apps nobody uses.",
)
DAMAGED: Final = Said(
    "Berkas kasir di tablet ini rusak dan sedang dipulihkan. Tunggu sebentar.",
    "A file of this till is damaged and is being restored. Wait a moment.",
)
FAULT: Final = Said(
    "Program kasir bermasalah saat mengirim; penjualan tersimpan. Kalau berulang, hubungi bantuan GiPos.",
    "The till's program had a fault while sending; sales are kept. If it happens again, call support.",
)

PAIRED: Final = (
    "Tablet ini sekarang {till} di {outlet} ({tenant}). Jalankan: python -m edge --data {data}\n"
    "This tablet is {till} at {outlet} ({tenant}) now. Start it with: python -m edge --data {data}"
)
FINGERPRINT: Final = (
    "Sidik jari cloud: {print}. Samakan dengan yang ditampilkan di tempat kode dibuat, atau pakai kode QR.\n"
    "Fingerprint of the cloud: {print}. Compare it with what is shown where the code was made, or use the QR code."
)
CLOCK: Final = (
    "Jam tablet ini salah: di sini {ours}, sebenarnya {theirs}. Pemasangan tetap jalan; perbaiki jam tablet.\n"
    "This tablet's clock is wrong: it says {ours}, it is {theirs}. Pairing goes on; set the clock."
)
NO_NETWORK: Final = (
    "{address} tidak bisa dihubungi ({reason}). Periksa internet dan alamatnya, lalu coba lagi dengan kode yang sama.\n"
    "{address} cannot be reached ({reason}). Check the internet and the address, then try again with the same code."
)
NO_TLS: Final = (
    "Di {address} tidak ada sambungan aman (TLS), jadi kode tidak dikirim. Periksa alamat dan portnya.\n"
    "There is no secure connection (TLS) at {address}, so the code was not sent. Check the address and its port."
)
NO_DOOR: Final = (
    "Yang menjawab di {address} bukan pintu pemasangan kasir. Pakai port pemasangan (biasanya 8083), lalu coba lagi dengan kode"
    " yang sama.\n"
    "What answers at {address} is not the door where tablets pair. Use its port (8083 as a rule), then try again with the same"
    " code."
)
ALREADY: Final = (
    "Tablet ini sudah menjadi {till} di {outlet} ({tenant}). Jalankan: python -m edge --data {data}\n"
    "Untuk memasangkannya lagi dengan kode baru, tambahkan --again; penjualan di tablet tetap ada.\n"
    "This tablet is {till} at {outlet} ({tenant}) already. Start it with: python -m edge --data {data}\n"
    "To pair it again with a new code, add --again; the sales on it stay."
)
NO_CODE: Final = "Kode pemasangan belum ada. Tambahkan --code.\nThere is no pairing code. Add --code."
STOPPED: Final = "Dihentikan. Perintah yang sama bisa diulang.\nStopped. The same command can be repeated."
OTHER_CLOUD: Final = (
    "Yang menjawab di {address} bukan cloud yang dimaksud, jadi kode tidak dikirim. Periksa alamatnya, atau buat kode QR baru.\n"
    "What answers at {address} is not the cloud that was meant, so the code was not sent. Check the address, or make a new code."
)
CERTIFICATE_TIME: Final = (
    "Sertifikat {address} tidak cocok dengan jam tablet ini ({ours}). Perbaiki tanggal dan jam tablet, lalu coba lagi.\n"
    "The certificate of {address} does not fit this tablet's clock ({ours}). Set the tablet's date and time, then try again."
)
NO_LINK: Final = (
    "Cloud ini belum membuka sambungan aman untuk kasir. Jalankan cloud dengan --link-port.\n"
    "This cloud has no secure door for tills. Start it with --link-port."
)
REFUSED: Final = "Cloud menolak pemasangan.\nThe cloud refuses to pair this tablet:"
REASONS: Final = {
    "PAIRING_CODE_WRONG": "Kode pemasangan salah, sudah dipakai tablet lain, atau lewat sepuluh menit. Periksa ketikannya; kalau"
    " sudah benar, minta pemilik membuat kode baru.\n"
    "The pairing code is wrong, was used by another tablet, or is older than ten minutes. Check what was typed; if it is right,"
    " ask the owner for a new code.",
    "PAIRING_CODE_OTHER_TILL": "Tablet ini pernah menjadi kasir {till_id} dan mungkin masih menyimpan penjualannya. Buat kode"
    " yang menggantikan kasir itu, atau pasangkan dengan folder data yang kosong (--data).\n"
    "This tablet has been the till {till_id} and may still hold its sales. Make a code that replaces that till, or pair with an"
    " empty data folder (--data).",
    "RATE_LIMITED": "Terlalu banyak kode yang salah. Tunggu {seconds} detik, lalu coba lagi.\n"
    "There were too many wrong codes. Wait {seconds} s, then try again.",
    "BUSY": "Cloud sedang sibuk. Coba lagi dengan kode yang sama.\nThe cloud is busy. Try again with the same code.",
    "DATABASE_UNAVAILABLE": "Cloud sedang terganggu. Coba lagi sebentar lagi dengan kode yang sama.\n"
    "The cloud is in trouble. Try again in a moment with the same code.",
}
