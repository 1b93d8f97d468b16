"""Calls that exist in these tests only: each does one thing that the edge must get right."""

import time
from functools import partial
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.urls import include, path
from rest_framework import serializers
from rest_framework.response import Response

from accounts import ids
from accounts.edge.fields import Bps, JsonObject, MoneyField, Nothing, Strict, Text, Truth, Whole
from accounts.edge.pages import page
from accounts.edge.parsing import BoundedMultipart, StrictJson
from accounts.edge.views import AgentView, PublicView
from accounts.errors import Conflict, DomainError, Paused
from accounts.models import Event

_TOUCH = "UPDATE accounts_agent SET description = description || '.' WHERE handle = %s"


class Item(Strict):
    name = Text(max_length=10)


class Everything(Strict):
    text = Text(required=False, max_length=50)
    whole = Whole(required=False, min_value=0, max_value=10)
    share = Bps(required=False)
    truth = Truth(required=False)
    money = MoneyField(required=False, min_units=1_000_000, max_units=5_000_000)
    object = JsonObject(required=False)
    items = Item(many=True, required=False)
    words = serializers.ListField(child=Text(max_length=5), required=False)


class Echo(PublicView):
    def get(self, request: Any) -> Response:
        return Response({"query": request.query_params.dict()})

    def post(self, request: Any) -> Response:
        return Response(self.body(Everything), status=201)


class Notes(AgentView):
    """Each POST records one event, its effect."""

    scopes = {"POST": "profile:write"}
    secret_fields = ("secret", "deep.secret")

    def get(self, request: Any) -> Response:
        notes = Event.objects.filter(type="test.note")
        return page(request, notes, keys=("-occurred_at", "id"), render=lambda note: {"id": note.pk})

    def post(self, request: Any) -> Response:
        self.body(Nothing)
        note(request.user.pk)
        secrets = {"secret": "s3cret", "deep": {"secret": "s3cret", "shown": 1}}
        return Response({"id": str(ids.uuid7())} | secrets, status=201)

    def delete(self, request: Any) -> Response:
        note(request.user.pk)
        return Response(status=204)


class Money(Notes):
    idempotency = {"POST": "required", "DELETE": "required"}


class SlowNotes(Notes):
    def post(self, request: Any) -> Response:
        note(request.user.pk)
        time.sleep(0.3)
        return Response({"id": str(ids.uuid7())}, status=201)


class Refused(AgentView):
    """Does something, then is refused for as long as `allowed` is False."""

    allowed = False

    def post(self, request: Any) -> Response:
        note(request.user.pk)
        if not type(self).allowed:
            raise Conflict("Not now.", state="sleeping")
        return Response({"done": True})


class Told(AgentView):
    """Is refused, and tells about it afterwards."""

    def post(self, request: Any) -> Response:
        note(request.user.pk, "test.rolled_back")
        refusal = Conflict()
        refusal.afterwards = partial(note, request.user.pk)
        raise refusal


class Crash(AgentView):
    def post(self, request: Any) -> Response:
        note(request.user.pk)
        raise RuntimeError("a bug of ours")


class Late(AgentView):
    """Passes its handler and is refused by the database at the commit, where foreign keys are looked at."""

    def post(self, request: Any) -> Response:
        note(ids.uuid7())
        return Response({"done": True}, status=201)


class Deadlock(AgentView):
    """Locks two rows in the order it is asked to; `attempts` counts how often it began."""

    attempts: list[str] = []
    pause = 0.5

    def post(self, request: Any, first: str, second: str) -> Response:
        self.attempts.append(first)
        with connection.cursor() as cursor:
            cursor.execute(_TOUCH, [first])
            time.sleep(self.pause)
            cursor.execute(_TOUCH, [second])
        return Response({"done": True})


class FileBody(Strict):
    file = serializers.FileField(max_length=50)
    note = Text(required=False, max_length=50)


class Files(AgentView):
    parser_classes = [StrictJson, BoundedMultipart]

    def post(self, request: Any) -> Response:
        asked = self.body(FileBody)
        note(request.user.pk)
        return Response({"size": len(asked["file"].read()), "name": asked["file"].name}, status=201)


class Fails(AgentView):
    """Raises what its class is told to, in its handler."""

    error: Exception | None = None
    sql = ""

    def get(self, request: Any) -> Response:
        return self.post(request)

    def post(self, request: Any) -> Response:
        if self.sql:
            connection.cursor().execute(self.sql)
        if self.error:
            raise self.error
        return Response({"inside": transaction.get_connection().in_atomic_block})


class Closed(PublicView):
    def post(self, request: Any) -> Response:
        raise Paused


class Odd(DomainError):
    status = 418
    code = "odd"
    title = "Odd"
    headers = {"X-Odd": "1"}


def note(agent_id: UUID, kind: str = "test.note") -> None:
    Event.objects.create(recipient_id=agent_id, type=kind, data={})


def notes() -> int:
    return Event.objects.filter(type="test.note").count()


calls = [
    path("echo", Echo.as_view()),
    path("notes", Notes.as_view()),
    path("money", Money.as_view()),
    path("slow-notes", SlowNotes.as_view()),
    path("refused", Refused.as_view()),
    path("told", Told.as_view()),
    path("crash", Crash.as_view()),
    path("late", Late.as_view()),
    path("deadlock/<str:first>/<str:second>", Deadlock.as_view()),
    path("fails", Fails.as_view()),
    path("files", Files.as_view()),
    path("closed", Closed.as_view()),
    path("named/<str:name>", Echo.as_view()),
]
urlpatterns = [path("v1/", include(calls))]
handler400 = "config.api.bad_request"
handler404 = "config.api.not_found"
handler500 = "config.api.server_error"
