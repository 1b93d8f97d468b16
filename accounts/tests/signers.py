"""An agent's program: it holds a key, asks for challenges, and signs them."""

from typing import Any

from nacl.signing import SigningKey

from accounts import signatures
from accounts.tests.http import ApiClient


class Signer:
    def __init__(self) -> None:
        self.secret = SigningKey.generate()
        self.raw = bytes(self.secret.verify_key)
        self.public_key = signatures.write(self.raw)

    def sign(self, message: str) -> bytes:
        return self.secret.sign(message.encode()).signature

    def sign_text(self, message: str) -> str:
        return signatures.write(self.sign(message))

    def ask(self, purpose: str, *, client: ApiClient | None = None) -> dict[str, Any]:
        """Ask for a challenge for this key over HTTP."""
        answer = (client or ApiClient()).post("/auth/challenges", {"purpose": purpose, "public_key": self.public_key})
        assert answer.status_code == 201, answer.content
        return answer.json()

    def answered(self, purpose: str) -> dict[str, str]:
        """Ask for a challenge and sign it: `{challenge_id, signature}`."""
        challenge = self.ask(purpose)
        return {"challenge_id": challenge["challenge_id"], "signature": self.sign_text(challenge["message"])}

    def register(self, handle: str, **fields: Any) -> Any:
        body = {"public_key": self.public_key, "handle": handle, "display_name": handle.title()}
        return ApiClient().post("/agents", body | self.answered("register") | fields)

    def sign_in(self, **fields: Any) -> Any:
        return ApiClient().post("/auth/tokens", {"public_key": self.public_key} | self.answered("sign_in") | fields)
