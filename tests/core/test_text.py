"""Text from files: whatever a terminal could act on is escaped, and long lists end with a count."""

import unicodedata

import pytest

from gaussjax.core import text

HOSTILE = {
    "colour": "\x1b[31m",
    "title": "\x1b]0;owned\x07",
    "link": "\x1b]8;;http://x\x1b\\",
    "clipboard": "\x1b]52;c;AAAA\x07",
    "C1": "\x9b31m\x9d0;t\x9c",
    "carriage return": "good\rbad",
    "line": "a\nb\u2028c\u2029d\x85e",
    "backspace": "a\b\x7f",
    "bidi": "\u202e\u2066\u200f\u061c",
    "invisible": "\u200b\ufeff\u00ad\U000e0041",
    "surrogate": "\ud800\udcff",
    "unassigned": "\U0003fffe\ue000",
}


@pytest.mark.parametrize("hostile", HOSTILE)
def test_control_characters_are_escaped_and_letters_are_not(hostile):
    shown = text.printable(f"é機 {HOSTILE[hostile]} x")
    assert shown.startswith("é機 ")
    assert {unicodedata.category(character)[0] for character in shown} <= {*"LNPSZM"}
    assert shown.endswith(" x")
    # An error about a file is one line, whatever the file holds.
    assert str(text.FileError(HOSTILE[hostile])) == text.printable(HOSTILE[hostile])


def test_long_texts_end_with_a_count():
    assert text.listed(map(str, range(500)), "; ").endswith("19 and 480 more")
    assert text.quoted(list(range(500))).endswith("18, 19 and 480 more]")
    assert text.quoted((1,) * 500).endswith("1, 1 and 480 more)")
    assert (text.quoted((1,)), text.quoted([]), text.quoted({"b": 1})) == ("(1,)", "[]", "{'b': 1}")
    assert text.quoted("a" * 10**6).startswith("'aaa")
    assert len(text.quoted({i: [[["a" * 1000] * 100] * 100] * 100 for i in range(100)})) < 400
    assert len(text.quoted(10**5000)) < 400
    assert len(str(text.FileError("a" * 10**6))) < 6000
    loop: list = []
    loop.append(loop)
    assert len(text.quoted(loop)) < 400
