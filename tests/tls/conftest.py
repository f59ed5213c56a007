"""Certificates of an authority of the tests' own, and connections under TLS."""

import logging
import socket

import pytest

trustme = pytest.importorskip("trustme")

from tls_helpers import Files, Peer, client_context  # noqa: E402 (it is about ssl, as trustme is)

from rocket.tls import Contexts, Settings  # noqa: E402


@pytest.fixture(scope="session")
def authority():
    return trustme.CA(organization_name="Tests")


@pytest.fixture(autouse=True)
def _log_level(caplog):
    """Whatever another test has left: the command line sets it."""
    caplog.set_level(logging.INFO, "rocket")


@pytest.fixture
def files(authority, tmp_path):
    return Files(authority, tmp_path)


@pytest.fixture
def contexts(files):
    return Contexts(Settings(certfile=files.pem("localhost", "127.0.0.1")))


@pytest.fixture
def make_pair(contexts, authority):
    """What makes a connection under TLS and its peer; the handshake is left to the test."""
    made = []

    def make(contexts=contexts, context=None, server_name="localhost", **options):
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.settimeout(20)
        connection = contexts.connection(ours, ("192.0.2.1", "4711"), **options)
        made.append((connection, theirs))
        return connection, Peer(theirs, context or client_context(authority), server_name)

    yield make
    for connection, theirs in made:
        connection.close()
        theirs.close()
