import json
from typing import Any

from rest_framework.renderers import BaseRenderer


class Json(BaseRenderer):
    """Compact JSON of what a render function returned: text, numbers, lists and objects, nothing to convert."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        if data is None:
            return b""
        return json.dumps(data, ensure_ascii=False, separators=(",", ":"), default=str).encode()
