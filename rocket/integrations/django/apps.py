"""What Django asks of an app."""

from django.apps import AppConfig


class RocketConfig(AppConfig):
    name = "rocket.integrations.django"
    label = "rocket"  # its last part, "django", would say nothing in Django's messages
    verbose_name = "Rocket"
