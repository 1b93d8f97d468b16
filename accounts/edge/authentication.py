from typing import Any

from rest_framework.authentication import BaseAuthentication

from accounts import tokens
from accounts.edge import requests
from accounts.errors import Unauthenticated


class BearerToken(BaseAuthentication):
    """`Authorization: Bearer blt_…`: the agent becomes `request.user`, the token `request.auth`."""

    def authenticate(self, request: Any) -> tuple[Any, Any] | None:
        header = request.META.get("HTTP_AUTHORIZATION", "")
        if not header:
            return None
        scheme, _, secret = header.partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            raise Unauthenticated("Send `Authorization: Bearer <token>`.")
        token = tokens.authenticate(secret.strip(), address=requests.client_address(request))
        return token.agent, token

    def authenticate_header(self, request: Any) -> str:
        return "Bearer"
