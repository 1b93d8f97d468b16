"""What load balancers ask."""

from django.core.cache import cache
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse

from accounts import documents


def healthz(request: HttpRequest) -> JsonResponse:
    """This process answers."""
    return JsonResponse({"status": "ok"})


def document_keys(request: HttpRequest) -> JsonResponse:
    """The public keys that our documents are verified by."""
    return JsonResponse(documents.published(), headers={"Cache-Control": "public, max-age=300"})


def readyz(request: HttpRequest) -> JsonResponse:
    """This process can work: the database answers and is migrated; without Redis it works on, degraded."""
    parts = {"database": _database(), "redis": _redis()}
    ready = parts["database"] == "ok"
    return JsonResponse({"status": "ok" if ready else "unavailable", **parts}, status=200 if ready else 503)


def _database() -> str:
    try:
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except Exception:  # any failure means the same to who asks
        return "unavailable"
    return "migrations are missing" if missing else "ok"


def _redis() -> str:
    try:
        cache.get("readyz")
    except Exception:  # any failure means the same to who asks
        return "degraded"
    return "ok"
