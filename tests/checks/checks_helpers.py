"""A host on which all is well, and what the checks say when one thing is not."""

from dataclasses import replace

from rocket.checks import Application, Host, Subject, run
from rocket.config import Config

GIB = 1 << 30
ALL = {"epoll": None, "kqueue": "not here", "poll": None, "select": None, "selectors": None}
FINE = Host(
    open_files=65536,
    open_files_most=65536,
    somaxconn=4096,
    cpus=4.0,
    allowed_cpus=4,
    memory=16 * GIB,
    threads=4096,
    threads_limit="pids.max is 5000",
    gil=True,
    python="3.11.2",
    monitors=ALL,
)


def findings(options=None, *, application=None, behind=None, **host):
    subject = Subject(Config(**(options or {})), replace(FINE, **host), application or Application("app"), behind)
    return run(subject)


def numbers(*arguments, **keywords):
    return [finding.number for finding in findings(*arguments, **keywords)]


def only(number, found):
    """The one finding that there is."""
    assert [finding.number for finding in found] == [number]
    return found[0]
