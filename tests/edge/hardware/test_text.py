"""Text for printers: characters they have, and columns in which no digit is lost."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.hardware.printers.columns import field, pair, wrap
from edge.hardware.printers.texts import LOCALES, texts
from edge.hardware.printers.transliteration import transliterate
from kernel.money import format_digits

AMOUNTS = st.integers(min_value=-(10**16), max_value=10**16)


@pytest.mark.parametrize(
    ("given_text", "printed", "lost"),
    [
        ("Kopi Susu", "Kopi Susu", ""),
        ("Café crème", "Cafe creme", ""),
        ("\u201cPremium\u201d \u2013 Lampung\u2019s", '"Premium" - Lampung\'s', ""),
        ("5 € • 10", "5 EUR * 10", ""),
        ("½ kg … ™", "1/2 kg ... TM", ""),
        ("A\u00a0B\u200bC\ufeffD", "A BCD", ""),
        ("\uff26\uff35\uff2c\uff2c", "FULL", ""),
        ("Kopi \U0001f600!", "Kopi ?!", "\U0001f600"),
        ("咖啡", "??", "咖啡"),
        ("a\x1b@\x1dV\x00b", "a @ V b", ""),
        ("two\nlines", "two\nlines", ""),
        ("\ud800", "?", "\ud800"),
    ],
)
def test_text_becomes_what_a_printer_has(given_text: str, printed: str, lost: str) -> None:
    assert transliterate(given_text) == (printed, frozenset(lost))


@given(st.text())
def test_whatever_the_text_no_command_can_hide_in_it(text: str) -> None:
    for page in ("ascii", "cp437"):
        printed, _ = transliterate(text, page)
        assert all(byte >= 0x20 and byte != 0x7F for byte in printed.replace("\n", "").encode(page))
        assert transliterate(printed, page) == (printed, frozenset())


@given(st.text(alphabet=string.ascii_letters + "   ", max_size=200), st.integers(4, 48))
def test_wrapped_lines_fit_and_keep_every_letter(text: str, width: int) -> None:
    lines = wrap(text, width)
    assert lines
    assert all(len(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


@given(
    st.text(alphabet=string.ascii_letters + "  .", max_size=120), AMOUNTS, st.sampled_from([32, 48]), st.sampled_from(["", "  "])
)
def test_an_amount_stays_whole_at_the_right_edge(label: str, amount: int, width: int, indent: str) -> None:
    digits = format_digits(amount)
    lines = pair(label, digits, width, indent)
    assert all(len(line) <= width for line in lines)
    assert lines[-1].endswith(digits)
    assert len(lines[-1]) == width
    assert "".join(lines).replace(" ", "") == label.replace(" ", "") + digits


@given(st.text(alphabet=string.digits + " ", max_size=90), st.sampled_from([32, 48]))
def test_a_long_value_wraps_beside_its_label(value: str, width: int) -> None:
    lines = field("Kasir", value, width, 7)
    assert all(len(line) <= width for line in lines)
    assert "".join(line[7:] for line in lines).replace(" ", "") == value.replace(" ", "")


def test_every_language_has_every_text_with_the_same_placeholders() -> None:
    def placeholders(text: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    default, *others = (texts(locale) for locale in LOCALES)
    assert all(len(each["receipt.months"].split()) == 12 for each in (default, *others))
    for other in others:
        assert other.keys() == default.keys()
        assert {key: placeholders(text) for key, text in other.items()} == {
            key: placeholders(text) for key, text in default.items()
        }
