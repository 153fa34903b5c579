"""Names of domains, sets, tasks and runs as text: seen by people, obeyed by nothing."""

from __future__ import annotations

import unicodedata

JOINERS = "\u200c\u200d"  # hold letters and emoji together, and do nothing else


def plain(text: object) -> str:
    r"""Text with every character that a terminal would obey written out: control, escape, bidirectional, line ends, half pairs.

    >>> plain("a\x1b[31mb\u202ec\n")
    'a\\x1b[31mb\\u202ec\\n'
    >>> plain("caf\xe9 [/b] $x^$")
    'caf\xe9 [/b] $x^$'
    """
    raw = str(text)
    if raw.isascii() and raw.isprintable():
        return raw
    return "".join(_written(c) if is_obeyed(c) else c for c in raw)


def is_obeyed(character: str) -> bool:
    """Whether a character acts on what shows it in place of being seen."""
    if (ord(character) & 0xFFFE) == 0xFFFE:  # no characters at all, and not allowed in a page
        return True
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in JOINERS


def _written(character: str) -> str:
    short = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
    code = ord(character)
    return short.get(character) or (
        f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
    )
