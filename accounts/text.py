"""Text that one party writes and another person reads."""

import unicodedata

# Cc: controls; Cf: zero-width and bidi overrides; Cs, Co, Cn: surrogates, private use, unassigned; Zl, Zp: separators.
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_PLAIN = {"\n", "\t"}


def visible(text: str) -> str:
    """Write hidden characters as `\\u{202E}`, so that what is read is what is stored."""
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    if character in _PLAIN or unicodedata.category(character) not in _HIDDEN:
        return character
    return f"\\u{{{ord(character):04X}}}"
