"""Settings of the example. DJANGO_DEBUG=0 switches DEBUG off, NOTES_DATABASE names another database file."""

import os
from pathlib import Path

ROOT = Path(__file__).parent.parent

DEBUG = os.environ.get("DJANGO_DEBUG", "1") == "1"
SECRET_KEY = "only an example, nothing is signed with it"
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]
ROOT_URLCONF = "mysite.urls"
WSGI_APPLICATION = "mysite.wsgi.application"
INSTALLED_APPS = ["django.contrib.staticfiles", "rocket.integrations.django", "notes"]
STATIC_URL = "static/"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("NOTES_DATABASE", ROOT / "notes.sqlite3"),
        # A connection stays open for the next request in its thread. So one must close it when the thread ends.
        "CONN_MAX_AGE": None,
    }
}
