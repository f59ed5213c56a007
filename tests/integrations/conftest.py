"""What the tests of the integrations share."""

import pytest
from process_helpers import Process


@pytest.fixture
def start():
    """Start Python programs: `start("manage.py", "rocket", "0", folder=...)`; they are ended."""
    started = []

    def start(*arguments, **options):
        started.append(Process(*arguments, **options))
        return started[-1]

    yield start
    for each in started:
        each.end()
