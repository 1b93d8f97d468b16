from typing import Any
from uuid import UUID

from rest_framework import serializers
from rest_framework.response import Response

from accounts import scopes, tokens
from accounts.api.challenges import scope_of_key
from accounts.api.fields import Id, Network, PublicKey, Shown, Signature, moment
from accounts.edge.fields import MoneyField, Nothing, Strict, Whole, units_to_text
from accounts.edge.pages import page
from accounts.edge.schema import documented, paged
from accounts.edge.views import AgentView
from accounts.models import Token


class SignIn(Strict):
    """A challenge for `sign_in`, signed; without `scopes` the token has all that the agent may have."""

    challenge_id = Id()
    public_key = PublicKey()
    signature = Signature()
    scopes = serializers.ListField(child=serializers.ChoiceField(list(scopes.ALL)), allow_empty=False, required=False)
    ttl_seconds = Whole(min_value=1, max_value=tokens.MAX_SECONDS, default=tokens.DEFAULT_SECONDS)
    label = Shown(max_length=80, allow_blank=True, default="")  # type: ignore[assignment]
    max_per_job = MoneyField(min_units=1, required=False, allow_null=True, source="max_per_job_units")
    max_per_day = MoneyField(min_units=1, required=False, allow_null=True, source="max_per_day_units")
    allowed_networks = serializers.ListField(child=Network(), max_length=20, default=list)


class Rotation(Strict):
    overlap_seconds = Whole(min_value=0, max_value=tokens.MAX_OVERLAP_SECONDS, default=0)


class TokenRow(serializers.Serializer):
    id = serializers.UUIDField()
    prefix = serializers.CharField(help_text="the first characters of the random part of the secret")
    label = serializers.CharField()  # type: ignore[assignment]
    scopes = serializers.ListField(child=serializers.CharField())
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    revoked_at = serializers.DateTimeField(allow_null=True)
    rotated_from = serializers.UUIDField(allow_null=True)
    max_per_job = MoneyField(allow_null=True)
    max_per_day = MoneyField(allow_null=True)
    allowed_networks = serializers.ListField(child=serializers.CharField())


class NewToken(TokenRow):
    secret = serializers.CharField(allow_null=True, help_text="shown once; null in a replayed answer")


class RevokedTokens(serializers.Serializer):
    revoked = serializers.IntegerField()


class Tokens(AgentView):
    """Who signs in has a key and no token yet; the list is for those who have one."""

    scopes = {"GET": "tokens:write"}
    public = ("POST",)
    secret_fields = ("secret",)

    def idempotency_scope(self) -> str:
        return scope_of_key(self.request)

    @documented(responses={200: paged(TokenRow)})
    def get(self, request: Any) -> Response:
        """List the agent's tokens, without secrets."""
        return page(request, Token.objects.filter(agent=request.user), render=_shown)

    @documented(request=SignIn, responses={201: NewToken})
    def post(self, request: Any) -> Response:
        """Sign in: mint a token on the signature of one of the agent's keys."""
        token, secret = tokens.sign_in(**self.body(SignIn))
        return Response(_shown(token) | {"secret": secret}, status=201)


class TokenById(AgentView):
    scopes = {"DELETE": "tokens:write"}

    @documented(responses={204: None})
    def delete(self, request: Any, token_id: UUID) -> Response:
        """Revoke a token, from the next request on."""
        tokens.revoke(token_id, agent=request.user)
        return Response(status=204)


class TokenRotation(AgentView):
    scopes = {"POST": "tokens:write"}
    secret_fields = ("secret",)

    @documented(request=Rotation, responses={201: NewToken})
    def post(self, request: Any, token_id: UUID) -> Response:
        """Replace a token by one of the same rights; the old one lives on for the overlap at most."""
        token, secret = tokens.rotate(token_id, by=request.auth, **self.body(Rotation))
        return Response(_shown(token) | {"secret": secret}, status=201)


class Revocation(AgentView):
    scopes = {"POST": "tokens:write"}

    @documented(request=Nothing, responses={200: RevokedTokens})
    def post(self, request: Any) -> Response:
        """Revoke every token of the agent, this one too."""
        self.body(Nothing)
        return Response({"revoked": tokens.revoke_all(request.user)})


def _shown(token: Token) -> dict[str, Any]:
    return {
        "id": str(token.pk),
        "prefix": token.prefix,
        "label": token.label,
        "scopes": token.scopes,
        "created_at": moment(token.created_at),
        "expires_at": moment(token.expires_at),
        "revoked_at": moment(token.revoked_at),
        "rotated_from": str(token.rotated_from_id) if token.rotated_from_id else None,
        "max_per_job": None if token.max_per_job_units is None else units_to_text(token.max_per_job_units),
        "max_per_day": None if token.max_per_day_units is None else units_to_text(token.max_per_day_units),
        "allowed_networks": [str(network) for network in token.allowed_networks],
    }
