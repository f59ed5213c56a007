"""What can be seen of the application's databases, once it is imported: Django's settings, SQLAlchemy's engines.

Only what is loaded already is looked at: nothing is imported for it, and no connection is opened. An engine that is
made with the first request cannot be seen.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional


@dataclass(frozen=True)
class Pool:
    """An SQLAlchemy engine with a pool that has an end."""

    engine: str  # its URL, without the password
    size: int
    overflow: int

    @property
    def most(self) -> int:
        return self.size + self.overflow


@dataclass(frozen=True)
class Database:
    """An entry of Django's DATABASES."""

    alias: str
    vendor: str  # "postgresql", "mysql", "sqlite3", "oracle", or another engine's name
    kept: bool  # CONN_MAX_AGE: each thread keeps its connection
    pool: Optional[int] = None  # OPTIONS["pool"]: connections at most, if there is one


@dataclass(frozen=True)
class Application:
    """What was seen. Without a *name* no application was given, and none looked at."""

    name: Optional[str] = None
    pools: tuple[Pool, ...] = ()
    databases: tuple[Database, ...] = ()


def look_at(name: str, modules: Mapping[str, Any] = sys.modules) -> Application:
    """Return what can be seen of the application *name*, which is imported already."""
    return Application(name, tuple(_sqlalchemy_pools(modules)), tuple(_django_databases(modules)))


def _sqlalchemy_pools(modules: Mapping[str, Any]) -> list[Pool]:
    """Return the pools of all engines that there are.

    By the garbage collector: an engine may be a module's global, an extension's attribute (Flask-SQLAlchemy) or in a
    session factory's closure, and all of these serve the same threads.
    """
    engine_class = getattr(modules.get("sqlalchemy.engine"), "Engine", None)
    queue_pool = getattr(modules.get("sqlalchemy.pool"), "QueuePool", None)
    if engine_class is None or queue_pool is None:
        return []
    found: dict[int, Pool] = {}  # by the pool: engines made with execution_options() share one
    for each in gc.get_objects():
        try:
            if not isinstance(each, engine_class) or not isinstance(each.pool, queue_pool):
                continue
            # There is no public name for it: overflow() is what is open beyond the size now. -1: no end.
            size, overflow = each.pool.size(), getattr(each.pool, "_max_overflow", 0)
            url = each.url.render_as_string(hide_password=True)
        except Exception:  # isinstance() runs the __class__ of whatever lies about, and a pool may be anybody's
            continue
        if size > 0 and overflow >= 0:  # size 0: no limit
            found[id(each.pool)] = Pool(url, size, overflow)
    return sorted(found.values(), key=lambda pool: (pool.most, pool.engine))


def _django_databases(modules: Mapping[str, Any]) -> list[Database]:
    settings = getattr(modules.get("django.conf"), "settings", None)
    if settings is None or not settings.configured:
        return []
    try:
        databases = dict(settings.DATABASES)
    except Exception:  # ImproperlyConfigured, or what the settings module raises
        return []
    found = []
    for alias, entry in databases.items():
        if not isinstance(entry, Mapping) or not entry.get("ENGINE"):
            continue
        options = entry.get("OPTIONS") or {}
        found.append(
            Database(
                alias=str(alias),
                vendor=str(entry["ENGINE"]).rpartition(".")[2],
                kept=entry.get("CONN_MAX_AGE", 0) is None or bool(entry.get("CONN_MAX_AGE", 0)),
                pool=_django_pool(options.get("pool")),
            )
        )
    return found


def _django_pool(wanted: object) -> Optional[int]:
    """Return the size at most of the psycopg_pool.ConnectionPool that Django 5.1 makes of *wanted*.

    True means its defaults: min_size=4, and max_size=None, that is as many as min_size.
    """
    if not wanted:
        return None
    keywords = wanted if isinstance(wanted, Mapping) else {}
    most = keywords.get("max_size") or keywords.get("min_size", 4)
    return most if isinstance(most, int) else None
