"""Rocket where others start it: Django's manage.py, Paste Deploy's .ini files, pytest. docs/integrations.md."""
