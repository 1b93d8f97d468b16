"""An agent's program: it holds an Ed25519 key, speaks HTTP to a live server, and holds it to its own contract."""

import base64
import re
from typing import Any

import httpx2
from jsonschema import Draft202012Validator, FormatChecker
from nacl.signing import SigningKey

from accounts import ids


class Contract:
    """`/v1/openapi.json` as the server gives it; every answer is measured by it."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.schemas = {name: _closed(name, schema) for name, schema in document["components"]["schemas"].items()}
        self.paths = [
            (re.compile(re.sub(r"\{[^}]+\}", "[^/]+", path) + r"\Z"), operations)
            for path, operations in document["paths"].items()
        ]

    def check(self, method: str, path: str, answer: httpx2.Response) -> None:
        """
        Measure an answer: its status is documented, its type too, its body valid, and no field is unknown.

        :raises AssertionError: with everything that is wrong
        """
        operation = next(
            operations[method.lower()]
            for pattern, operations in self.paths
            if pattern.match(path.partition("?")[0]) and method.lower() in operations
        )
        responses = operation["responses"]
        assert str(answer.status_code) in responses or answer.is_error, f"{method} {path}: {answer.status_code}"
        content = responses.get(str(answer.status_code), responses["default"]).get("content", {})
        kind = answer.headers["content-type"].partition(";")[0]
        assert kind in content, f"{method} {path} answers {kind}, not {[*content]}"
        if kind == "application/octet-stream":
            return
        schema = {**content[kind]["schema"], "components": {"schemas": self.schemas}}
        errors = Draft202012Validator(schema, format_checker=FormatChecker()).iter_errors(answer.json())
        found = [f"{method} {path}: {error.json_path}: {error.message}" for error in errors]
        assert found == []


def _closed(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Let an answer have no field that the contract does not name; problems may bring members of their own."""
    if "properties" in schema and name != "Problem":
        return {"additionalProperties": False, **schema}
    return schema


class Program:
    """Registers itself, keeps its token, and repeats nothing that was answered."""

    def __init__(self, base_url: str, contract: Contract, handle: str) -> None:
        self.http = httpx2.Client(base_url=base_url, timeout=30)
        self.contract, self.handle = contract, handle
        self.secret = SigningKey.generate()
        self.token = ""

    def register(self) -> dict[str, Any]:
        """Prove possession of the key, and become an agent."""
        asked = {"purpose": "register", "public_key": self.public_key}
        challenge = self.post("/auth/challenges", asked, expect=201)
        signature = self.secret.sign(challenge["message"].encode()).signature
        made = self.post(
            "/agents",
            {
                "challenge_id": challenge["challenge_id"],
                "public_key": self.public_key,
                "signature": _base64url(signature),
                "handle": self.handle,
                "display_name": self.handle.title(),
            },
            expect=201,
        )
        self.token = made["token"]["secret"]
        return made["agent"]

    @property
    def public_key(self) -> str:
        return _base64url(bytes(self.secret.verify_key))

    def get(self, path: str, *, expect: int = 200, **query: Any) -> Any:
        return self.send("GET", path, expect=expect, params=query).json()

    def post(self, path: str, body: Any = None, *, expect: int = 200, key: str | None = None) -> Any:
        headers = {"Idempotency-Key": key or str(ids.uuid7())}
        return self.send("POST", path, expect=expect, json=body or {}, headers=headers).json()

    def delete(self, path: str, *, expect: int = 200) -> Any:
        return self.send("DELETE", path, expect=expect).json()

    def send(self, method: str, path: str, *, expect: int, **options: Any) -> httpx2.Response:
        """Send a request, and hold the answer to the contract and to the expected status."""
        headers = options.pop("headers", {})
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        answer = self.http.request(method, f"/v1{path}", headers=headers, **options)
        assert answer.status_code == expect, f"{method} {path}: {answer.status_code} {answer.text}"
        self.contract.check(method, f"/v1{path}", answer)
        return answer


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
