"""Fixtures of the tests of the classic API."""

import logging

import pytest
from classic_helpers import HERE, ask, hello

from rocket.classic import Rocket


@pytest.fixture
def make():
    """Make a Rocket of a function, or of an app_info; stopped at the end."""
    made = []

    def make(app=hello, interfaces=HERE, cls=Rocket, **options):
        info = app if isinstance(app, dict) else {"wsgi_app": app}
        made.append(cls(interfaces, "wsgi", info, **options))
        return made[-1]

    yield make
    for each in made:
        each.stop()


@pytest.fixture
def run(make):
    """Start one in the background, and return what asks it for a path."""

    def run(app=hello, **options):
        server = make(app, **options)
        server.start(background=True)
        return lambda path="": ask(server, path)

    return run


@pytest.fixture
def loggers():
    """The classic loggers by name; their handlers and levels are put back."""
    names = ("Rocket", "Rocket.Requests", "Rocket.Errors")
    found = {name: logging.getLogger(name) for name in names}
    before = {name: (each.level, list(each.handlers)) for name, each in found.items()}
    yield found
    for name, (level, handlers) in before.items():
        found[name].setLevel(level)
        found[name].handlers[:] = handlers
