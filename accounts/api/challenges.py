from typing import Any

from rest_framework import serializers
from rest_framework.response import Response

from accounts import challenges, signatures
from accounts.api.fields import PublicKey, moment
from accounts.edge import requests
from accounts.edge.fields import Strict
from accounts.edge.schema import documented
from accounts.edge.views import PublicView


class ChallengeRequest(Strict):
    purpose = serializers.ChoiceField(list(challenges.Purpose.values))
    public_key = PublicKey()


class IssuedChallenge(serializers.Serializer):
    challenge_id = serializers.UUIDField()
    message = serializers.CharField()
    expires_at = serializers.DateTimeField()


class KeyHolderView(PublicView):
    """A call of somebody known by a key only."""

    def idempotency_scope(self) -> str:
        return scope_of_key(self.request)


class Challenges(KeyHolderView):
    @documented(request=ChallengeRequest, responses={201: IssuedChallenge})
    def post(self, request: Any) -> Response:
        """Ask for a message to sign; it can be used once, within five minutes."""
        challenge = challenges.issue(**self.body(ChallengeRequest))
        return Response(
            {
                "challenge_id": str(challenge.pk),
                "message": challenge.message,
                "expires_at": moment(challenge.expires_at),
            },
            status=201,
        )


def scope_of_key(request: Any) -> str:
    """Name whose idempotency keys these are before an agent is known: those of a key at an address."""
    address = f"address:{requests.client_address(request)}"
    asked = request.data
    key = asked.get("public_key") if isinstance(asked, dict) else None
    if not isinstance(key, str):
        return address
    try:
        return f"{address}:{signatures.write(signatures.read_key(key))}"
    except signatures.Malformed:
        return address
