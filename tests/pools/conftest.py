"""Fixtures of the pools' tests."""

import logging

import pytest


@pytest.fixture(autouse=True)
def _audible_pool(caplog):
    """Let the pool's log be heard, whatever level another test has set for Rocket's."""
    caplog.set_level(logging.INFO, "rocket.pool")
