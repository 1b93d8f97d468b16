"""Reading bodies: bounded while they are read, strict about what JSON leaves open."""

import html
import json
import re
from typing import IO, Any

from django.conf import settings
from django.http.multipartparser import MultiPartParser, MultiPartParserError
from rest_framework import parsers

from accounts import text as texts
from accounts.errors import DomainError, Invalid


class BodyTooLarge(DomainError):
    status = 413
    code = "body_too_large"
    title = "The body is too large"


class StrictJson(parsers.BaseParser):
    """JSON without duplicate keys, NaN, hidden depth, or text that a database cannot hold."""

    media_type = "application/json"

    def parse(self, stream: IO[bytes], media_type: str | None = None, parser_context: Any = None) -> Any:
        return loads(_read(stream, settings.MAX_BODY_BYTES))


class BoundedMultipart(parsers.MultiPartParser):
    """Multipart with a file, no larger than a delivery may be."""

    reader = MultiPartParser

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        length = int(stream.META.get("CONTENT_LENGTH") or 0)
        if length > settings.MAX_FILE_BYTES + settings.MAX_BODY_BYTES:
            raise BodyTooLarge(f"At most {settings.MAX_FILE_BYTES} bytes.", limit=settings.MAX_FILE_BYTES)
        request = (parser_context or {})["request"]
        meta = request.META | {"CONTENT_TYPE": media_type}
        try:
            return parsers.DataAndFiles(*self.reader(meta, stream, request.upload_handlers, "utf-8").parse())
        except MultiPartParserError as error:
            raise Invalid.at("", "not_multipart", f"The body is not multipart/form-data: {error}.") from None


class _NamesAsSent(MultiPartParser):
    def sanitize_file_name(self, file_name: str) -> str | None:
        name = texts.visible(html.unescape(file_name).replace("\\", "/").rpartition("/")[2])
        return None if name in ("", ".", "..") else name


class MultipartWithNames(BoundedMultipart):
    """The same, but hidden characters in the name of a file are made visible, where Django drops them."""

    reader = _NamesAsSent


def loads(raw: bytes) -> Any:
    """
    Parse JSON strictly.

    :raises Invalid: for anything but one JSON value of at most `MAX_JSON_DEPTH` levels
    """
    try:
        text = raw.decode("utf-8")
        _refuse_depth(text)
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise Invalid.at("", "not_utf8", "The body is not UTF-8.") from None
    except json.JSONDecodeError as error:
        raise Invalid.at("", "not_json", f"The body is not JSON: {error.msg} at character {error.pos}.") from None
    except ValueError as error:  # an integer of thousands of digits
        raise Invalid.at("", "not_json", f"The body is not JSON: {error}.") from None
    _inspect(value)
    return value


def _read(stream: IO[bytes], limit: int) -> bytes:
    raw = stream.read(limit + 1)
    if len(raw) > limit:
        raise BodyTooLarge(f"At most {limit} bytes.", limit=limit)
    return raw


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Invalid.at("", "duplicate_key", "An object names a key twice.")
    return found


def _refuse_constant(name: str) -> None:
    raise Invalid.at("", "not_json", f"{name} is not JSON.")


# A string, which may hold brackets and may have no end, or a bracket.
_MARKS = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)


def _refuse_depth(text: str) -> None:
    """Count levels before the parser does: it recurses in C, where a raised recursion limit lets the stack overflow."""
    if text.count("[") + text.count("{") <= settings.MAX_JSON_DEPTH:
        return
    depth = 0
    for mark in _MARKS.finditer(text):
        depth += (mark[0] in "[{") - (mark[0] in "]}")
        if depth > settings.MAX_JSON_DEPTH:
            raise Invalid.at("", "too_deep", f"At most {settings.MAX_JSON_DEPTH} levels of nesting.")


def _inspect(value: Any) -> None:
    """Walk the value level by level, so that its depth costs no recursion."""
    level, depth = [value], 1
    while level:
        if depth > settings.MAX_JSON_DEPTH:
            raise Invalid.at("", "too_deep", f"At most {settings.MAX_JSON_DEPTH} levels of nesting.")
        below: list[Any] = []
        for item in level:
            if isinstance(item, str):
                _refuse_unstorable(item)
            elif isinstance(item, dict):
                for key in item:
                    _refuse_unstorable(key)
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
            elif isinstance(item, float) and item in (float("inf"), float("-inf")):
                raise Invalid.at("", "not_json", "A number is too large.")
        level, depth = below, depth + 1 if any(isinstance(item, dict | list) for item in below) else depth


def _refuse_unstorable(text: str) -> None:
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise Invalid.at("", "invalid_text", "Text may hold neither NUL nor half a surrogate pair.")
