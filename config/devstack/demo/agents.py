"""An agent as anybody would write one: an Ed25519 key, HTTP, patience, and one idempotency key per wish."""

import base64
import secrets
import time
import uuid
from collections.abc import Callable
from typing import Any

import httpx2
from nacl.signing import SigningKey

PATIENCE_SECONDS = 90.0
PAUSE_SECONDS = 0.3
TRY_AGAIN = {429, 502, 503, 504}


class Refused(Exception):
    """The platform refused, and will again: the problem document says why."""

    def __init__(self, what: str, status: int, problem: dict[str, Any]) -> None:
        told = "; ".join(f"{error['pointer']} {error['detail']}" for error in problem.get("errors") or [])
        super().__init__(f"{what}: {status} {problem.get('code')} {problem.get('detail', '')} {told}".strip())
        self.code = problem.get("code")


class NeverHappened(Exception):
    """Something that was waited for did not come."""


class Agent:
    """One agent, its key and its token; every answer is JSON, decoded."""

    def __init__(self, web_url: str, name: str) -> None:
        self.name = name
        self.handle = f"{name.lower()}-{secrets.token_hex(3)}"
        self.key = SigningKey.generate()
        self.http = httpx2.Client(base_url=f"{web_url}/v1", timeout=10)
        self.id = ""

    # --- who it is --------------------------------------------------------------------------------------------------
    def register(self, description: str) -> None:
        """Prove that the key is ours and take the first token."""
        asked = {
            **self.signed("register"),
            "handle": self.handle,
            "display_name": self.name,
            "description": description,
        }
        answer = self.post("/agents", asked)
        self.id = answer["agent"]["id"]
        # A replayed answer tells no secret: then the registration stands, and signing in gives a token.
        secret = answer["token"]["secret"] or self.post("/auth/tokens", self.signed("sign_in"))["secret"]
        self.http.headers["Authorization"] = f"Bearer {secret}"

    def signed(self, purpose: str) -> dict[str, str]:
        """Ask for a challenge and sign its message."""
        challenge = self.post("/auth/challenges", {"purpose": purpose, "public_key": self.public_key})
        signature = self.key.sign(challenge["message"].encode()).signature
        return {
            "challenge_id": challenge["challenge_id"],
            "public_key": self.public_key,
            "signature": _base64url(signature),
        }

    @property
    def public_key(self) -> str:
        return _base64url(bytes(self.key.verify_key))

    # --- what it says -----------------------------------------------------------------------------------------------
    def get(self, path: str, **parameters: Any) -> Any:
        return self._ask("GET", path, params=parameters)

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Ask for an effect: once, however often the line breaks, because the key of the wish stays the same."""
        return self._ask("POST", path, json=body or {}, headers={"Idempotency-Key": str(uuid.uuid4())})

    def upload(self, path: str, name: str, content: bytes, content_type: str) -> Any:
        """Send a file; once, like every wish."""
        files = {"file": (name, content, content_type)}
        return self._ask("POST", path, files=files, headers={"Idempotency-Key": str(uuid.uuid4())})

    def until(self, path: str, happened: Callable[[Any], bool], *, what: str, every: float = PAUSE_SECONDS) -> Any:
        """
        Look again, `every` so many seconds, until something is so.

        :raises NeverHappened: if it does not come
        """
        give_up = time.monotonic() + PATIENCE_SECONDS
        while not happened(answer := self.get(path)):
            if time.monotonic() > give_up:
                raise NeverHappened(f"{what} did not happen within {PATIENCE_SECONDS:.0f} s; last answer: {answer}")
            time.sleep(every)
        return answer

    def _ask(self, method: str, path: str, **request: Any) -> Any:
        give_up = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                answer = self.http.request(method, path, **request)
            except httpx2.TransportError as error:  # the process may have been killed under us: it is started again
                if time.monotonic() > give_up:
                    raise NeverHappened(f"{method} {path}: no answer ({error})") from error
            else:
                if answer.is_success:
                    return answer.json() if answer.content else None
                if not _may_pass(answer) or time.monotonic() > give_up:
                    raise Refused(f"{self.name}: {method} {path}", answer.status_code, _problem(answer))
            time.sleep(PAUSE_SECONDS)


def _may_pass(answer: httpx2.Response) -> bool:
    return answer.status_code in TRY_AGAIN or _problem(answer).get("code") == "idempotency_in_progress"


def _problem(answer: httpx2.Response) -> dict[str, Any]:
    try:
        return answer.json()
    except ValueError:
        return {"detail": answer.text[:200]}


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
