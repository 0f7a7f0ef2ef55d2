"""What a person who pairs a tablet reads: Bahasa Indonesia first, English in the second line."""

from __future__ import annotations

from typing import Final

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
    "PAIRING_CODE_WRONG": "Kode pemasangan salah. Periksa ketikannya, atau buat kode baru.\n"
    "The pairing code is wrong. Check what was typed, or make a new code.",
    "PAIRING_CODE_EXPIRED": "Kode pemasangan sudah lewat sepuluh menit. Buat kode baru.\n"
    "The pairing code is older than ten minutes. Make a new code.",
    "PAIRING_CODE_USED": "Kode pemasangan sudah dipakai tablet lain. Buat kode baru.\n"
    "The pairing code was used by another tablet. Make a new code.",
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
