"""The WSGI application: ``rocket serve mysite.wsgi`` serves it as well, but does not know of database connections."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
application = get_wsgi_application()
