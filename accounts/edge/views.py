"""
The one way a request becomes a verb.

Authenticate, check the scope, read the body: then one transaction in which the verb, its events and the answer for its
`Idempotency-Key` are committed together. Authentication and body come first: nothing waits for a network in there.
"""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from django.db import transaction
from rest_framework import serializers
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import idempotency
from accounts.edge import rendering, requests
from accounts.edge.retries import retrying
from accounts.errors import Invalid, ScopeMissing, Unauthenticated

_SAFE = ("GET", "HEAD", "OPTIONS")
Handler = Callable[..., Response]


class View(APIView):
    """What public and authenticated calls share."""

    # method → scope; a method that is not named is open to every valid token
    scopes: ClassVar[dict[str, str]] = {}
    # method → "required"; unsafe methods take a key in any case
    idempotency: ClassVar[dict[str, str]] = {}
    # dotted names in the answer that are shown once and replayed as null
    secret_fields: ClassVar[tuple[str, ...]] = ()
    # methods that need no token
    public: ClassVar[tuple[str, ...]] = ()
    previewable = False
    # DRF's request; its `user` is an Agent of ours, its `auth` a Token
    request: Any

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        self.args, self.kwargs = args, kwargs
        self.headers = self.default_response_headers
        self.request = request = self.initialize_request(request, *args, **kwargs)
        try:
            self.initial(request, *args, **kwargs)
            name = request.method.lower()
            known = name in self.http_method_names and hasattr(self, name)
            handler = getattr(self, name) if known else self.http_method_not_allowed
            response = self._perform(handler)
        except Exception as error:
            afterwards = getattr(error, "afterwards", None)
            if afterwards and not self.previewed:
                retrying(partial(_committed, afterwards))
            response = self.handle_exception(error)
        self.response = self.finalize_response(request, response, *args, **kwargs)
        return self.response

    def perform_content_negotiation(self, request: Any, force: bool = False) -> tuple[Any, str]:
        return rendering.Json(), rendering.Json.media_type

    def initial(self, request: Any, *args: Any, **kwargs: Any) -> None:
        request.accepted_renderer, request.accepted_media_type = self.perform_content_negotiation(request)
        self.perform_authentication(request)
        given = [value for values in request.query_params.lists() for value in values[1]]
        if any("\x00" in value for value in [*given, *(v for v in kwargs.values() if isinstance(v, str))]):
            raise Invalid("An address may not hold NUL.")
        previews = [value.lower() for value in request.query_params.getlist("preview")]
        if request.method not in _SAFE and previews not in ([], ["true"], ["false"]):
            # Who asks for a preview in other words must not get the action itself.
            raise Invalid.at("/preview", "invalid_choice", "`preview` is true or false.")

    def options(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        """Name the methods of this address in `Allow`, to anybody."""
        return Response(status=204)

    def body(self, shape: type[serializers.Serializer]) -> dict[str, Any]:
        """
        Validate the body.

        :raises rest_framework.exceptions.ValidationError: with everything that is wrong (400 `invalid_request`)
        """
        serializer = shape(data=self.request.data, context={"request": self.request})
        serializer.is_valid(raise_exception=True)
        return serializer.validated_data

    @property
    def previewed(self) -> bool:
        return self.request.query_params.get("preview", "").lower() == "true"

    def preview(self, run: Callable[[], Response]) -> Response:
        """Answer what the call would do; views of money say how (escrow.api.previews)."""
        raise Invalid("This call has no preview.")

    def idempotency_scope(self) -> str:
        """Name whose keys these are."""
        return f"agent:{self.request.user.id}"

    def _perform(self, handler: Handler) -> Response:
        if self.request.method in _SAFE or handler == self.http_method_not_allowed:
            return handler(self.request, *self.args, **self.kwargs)
        asked = self.request.data  # read to its end before the transaction
        if self.previewed:
            return retrying(lambda: self.preview(lambda: handler(self.request, *self.args, **self.kwargs)))
        key = self.request.META.get("HTTP_IDEMPOTENCY_KEY")
        if key is None:
            if self.idempotency.get(self.request.method) == "required":
                raise idempotency.KeyRequired
            return retrying(lambda: self._once(handler))
        fingerprint = idempotency.fingerprint_of(self.request.method, self.request.get_full_path(), _plain(asked))
        return retrying(lambda: self._once_for(idempotency.well_formed(key), fingerprint, handler))

    def _once(self, handler: Handler) -> Response:
        with transaction.atomic():
            return handler(self.request, *self.args, **self.kwargs)

    def _once_for(self, key: str, fingerprint: bytes, handler: Handler) -> Response:
        scope = self.idempotency_scope()
        with transaction.atomic():
            earlier = idempotency.earlier_answer(scope, key, fingerprint=fingerprint)
            if earlier is not None:
                return Response(earlier.body, status=earlier.status, headers={"Idempotent-Replayed": "true"})
            response = handler(self.request, *self.args, **self.kwargs)
            answer = idempotency.Answer(response.status_code, _without(self.secret_fields, response.data))
            keep = self.idempotency.get(self.request.method) == "required"
            idempotency.remember(scope, key, fingerprint=fingerprint, answer=answer, keep=keep)
            return response


class PublicView(View):
    """A call that needs no token."""

    authentication_classes = ()

    def idempotency_scope(self) -> str:
        return f"address:{requests.client_address(self.request)}"


class AgentView(View):
    """A call of an agent, under the scope its method names."""

    def perform_authentication(self, request: Any) -> None:
        if request.method == "OPTIONS" or request.method in self.public:
            return
        super().perform_authentication(request)
        if request.auth is None:
            raise Unauthenticated
        scope = self.scopes.get("GET" if request.method == "HEAD" else request.method)
        if scope and scope not in request.auth.scopes:
            raise ScopeMissing(f"This call needs the scope `{scope}`.", scope=scope)


def _committed(work: Callable[[], None]) -> None:
    with transaction.atomic():
        work()


def _plain(body: Any) -> Any:
    """Write a multipart body as JSON: its fields, and the digests of its files."""
    if not hasattr(body, "lists"):
        return body
    return {name: [_digest(value) if hasattr(value, "chunks") else value for value in values]
            for name, values in body.lists()}  # fmt: skip


def _digest(file: Any) -> str:
    digest = hashlib.sha256()
    for chunk in file.chunks():
        digest.update(chunk)
    file.seek(0)
    return digest.hexdigest()


def _without(names: tuple[str, ...], answer: Any) -> Any:
    """Copy an answer with null for what is shown once, as far as it is there."""
    for name in names:
        answer = _nulled(answer, name.split("."))
    return answer


def _nulled(answer: Any, path: list[str]) -> Any:
    name, *rest = path
    if not isinstance(answer, dict) or name not in answer:
        return answer
    return answer | {name: _nulled(answer[name], rest) if rest else None}
