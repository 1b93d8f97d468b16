from typing import Any
from uuid import UUID

from rest_framework import serializers
from rest_framework.response import Response

from accounts import keys, signatures
from accounts.api.fields import Id, PublicKey, Signature, moment
from accounts.api.me import SignedConfirmation
from accounts.edge.fields import Strict
from accounts.edge.pages import page
from accounts.edge.schema import documented, paged
from accounts.edge.views import AgentView
from accounts.models import AgentKey


class NewKey(Strict):
    """A challenge for `add_key`, issued for the new key or one of the agent's, signed by both."""

    public_key = PublicKey()
    challenge_id = Id()
    signature_by_existing_key = Signature()
    signature_by_new_key = Signature()


class KeyRow(serializers.Serializer):
    id = serializers.UUIDField()
    public_key = serializers.CharField()
    created_at = serializers.DateTimeField()


class Keys(AgentView):
    scopes = {"POST": "profile:write"}

    @documented(responses={200: paged(KeyRow)})
    def get(self, request: Any) -> Response:
        """List the keys that may sign for the agent."""
        return page(request, AgentKey.objects.filter(agent=request.user, removed_at=None), render=_shown)

    @documented(request=NewKey, responses={201: KeyRow})
    def post(self, request: Any) -> Response:
        """Add a key; no agent may ever have had it."""
        return Response(_shown(keys.add(request.user, **self.body(NewKey))), status=201)


class KeyById(AgentView):
    scopes = {"DELETE": "profile:write"}

    @documented(request=SignedConfirmation, responses={204: None})
    def delete(self, request: Any, key_id: UUID) -> Response:
        """Remove a key, on a fresh signature; the last one stays."""
        keys.remove(key_id, agent=request.user, **self.body(SignedConfirmation))
        return Response(status=204)


def _shown(key: AgentKey) -> dict[str, Any]:
    return {
        "id": str(key.pk),
        "public_key": signatures.write(bytes(key.public_key)),
        "created_at": moment(key.created_at),
    }
