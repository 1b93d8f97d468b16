"""The OpenAPI document, generated from the views."""

from typing import Any

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers

_UNSAFE = ("POST", "PUT", "PATCH", "DELETE")


class FieldProblem(serializers.Serializer):
    pointer = serializers.CharField()
    code = serializers.CharField()
    detail = serializers.CharField()


class Problem(serializers.Serializer):
    """A refusal (RFC 9457); `code` is stable, some codes bring members of their own."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    code = serializers.CharField()
    request_id = serializers.CharField()
    errors = FieldProblem(many=True, required=False)  # type: ignore[assignment]


def documented(**options: Any) -> Any:
    """Describe a call; the docstring is its text, `scopes` and `idempotency` of the view are added."""
    return extend_schema(**options)


def paged(row: type[serializers.Serializer]) -> type[serializers.Serializer]:
    """Describe a page of rows."""
    return type(
        f"{row.__name__.removesuffix('Row')}Page",
        (serializers.Serializer,),
        {
            "__doc__": "A page; pass `next_cursor` as `cursor` for the one after it.",
            "data": row(many=True),
            "next_cursor": serializers.CharField(allow_null=True),
        },
    )


class Effect(serializers.Serializer):
    account = serializers.CharField()
    amount = serializers.CharField()


class Due(serializers.Serializer):
    at = serializers.DateTimeField()
    action = serializers.CharField()
    effect = serializers.CharField()


class Preview(serializers.Serializer):
    """What `?preview=true` answers: what the call would do, and nothing done."""

    allowed = serializers.BooleanField()
    refusal = Problem(allow_null=True)
    next_state = serializers.CharField(allow_null=True)
    effects = Effect(many=True)
    deadline = Due(allow_null=True)


class Operation(AutoSchema):
    """Our conventions in every operation: its scope, its key, its refusals, its preview."""

    view: Any

    def get_operation_id(self) -> str:
        path = self.path.removeprefix("/v1/").replace("{", "").replace("}", "")
        return "_".join([self.method.lower(), *path.replace("-", "_").split("/")])

    def get_tags(self) -> list[str]:
        return [self.path.removeprefix("/v1/").split("/")[0]]

    def get_auth(self) -> list[dict[str, list[str]]]:
        public = not self.view.authentication_classes or self.method in self.view.public
        return [{}] if public else [{"token": []}]

    def get_override_parameters(self) -> list[Any]:
        parameters = []
        if self.method in _UNSAFE:
            required = self.view.idempotency.get(self.method) == "required"
            parameters.append(OpenApiParameter("Idempotency-Key", str, "header", required=required))
            if self.view.previewable:
                parameters.append(OpenApiParameter("preview", bool, "query"))
        return parameters

    def get_operation(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        operation = super().get_operation(*args, **kwargs)
        if operation is None:
            return None
        if scope := self.view.scopes.get(self.method):
            operation["x-scope"] = scope
        operation["responses"]["default"] = self._get_response_for_code(
            Problem, "default", ["application/problem+json"]
        )
        if self.method in _UNSAFE and self.view.previewable:
            shape = getattr(self.view, "preview_shape", Preview)
            _or_preview(operation["responses"], self._get_response_for_code(shape, "200", ["application/json"]))
        return operation


def _or_preview(responses: dict[str, Any], preview: dict[str, Any]) -> None:
    done = responses.setdefault("200", preview)
    if done is not preview:
        shapes = [answer["content"]["application/json"]["schema"] for answer in (done, preview)]
        done["content"]["application/json"]["schema"] = {"anyOf": shapes}
