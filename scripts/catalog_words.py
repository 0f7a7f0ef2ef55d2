"""What the importer says, in Indonesian and English. Text only: it decides nothing and prints nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

LANGUAGES: Final = ("id", "en")

_WORDS: Final[Mapping[str, tuple[str, str]]] = {
    # The file as a whole.
    "table.empty": ("File ini kosong.", "The file is empty."),
    "table.spreadsheet": (
        "File ini buku kerja Excel, bukan CSV. Buka di Excel, pilih Simpan Sebagai, lalu pilih CSV UTF-8.",
        "This is a spreadsheet file, not a CSV. Open it, choose Save As, and pick CSV UTF-8.",
    ),
    "table.not_text": (
        "File ini bukan tabel teks. Simpan sebagai CSV UTF-8, lalu impor lagi.",
        "The file is not a text table. Save it as CSV UTF-8, then import it again.",
    ),
    "table.open_quote": (
        'Tanda kutip (") yang dibuka di baris {line} tidak pernah ditutup. Hapus atau tutup tanda itu, lalu impor lagi.',
        'The quotation mark (") that opens in line {line} is never closed. Remove or close it, then import again.',
    ),
    "table.columns": (
        "Kolom wajib tidak ditemukan: {missing}. Kolom yang ada di baris {line}: {found}. {accepted}",
        "Required columns are missing: {missing}. Found in line {line}: {found}. {accepted}",
    ),
    "table.accepted": ("Nama kolom yang diterima untuk {field}: {headers}.", "Accepted headers for {field}: {headers}."),
    "table.windows": (
        "File ini bukan UTF-8; dibaca sebagai Windows-1252. Periksa nama dengan huruf beraksen.",
        "The file is not UTF-8 and was read as Windows-1252. Check names with accented letters.",
    ),
    "table.unused": ("Kolom yang tidak dipakai: {columns}.", "Columns that are not used: {columns}."),
    "field.name": ("nama", "name"),
    "field.price": ("harga jual", "price"),
    # Numbers.
    "number.none": ('bukan angka; tulis misalnya "18000" atau "18.000"', 'not a number; write for example "18000"'),
    "number.cents": ("rupiah tidak punya sen; tulis rupiah utuh", "rupiah have no cents; write whole rupiah"),
    "number.unclear": (
        "bisa berarti ribuan atau desimal; tulis tanpa pemisah ribuan",
        "could mean thousands or decimals; write it without a thousands separator",
    ),
    "number.places": ("paling banyak tiga angka di belakang koma", "at most three decimal places"),
    "number.huge": ("terlalu besar, kemungkinan salah ketik", "too large, probably a typing error"),
    # Rows.
    "row.no_name": ("nama kosong", "the name is empty"),
    "row.no_price": ("harga jual kosong", "the price is empty"),
    "row.negative_price": ("harga jual di bawah nol", "the price is below zero"),
    "row.zero_price": ("harga jual nol", "the price is zero"),
    "row.under_cost": ("harga jual {price} di bawah harga beli {cost}", "price {price} is under cost {cost}"),
    "row.negative_cost": ("harga beli di bawah nol", "the cost is below zero"),
    "row.negative_stock": ("stok di bawah nol", "negative stock"),
    "row.too_long": ("{length} karakter, paling banyak {limit}", "{length} characters, at most {limit}"),
    "row.bad_character": ("berisi karakter yang tidak bisa dicetak", "contains a character that cannot be printed"),
    "row.line_break": (
        "isi sel berlanjut sampai baris {last_line}; mungkin ada tanda kutip yang tidak ditutup",
        "the cell runs on to line {last_line}; perhaps a quotation mark is not closed",
    ),
    "row.extra_cells": (
        "baris ini punya {cells} kolom, judulnya {columns}; mungkin ada pemisah di dalam nama, beri tanda kutip",
        "the row has {cells} cells, the header {columns}; perhaps a name contains the separator and needs quotation marks",
    ),
    "row.check_digit": (
        "bukan GTIN: angka pemeriksa {found} seharusnya {right}",
        "no GTIN: the check digit {found} should be {right}",
    ),
    "row.own_code": ("bukan GTIN: mungkin kode buatan toko", "no GTIN: perhaps a code of the store's own"),
    "row.lost_zero": (
        "bukan GTIN: nol di depan mungkin hilang, {padded} adalah GTIN yang benar",
        "no GTIN: zeros in front may be lost, {padded} is a right GTIN",
    ),
    "row.scientific": (
        "bukan GTIN: Excel mengubahnya menjadi angka ilmiah; format kolom sebagai teks dan isi lagi kodenya",
        "no GTIN: a spreadsheet turned it into scientific notation; format the column as text and enter the code again",
    ),
    "row.payment_qr": ("bukan GTIN: ini QR pembayaran", "no GTIN: this is a payment QR"),
    "row.unusable_code": (
        "bukan GTIN dan tidak bisa dipindai: paling banyak 48 huruf, angka atau tanda biasa",
        "no GTIN and nothing a scanner can deliver: at most 48 plain letters, digits or marks",
    ),
    "row.duplicate": ("ganda: sudah ada di baris {line}", "duplicate: already in line {line}"),
    "row.first": ("pembanding: baris {line} ganda dengan baris ini", "for comparison: line {line} is a duplicate of this one"),
    # What the cloud says.
    "server.failed": ("ditolak server: {message}", "refused by the server: {message}"),
    "stop.unreachable": (
        "Gateway {url} tidak bisa dihubungi ({cause}). Periksa apakah sudah berjalan dan alamatnya benar.{progress}",
        "The gateway {url} cannot be reached ({cause}). Check that it runs and that the address is right.{progress}",
    ),
    "stop.address": (
        "Alamat gateway {url} tidak benar. Tulis misalnya http://127.0.0.1:8080.",
        "The gateway address {url} is not right. Write for example http://127.0.0.1:8080.",
    ),
    "stop.key": (
        "Kunci API tidak diterima ({detail}). Periksa --api-key.{progress}",
        "The API key is not accepted ({detail}). Check --api-key.{progress}",
    ),
    "stop.permission": (
        "Kunci API ini tidak boleh mengimpor produk ({detail}). Pakai kunci dengan izin menulis produk.{progress}",
        "This API key may not import products ({detail}). Use a key that may write products.{progress}",
    ),
    "stop.outlet": (
        "Toko {outlet} tidak ada. Toko yang ada: {outlets}. Pilih dengan --outlet.",
        "There is no outlet {outlet}. Outlets: {outlets}. Choose one with --outlet.",
    ),
    "stop.no_outlet": (
        "File ini berisi stok dan ada beberapa toko: {outlets}. Pilih toko stoknya dengan --outlet.",
        "The file has stock and there are several outlets: {outlets}. Choose the outlet of the stock with --outlet.",
    ),
    "stop.later": (
        "Gateway meminta menunggu {seconds} detik ({detail}). Impor lagi setelah itu; yang sudah masuk tidak berubah.{progress}",
        "The gateway asks to wait {seconds} seconds ({detail}). Import again after that; what is in stays as it is.{progress}",
    ),
    "stop.answer": (
        "Gateway {url} menjawab {status}: {detail}{progress}",
        "The gateway {url} answered {status}: {detail}{progress}",
    ),
    "stop.strange": (
        "Jawaban dari {url} tidak seperti gateway GiPos. Periksa --gateway.{progress}",
        "The answer of {url} is not that of a GiPos gateway. Check --gateway.{progress}",
    ),
    "stop.progress": (
        " {done} dari {total} produk sudah masuk; mengimpor lagi melanjutkan tanpa menggandakan.",
        " {done} of {total} products are in; importing again carries on and doubles nothing.",
    ),
    "stop.file": ("File {path} tidak bisa dibaca: {cause}.", "The file {path} cannot be read: {cause}."),
    "stop.report": ("Laporan {path} tidak bisa ditulis: {cause}.", "The report {path} cannot be written: {cause}."),
    "stop.report_is_source": (
        "--report menunjuk file yang sedang diimpor. Pilih nama lain.",
        "--report names the file that is being imported. Choose another name.",
    ),
    "stop.state": (
        "Gateway atau kunci API belum ada dan {path} tidak terbaca. Jalankan scripts/up, atau beri --gateway dan --api-key.",
        "Gateway or API key is not given and {path} cannot be read. Run scripts/up first, or give --gateway and --api-key.",
    ),
    "stop.interrupted": (
        "Dihentikan. Yang sudah masuk tetap ada; mengimpor lagi melanjutkan tanpa menggandakan.",
        "Stopped. What is in stays in; importing again carries on and doubles nothing.",
    ),
    # The listing and the summary.
    "list.line": ("Baris {line}", "Line {line}"),
    "list.held": ("ditahan", "held back"),
    "list.accepted": ("masuk dengan bagian yang aman", "imported with its safe part"),
    "list.rejected": ("tidak bisa masuk", "cannot go in"),
    "list.failed": ("gagal", "failed"),
    "list.sending": ("Mengirim: {done} dari {total} produk", "Sending: {done} of {total} products"),
    "sum.rows": (
        "{rows} baris: {good} baik, {doubtful} meragukan, {rejected} tidak bisa masuk.",
        "{rows} rows: {good} good, {doubtful} doubtful, {rejected} cannot go in.",
    ),
    "sum.sent": (
        "Dikirim {sent}: {created} baru, {updated} diperbarui, {unchanged} tidak berubah, {failed} gagal ({seconds} detik).",
        "Sent {sent}: {created} created, {updated} updated, {unchanged} unchanged, {failed} failed ({seconds} s).",
    ),
    "sum.report": (
        "Baris yang tidak masuk ada di {path}. Perbaiki di sana, lalu impor file itu.",
        "The rows that are not in are in {path}. Correct them there, then import that file.",
    ),
    "sum.next": (
        "Perbaiki baris itu lalu impor lagi. --report FILE.csv menuliskannya ke file tersendiri.",
        "Correct those rows and import again. --report FILE.csv writes them to a file of their own.",
    ),
    "sum.accept": (
        "--accept-doubtful memasukkan baris meragukan dengan bagian yang aman.",
        "--accept-doubtful imports doubtful rows with their safe part.",
    ),
    "report.line": ("baris", "line"),
    "report.reason": ("alasan", "reason"),
}


def say(language: str, key: str, facts: Mapping[str, object] | None = None) -> str:
    """The sentence in a language of LANGUAGES, with the facts filled in.

    Raises:
        KeyError: there is no such sentence, or a fact is missing: a mistake in the program.
    """
    return _WORDS[key][LANGUAGES.index(language)].format_map({} if facts is None else facts)


def keys() -> frozenset[str]:
    """All sentences."""
    return frozenset(_WORDS)
