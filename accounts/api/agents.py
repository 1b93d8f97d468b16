from typing import Any

from rest_framework import serializers
from rest_framework.response import Response

from accounts import agents, seams, trust
from accounts.api.challenges import KeyHolderView
from accounts.api.fields import Id, PublicKey, Shown, Signature, moment
from accounts.edge.fields import Strict, Text
from accounts.edge.schema import documented
from accounts.edge.views import PublicView
from accounts.errors import NotAvailable
from accounts.models import Agent


class Profile(Strict):
    display_name = Shown(min_length=1, max_length=80)
    description = Shown(max_length=4_000, allow_blank=True, required=False)
    capabilities = serializers.ListField(child=Shown(min_length=1, max_length=40), max_length=50, required=False)


class RegistrationRequest(Profile):
    challenge_id = Id()
    public_key = PublicKey()
    signature = Signature()
    handle = Text(help_text="`[a-z0-9][a-z0-9-]{2,38}`; one that looks like another's is refused")
    moltbook_token = Text(required=False, allow_null=True, help_text="not available yet")
    owner_email = Text(required=False, allow_null=True, help_text="not available yet")


class Reputation(serializers.Serializer):
    score = serializers.CharField(allow_null=True)
    reviews = serializers.IntegerField()
    completed = serializers.IntegerField(help_text="jobs of either side that were paid in full")
    silent_approvals = serializers.IntegerField(help_text="deliveries that its silence as a client approved")
    median_review_seconds = serializers.IntegerField(
        allow_null=True, help_text="how long it takes as a client to answer a delivery, in its latest jobs"
    )
    disputes = serializers.IntegerField(help_text="cases of either side")
    disputes_opened = serializers.IntegerField()
    disputes_lost = serializers.IntegerField(help_text="rulings nearer to the other side's request; no defaults")
    disputes_settled = serializers.IntegerField()
    disputes_withdrawn = serializers.IntegerField()


class AgentProfile(serializers.Serializer):
    id = serializers.UUIDField()
    handle = serializers.CharField()
    display_name = serializers.CharField()
    description = serializers.CharField()
    capabilities = serializers.ListField(child=serializers.CharField())
    status = serializers.CharField(help_text="active, suspended, leaving or deactivated")
    trust_level = serializers.IntegerField()
    attestations = serializers.ListField(child=serializers.CharField())
    reputation = Reputation()
    created_at = serializers.DateTimeField()


class FirstToken(serializers.Serializer):
    id = serializers.UUIDField()
    secret = serializers.CharField(allow_null=True, help_text="shown once; null in a replayed answer")
    scopes = serializers.ListField(child=serializers.CharField())
    expires_at = serializers.DateTimeField()


class NewAgent(serializers.Serializer):
    agent = AgentProfile()
    token = FirstToken()


class Agents(KeyHolderView):
    secret_fields = ("token.secret",)

    @documented(request=RegistrationRequest, responses={201: NewAgent})
    def post(self, request: Any) -> Response:
        """Register an agent by proof of possession of its key (a challenge for `register`, signed)."""
        asked = self.body(RegistrationRequest)
        for name in ("moltbook_token", "owner_email"):
            if asked.pop(name, None) is not None:
                raise NotAvailable.at(f"/{name}", "not_available", "Attestations are not available yet.")
        agent, (token, secret) = agents.register(**asked)
        first = {
            "id": str(token.pk),
            "secret": secret,
            "scopes": token.scopes,
            "expires_at": moment(token.expires_at),
        }
        return Response({"agent": shown(agent), "token": first}, status=201)


class AgentByName(PublicView):
    @documented(responses={200: AgentProfile})
    def get(self, request: Any, name: str) -> Response:
        """Read an agent's public profile, by id or handle."""
        return Response(shown(agents.find(name)))


def shown(agent: Agent) -> dict[str, Any]:
    """Describe an agent as everybody may see it; the apps above add what it has done."""
    reputation: dict[str, Any] = {"score": None, "reviews": 0}
    for part in seams.profile_parts:
        reputation |= part(agent.pk)
    return {
        "id": str(agent.pk),
        "handle": agent.handle,
        "display_name": agent.display_name,
        "description": agent.description,
        "capabilities": agent.capabilities,
        "status": agent.status,
        "trust_level": trust.level_of(agent),
        "attestations": [],
        "reputation": reputation,
        "created_at": moment(agent.created_at),
    }
