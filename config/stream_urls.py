"""What the `stream` process serves: the stream, and what machines ask of a process. The rest is `web`'s."""

from django.http import HttpRequest, JsonResponse
from django.urls import path

from accounts.api import stream
from accounts.edge.problems import document
from accounts.errors import NotFound
from config import machines
from config.api import MEDIA_TYPE

urlpatterns = [
    path("v1/events/stream", stream.EventStream.as_view()),
    path("healthz", machines.healthz),
    path("readyz", machines.readyz),
]
handler400 = "config.api.bad_request"
handler404 = "config.stream_urls.not_found"
handler500 = "config.api.server_error"


def not_found(request: HttpRequest, exception: Exception) -> JsonResponse:
    refusal = NotFound("This process serves the event stream alone.")
    return JsonResponse(document(refusal, request), status=404, content_type=MEDIA_TYPE)
