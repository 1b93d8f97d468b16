"""The door of the `stream` process; everything else is served by wsgi.py, which is faster for plain views."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

application = get_asgi_application()
