"""Every address: the API under `/v1`, its documents, the admin, and what machines ask of a process."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerSplitView

from accounts import documents
from config import machines, metrics

api: list[URLPattern | URLResolver] = [
    path("openapi.json", SpectacularJSONAPIView.as_view(), name="openapi"),
    path("", include("accounts.urls")),
    path("", include("escrow.urls")),
    path("", include("disputes.urls")),
    path("", include("marketplace.urls")),
]
urlpatterns = [
    path("v1/", include(api)),
    path("admin/", admin.site.urls),
    path("docs", SpectacularSwaggerSplitView.as_view(url_name="openapi"), name="docs"),
    path("", RedirectView.as_view(pattern_name="docs"), name="home"),
    path("healthz", machines.healthz),
    path("readyz", machines.readyz),
    path("metrics", metrics.metrics),
    path(documents.PUBLISHED_AT.removeprefix("/"), machines.document_keys),
]
handler400 = "config.api.bad_request"
handler404 = "config.api.not_found"
handler500 = "config.api.server_error"
