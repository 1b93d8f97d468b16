"""
How files of strangers leave the house: saved, never opened by a browser.

No name or type of the sender's is in a header.
"""

from typing import Any

from django.http import FileResponse, HttpResponse

from disputes import packs
from disputes.models import Dispute

# What is shown by itself runs nothing, loads nothing and is framed by nobody.
_POLICY = "default-src 'none'; sandbox; frame-ancestors 'none'"


def attachment(content: bytes, name: str) -> HttpResponse:
    """Hand out bytes to be saved under a name of ours."""
    answer = HttpResponse(content, content_type="application/octet-stream")
    answer["Content-Disposition"] = f'attachment; filename="{name}"'
    return harmless(answer)


def pack(dispute: Dispute, *, for_role: str | None = None) -> FileResponse:
    """
    Hand out the signed pack of a case, read from disk piece by piece.

    :raises TryLater: if the case did not stand still
    """
    file = packs.written(dispute, for_role=for_role)
    answer = FileResponse(file, as_attachment=True, filename=f"case-{dispute.pk}.zip", content_type="application/zip")
    answer["Cache-Control"] = "no-store"
    return harmless(answer)


def harmless(answer: Any) -> Any:
    """Let nothing in an answer run, whatever a browser takes it for."""
    answer["X-Content-Type-Options"] = "nosniff"
    answer["Content-Security-Policy"] = _POLICY
    return answer
