"""
What a file is, by its first bytes. Nothing is opened, and neither its name nor what the sender calls it is believed.

Whatever a browser would run (SVG, HTML) is refused, and so is a name that says something else than the bytes do.
"""

from typing import Any, NamedTuple

from django.conf import settings

from accounts.edge import parsing
from accounts.errors import DomainError, Invalid


class UnsupportedFile(DomainError):
    status = 415
    code = "unsupported_file"
    title = "Evidence is text, JSON, PDF, PNG, JPEG or ZIP"


class FileType(NamedTuple):
    content_type: str
    extension: str


TEXT = FileType("text/plain; charset=utf-8", "txt")
JSON = FileType("application/json", "json")
PDF = FileType("application/pdf", "pdf")
PNG = FileType("image/png", "png")
JPEG = FileType("image/jpeg", "jpg")
ZIP = FileType("application/zip", "zip")
_ALL = (TEXT, JSON, PDF, PNG, JPEG, ZIP)
PICTURES = (PNG.content_type, JPEG.content_type)
PICTURE_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")

_MAGIC = (
    (b"%PDF-", PDF),
    (PICTURE_MAGIC[0], PNG),
    (PICTURE_MAGIC[1], JPEG),
    (b"PK\x03\x04", ZIP),
    (b"PK\x05\x06", ZIP),  # one without entries
)
# Names that promise one type; documents of offices are ZIP files under names of their own.
_PROMISED = {
    "pdf": PDF, "png": PNG, "jpg": JPEG, "jpeg": JPEG, "jpe": JPEG, "zip": ZIP,
    "docx": ZIP, "xlsx": ZIP, "pptx": ZIP, "odt": ZIP, "ods": ZIP, "odp": ZIP, "epub": ZIP,
}  # fmt: skip
_REFUSED_NAMES = {
    "svg", "svgz", "html", "htm", "shtml", "xhtml", "xht", "mht", "mhtml", "hta", "xml", "xsl", "xslt",
    "gif", "webp", "avif", "bmp", "ico", "tif", "tiff", "exe", "dll", "com", "scr", "msi", "lnk", "jar", "swf",
}  # fmt: skip
# Under these names markup is what it is shown as: plain text.
_PLAIN_NAMES = {"txt", "log", "md", "csv", "json"}
_MARKUP = ("<!doctype", "<html", "<svg", "<?xml", "<head", "<body", "<script", "<iframe", "<!--")
_OTHERS = (b"GIF87a", b"GIF89a")


def extension_of(content_type: str) -> str:
    """Name the extension under which an item of evidence is handed out."""
    return next((kind.extension for kind in _ALL if kind.content_type == content_type), "bin")


def name_of(item: Any) -> str:
    """Name an item of evidence as it is handed out: the name its party gave it goes to no disk."""
    return f"evidence-{item.number}.{extension_of(item.content_type)}"


def of(content: bytes, *, filename: str) -> FileType:
    """
    Tell what a file is: one of the six types.

    :raises UnsupportedFile: for any other, for markup that is not named as plain text, and for a name that lies
    """
    extension = filename.rpartition(".")[2].strip().lower() if "." in filename else ""
    found = next((kind for magic, kind in _MAGIC if content.startswith(magic)), None) or _text(content, extension)
    promised = _PROMISED.get(extension, found)
    if extension in _REFUSED_NAMES or promised != found:
        raise UnsupportedFile("The name of this file says something else than its bytes.")
    return found


def _text(content: bytes, extension: str) -> FileType:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise UnsupportedFile from None
    if "\x00" in text or content.startswith(_OTHERS):
        raise UnsupportedFile
    begins = text.lstrip("\ufeff \t\r\n\f\v")[:20].lower()
    if begins.startswith(_MARKUP) and extension not in _PLAIN_NAMES:
        raise UnsupportedFile("Markup is taken as plain text only: name it .txt.")
    return JSON if _is_json(content) else TEXT


def _is_json(content: bytes) -> bool:
    """Say so for what the API itself would read; anything larger or deeper is only text."""
    if len(content) > settings.MAX_BODY_BYTES:
        return False
    try:
        return isinstance(parsing.loads(content), dict | list)
    except Invalid:
        return False
