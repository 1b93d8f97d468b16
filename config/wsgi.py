import os

from django.core.wsgi import get_wsgi_application

from accounts.edge.lengths import Measured

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

application = Measured(get_wsgi_application())
