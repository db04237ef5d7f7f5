"""Names of strangers as they are shown."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from fallow.spelling import one_line, spelled

DIRECTIONS = ("LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI")


@given(st.text())
def test_nothing_is_left_that_a_terminal_obeys(text):
    for letter in one_line(text):
        assert unicodedata.category(letter) not in ("Cc", "Cs", "Zl", "Zp")
        assert unicodedata.bidirectional(letter) not in DIRECTIONS
    assert one_line(one_line(text)) == one_line(text)
    assert one_line(text.replace("\n", "").replace("\t", "")) == spelled(text).replace("\n", "").replace(
        "\t", ""
    )


def test_what_people_write_stays():
    text = "Löwe, 日本語, क्षि, שלום, café, 👩‍👩‍👧, a b"
    assert one_line(text) == spelled(text) == text


def test_every_control_is_spelled_by_its_number():
    for code in (*range(32), *range(127, 160), 0x61C, 0x200E, 0x202E, 0x2028, 0x2066, 0xFEFF, 0xDC80):
        assert one_line(f"a{chr(code)}b") == f"a\\u{code:04x}b"
    assert one_line("\U000e0041") == "\\U000e0041"
