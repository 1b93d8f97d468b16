"""
Taking out of a text what leads back to its case, as far as a program can.

Best effort: what names parties, staff, things and amounts in the words of the case itself is found; a story that only
one case could tell is not. So moderators are asked to write reasons that could be read by anybody.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import NamedTuple

# A quotation this long is somebody's own words, which a search elsewhere would find again.
QUOTED_CHARS = 40
_BLOCK = QUOTED_CHARS // 2
_MEANINGS_A_BLOCK = 50


class Known(NamedTuple):
    """What is known of a case: each name with what stands for it, amounts in micro-USDC, and what parties wrote."""

    names: Sequence[tuple[str, str]]
    amounts_units: frozenset[int]
    texts: Iterable[str]


def anonymised(text: str, known: Known) -> str:
    """Write a text anew without quotations, names, identifiers, addresses, links and amounts of its case."""
    text = "".join(c for c in unicodedata.normalize("NFC", text) if unicodedata.category(c) != "Cf")
    text = _without_quotes(text, known.texts)
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    for name, instead in sorted(known.names, key=lambda pair: -len(pair[0])):
        if named := _pattern_of(name):
            text = named.sub(instead, text)
    return _without_amounts(text, known.amounts_units)


def words_of(text: str) -> set[str]:
    """List the words that could be handles."""
    return set(re.findall(r"[a-z0-9][a-z0-9-]{2,38}", text.lower()))


# --- what looks like an identifier wherever it stands; the longer ones first ------------------------------------------
_PATTERNS = tuple(
    (re.compile(pattern, re.IGNORECASE), instead)
    for pattern, instead in (
        (r"\b[a-z][a-z0-9+.-]{1,20}://[^\s<>\"]+|\bwww\.[^\s<>\"]+", "[link]"),
        (r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+", "[e-mail]"),
        (r"\b(?:[a-z0-9-]{1,63}\.)+[a-z]{2,}(?::\d+)?/[^\s<>\"]*", "[link]"),
        (r"\b(?:[a-z0-9-]{1,63}\.)+(?:com|org|net|io|ai|app|dev|xyz|eth|co|me|info|example|onion)\b", "[link]"),
        (r"\b[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}\b", "[id]"),
        (r"\b(?:sha256:)?(?:0x)?[0-9a-f]{64}\b", "[hash]"),
        (r"\b0x[0-9a-f]{6,}(?:…|\.\.\.)?[0-9a-f]*", "[address]"),
        (r"\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{12,}\b", "[hash]"),
        (r"\b(?=\w*\d)(?=\w*[a-z])\w{24,}\b", "[id]"),
        (r"\b(?:\d{1,3}\.){3}\d{1,3}\b", "[address]"),
        (r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?)?(?:Z|\s?UTC|[+-]\d\d:\d\d)?", "[date]"),
        (r"(?<![\w@])@[a-z0-9][a-z0-9_-]{2,38}\b", "[agent]"),
    )
)


# --- names ------------------------------------------------------------------------------------------------------------
_ROLES = {"client", "seller", "moderator", "agent", "the"}


def _pattern_of(name: str) -> re.Pattern[str] | None:
    """Find a name however its parts are joined and cased; roles, and letters that stand in every text, are no names."""
    parts = [re.escape(part) for part in re.split(r"[\s_-]+", unicodedata.normalize("NFC", name).strip()) if part]
    bare = "".join(parts)
    if not parts or name.strip().lower() in _ROLES or len(bare) < (3 if bare.isascii() else 2):
        return None
    before, after = (r"(?<!\w)" if name[:1].isascii() else ""), (r"(?!\w)" if name[-1:].isascii() else "")
    return re.compile(before + r"@?" + r"[\s_-]*".join(parts) + after, re.IGNORECASE)


# --- amounts ----------------------------------------------------------------------------------------------------------
_NUMBER = re.compile(
    r"(?<![\w.,])(?P<money>(?:USDC?|US\$|\$|€)\s?)?"
    r"(?P<number>\d{1,3}(?:[,_'’\u00a0\u202f ]\d{3})+(?:\.\d+)?|\d+(?:[.,]\d+)?)"
    r"(?P<unit>\s?(?:USDC?|dollars?|micro-USDC)\b)?(?!\w|\s?%|\.\d)",
    re.IGNORECASE,
)
_IN_GROUPS = re.compile(r"\d{1,3}(?:[^\d.]\d{3})+(?:\.\d+)?")


def _without_amounts(text: str, amounts_units: frozenset[int]) -> str:
    """Take out whatever is written as money, and bare numbers that are one of the case's amounts."""

    def written(found: re.Match[str]) -> str:
        number = found["number"]
        digits = re.sub(r"[^\d.]", "", number) if _IN_GROUPS.fullmatch(number) else number.replace(",", ".")
        known = Decimal(digits) in amounts_units or Decimal(digits) * 1_000_000 in amounts_units
        return "[amount]" if known or found["money"] or found["unit"] else found[0]

    return _NUMBER.sub(written, text)


# --- quotations -------------------------------------------------------------------------------------------------------
def _without_quotes(text: str, sources: Iterable[str]) -> str:
    """Take out every stretch of 40 characters or more that a party wrote, however it was wrapped or cased."""
    plain, origin = _plain(text)
    if len(plain) < QUOTED_CHARS:
        return text
    where: dict[str, list[int]] = {}
    for start in range(len(plain) - _BLOCK + 1):
        places = where.setdefault(plain[start : start + _BLOCK], [])
        if len(places) < _MEANINGS_A_BLOCK:
            places.append(start)
    quoted = bytearray(len(plain))
    for source in sources:
        _mark(quoted, plain, " ".join(source.translate(_QUOTES).lower().split()), where)
    return _replaced(text, origin, quoted)


def _mark(quoted: bytearray, plain: str, source: str, where: dict[str, list[int]]) -> None:
    """Mark what the source has too. Every quotation holds a block of the source that begins at a multiple of 20."""
    for at in range(0, len(source) - _BLOCK + 1, _BLOCK):
        for place in where.get(source[at : at + _BLOCK], ()):
            if all(quoted[place : place + _BLOCK]):
                continue
            left, right = 0, _BLOCK
            while left < min(place, at) and plain[place - left - 1] == source[at - left - 1]:
                left += 1
            while (
                place + right < len(plain) and at + right < len(source) and plain[place + right] == source[at + right]
            ):
                right += 1
            if left + right >= QUOTED_CHARS:
                quoted[place - left : place + right] = b"\1" * (left + right)


_QUOTES = str.maketrans("‘’‚“”„«»`", '\'\'\'"""""\'')


def _plain(text: str) -> tuple[str, list[int]]:
    """Bring a text to what two copies of it share, with the place each character came from."""
    characters: list[str] = []
    origin: list[int] = []
    for place, character in enumerate(text.translate(_QUOTES)):
        if character.isspace():
            if characters and characters[-1] == " ":
                continue
            character = " "
        small = character.lower()
        characters.append(small if len(small) == 1 else character)
        origin.append(place)
    return "".join(characters), origin


def _replaced(text: str, origin: list[int], quoted: bytearray) -> str:
    parts: list[str] = []
    last = 0
    for run in re.finditer(b"\x01+", bytes(quoted)):
        first, end = origin[run.start()], origin[run.end() - 1] + 1
        first += len(text[first:end]) - len(text[first:end].lstrip())
        end -= len(text[first:end]) - len(text[first:end].rstrip())
        parts += [text[last:first], "[quotation]"]
        last = end
    return "".join([*parts, text[last:]])
