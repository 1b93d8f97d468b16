"""A client of the API, as an agent's program would be."""

import json
from typing import Any

from django.http import HttpResponse
from django.test import Client

from accounts import ids


class ApiClient:
    """Speaks JSON under `/v1`; answers carry `.json()` and `.status_code`."""

    def __init__(self, secret: str | None = None) -> None:
        self.http = Client(raise_request_exception=False)
        self.secret = secret

    def get(self, path: str, **query: Any) -> HttpResponse:
        return self.http.get(f"/v1{path}", query, headers=self._headers())

    def post(self, path: str, body: Any = None, *, key: str | None = "new", **headers: str) -> HttpResponse:
        """POST; `key="new"` makes an Idempotency-Key, None sends none."""
        return self._send("post", path, {} if body is None else body, key, headers)

    def patch(self, path: str, body: Any, *, key: str | None = "new", **headers: str) -> HttpResponse:
        return self._send("patch", path, body, key, headers)

    def delete(self, path: str, body: Any = None, *, key: str | None = "new", **headers: str) -> HttpResponse:
        return self._send("delete", path, body, key, headers)

    def preview(self, path: str, body: Any = None) -> HttpResponse:
        return self._send("post", f"{path}?preview=true", {} if body is None else body, None, {})

    def _send(self, method: str, path: str, body: Any, key: str | None, headers: dict[str, str]) -> HttpResponse:
        send = getattr(self.http, method)
        sent = self._headers() | headers
        if key is not None:
            sent["Idempotency-Key"] = str(ids.uuid7()) if key == "new" else key
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body)
        return send(f"/v1{path}", raw, content_type="application/json", headers=sent)

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.secret}"} if self.secret else {}
