"""A Django app: with "rocket.integrations.django" in INSTALLED_APPS there is ``python manage.py rocket``."""
