"""What is seen of Django's settings and SQLAlchemy's engines."""

from types import SimpleNamespace

import pytest

from rocket.checks import look_at
from rocket.checks.application import Application, Database, Pool


def django(**databases):
    return {"django.conf": SimpleNamespace(settings=SimpleNamespace(configured=True, DATABASES=databases))}


def entry(**others):
    return {"ENGINE": "django.db.backends.postgresql", **others}


def test_an_application_without_databases():
    assert look_at("app", {}) == Application("app")


def test_engines_are_found_wherever_they_are():
    sqlalchemy = pytest.importorskip("sqlalchemy")
    url = "sqlite:////nowhere/rocket-checks.db"
    kept = [{"deep": sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.QueuePool, pool_size=3, max_overflow=2)}]
    assert kept[0]["deep"].execution_options(x=1) is not kept[0]["deep"]  # a second engine with the same pool
    assert [pool for pool in look_at("app").pools if pool.engine == url] == [Pool(url, 3, 2)]


def test_passwords_are_not_shown():
    sqlalchemy = pytest.importorskip("sqlalchemy")
    url = sqlalchemy.URL.create("sqlite", "me", "secret", "host", database="rocket-checks-password")
    engine = object.__new__(sqlalchemy.engine.Engine)  # no driver would take that URL
    engine.pool, engine.url = sqlalchemy.pool.QueuePool(lambda: None, pool_size=1), url
    found = [pool for pool in look_at("app").pools if "rocket-checks-password" in pool.engine]
    assert found == [Pool("sqlite://me:***@host/rocket-checks-password", 1, 10)]


@pytest.mark.parametrize(("size", "overflow"), [(0, 10), (5, -1)])
def test_pools_without_an_end_are_none(size, overflow):
    sqlalchemy = pytest.importorskip("sqlalchemy")
    url = f"sqlite:////nowhere/endless-{size}"
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.QueuePool, pool_size=size, max_overflow=overflow)
    assert [pool for pool in look_at("app").pools if pool.engine == str(engine.url)] == []


@pytest.mark.parametrize(
    ("wanted", "most"),
    [(True, 4), ({"min_size": 2}, 2), ({"max_size": 9}, 9), ({"min_size": 2, "max_size": None}, 2), (False, None)],
)
def test_django_pools(wanted, most):
    seen = look_at("app", django(default=entry(OPTIONS={"pool": wanted})))
    assert seen.databases == (Database("default", "postgresql", kept=False, pool=most),)


@pytest.mark.parametrize(("age", "kept"), [(0, False), (60, True), (None, True)])
def test_kept_connections_of_django(age, kept):
    assert look_at("app", django(default=entry(CONN_MAX_AGE=age))).databases[0].kept is kept
    assert look_at("app", django(default=entry())).databases[0].kept is False


def test_settings_that_break_or_are_not_there():
    class Broken:
        configured = True

        @property
        def DATABASES(self):
            raise RuntimeError

    assert look_at("app", {"django.conf": SimpleNamespace(settings=Broken())}).databases == ()
    assert look_at("app", {"django.conf": SimpleNamespace(settings=SimpleNamespace(configured=False))}).databases == ()
    assert look_at("app", django(default={})).databases == ()
