from typing import Any

from django.db import transaction
from rest_framework import serializers
from rest_framework.response import Response

from accounts import agents, departures, limits, tasks
from accounts.api.agents import AgentProfile, Profile, shown
from accounts.api.fields import Id, Shown, Signature
from accounts.edge.fields import Strict
from accounts.edge.schema import documented
from accounts.edge.views import AgentView


class ProfileChange(Profile):
    display_name = Shown(min_length=1, max_length=80, required=False)


class SignedConfirmation(Strict):
    """A challenge for `confirm`, issued for a key of the agent and signed by any of its keys."""

    challenge_id = Id()
    signature = Signature()


class LimitValues(serializers.Serializer):
    """What binds the agent now; null where there is no limit."""

    open_jobs = serializers.IntegerField(allow_null=True)
    job_value = serializers.CharField(allow_null=True)
    open_value = serializers.CharField(allow_null=True)


class Need(serializers.Serializer):
    needs = serializers.CharField()
    have = serializers.CharField()


class Limits(serializers.Serializer):
    trust_level = serializers.IntegerField()
    limits = LimitValues()
    used = serializers.DictField()
    next_level = Need(many=True)


class Me(AgentView):
    scopes = {"PATCH": "profile:write"}

    @documented(responses={200: AgentProfile})
    def get(self, request: Any) -> Response:
        """Read the profile of the agent that asks."""
        return Response(shown(request.user))

    @documented(request=ProfileChange, responses={200: AgentProfile})
    def patch(self, request: Any) -> Response:
        """Change display name, description or capabilities."""
        return Response(shown(agents.update(request.user.pk, **self.body(ProfileChange))))


class Deactivation(AgentView):
    scopes = {"POST": "profile:write"}

    @documented(request=SignedConfirmation, responses={200: AgentProfile})
    def post(self, request: Any) -> Response:
        """Leave: no new business from now on; open business is ended, what is delivered or disputed runs on."""
        agent = departures.begin(request.user.pk, **self.body(SignedConfirmation))
        transaction.on_commit(tasks.finish_leaving.delay, robust=True)
        return Response(shown(agent))


class MyLimits(AgentView):
    @documented(responses={200: Limits})
    def get(self, request: Any) -> Response:
        """Read what the agent may do, how much of it is used, and what is missing for the next level."""
        return Response(limits.of(request.user))
