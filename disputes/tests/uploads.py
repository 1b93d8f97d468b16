"""Files over HTTP, under names as raw as a hostile program would write them."""

from typing import Any

from django.http import HttpResponse

TYPE = "multipart/form-data; boundary=limit"


def upload(
    party: Any, case_id: str, *files: tuple[str, bytes], field: str = "file", query: str = "", key: str | None = None
) -> HttpResponse:
    """Send files as a form does."""
    headers = {"Authorization": f"Bearer {party.secret}"} | ({"Idempotency-Key": key} if key else {})
    path = f"/v1/disputes/{case_id}/evidence{query}"
    return party.http.post(path, form(*files, field=field), content_type=TYPE, headers=headers)


def form(*files: tuple[str, bytes], field: str = "file") -> bytes:
    """Write a multipart body; every file claims to be HTML."""
    named = b'--limit\r\nContent-Disposition: form-data; name="%s"; filename="%s"\r\nContent-Type: text/html\r\n\r\n'
    parts = [named % (field.encode(), name.encode()) + content + b"\r\n" for name, content in files]
    return b"".join(parts) + b"--limit--\r\n"
