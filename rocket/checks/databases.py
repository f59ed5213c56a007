"""Checks of the application's database connections against the threads that want them."""

from __future__ import annotations

from collections.abc import Iterator

from rocket.checks.base import WARNING, Complaint, Subject, most_threads

SERVER_LIMITS = {"postgresql": 100, "postgis": 100, "mysql": 151}  # max_connections, as these are shipped


def sqlalchemy_pool(subject: Subject) -> Iterator[Complaint]:
    """An engine has fewer connections than there may be threads."""
    threads = most_threads(subject.config)
    for pool in subject.application.pools:
        if pool.most < threads:
            yield Complaint(
                WARNING,
                f"the engine {pool.engine} gives out {pool.most} connections (pool_size {pool.size} + max_overflow "
                f"{pool.overflow}), but {threads} threads may want one: the others wait for pool_timeout, and fail",
                f"create_engine(..., pool_size={threads}, max_overflow=0), or max_threads = {pool.most}",
            )


def django_pool(subject: Subject) -> Iterator[Complaint]:
    """A pool of Django's has fewer connections than there may be threads."""
    threads = most_threads(subject.config)
    for database in subject.application.databases:
        if database.pool is not None and database.pool < threads:
            yield Complaint(
                WARNING,
                f"DATABASES[{database.alias!r}] has a pool of {database.pool} connections, but {threads} threads may "
                "want one: the others wait for its timeout, and fail",
                f'"OPTIONS": {{"pool": {{"max_size": {threads}}}}}, or max_threads = {database.pool}',
            )


def django_kept(subject: Subject) -> Iterator[Complaint]:
    """Each thread keeps a connection, and all together are more than the database allows by default."""
    threads = most_threads(subject.config)
    for database in subject.application.databases:
        limit = SERVER_LIMITS.get(database.vendor)
        if database.kept and database.pool is None and limit is not None and threads > limit:
            yield Complaint(
                WARNING,
                f"with CONN_MAX_AGE each of {threads} threads keeps a connection to DATABASES[{database.alias!r}]; "
                f"{database.vendor} allows {limit} unless told otherwise, to all processes together",
                f"max_threads = {limit - 10}, or raise max_connections of the database",
            )
