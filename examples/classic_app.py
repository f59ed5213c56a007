"""A program for Rocket 1.x, unchanged: its API, and work behind the answer: ``python examples/classic_app.py 8000``."""

import logging
import sys
import time
from html import escape
from urllib.parse import parse_qs

from rocket import Rocket

PAGE = """<!doctype html>
<title>Reports</title>
<ul>{reports}</ul>
<form action="/start"><input name="name" placeholder="a name"><button>Make a report</button></form>
"""


def make_report(name):
    time.sleep(1)
    return f"the report {name}"


def app(environ, start_response):
    """/ shows which reports there are; /start?name=... begins one; /report?name=... waits for it."""
    executor, futures = environ["wsgiorg.executor"], environ["wsgiorg.futures"]
    name = parse_qs(environ["QUERY_STRING"]).get("name", ["?"])[0]
    if environ["PATH_INFO"] == "/start":
        try:
            executor.submit(make_report, name).remember(name, lifespan=600)
        except NameError as exc:
            start_response("409 Conflict", [("Content-Type", "text/plain; charset=utf-8")])
            return [str(exc).encode()]
        start_response("303 See Other", [("Location", "/")])
        return []
    if environ["PATH_INFO"] == "/report" and name in futures:
        start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
        return [futures[name].result().encode()]
    states = [(name, "done" if future.done() else "in progress") for name, future in futures.items()]
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
    return [PAGE.format(reports="".join(f"<li>{escape(name)}: {state}" for name, state in states)).encode()]


if __name__ == "__main__":
    logging.basicConfig(format="%(levelname)s:%(name)s:%(message)s")
    logging.getLogger("Rocket").setLevel(logging.INFO)
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    server = Rocket(("127.0.0.1", port), "wsgi", {"wsgi_app": app, "futures": True}, min_threads=2, max_threads=16)
    server.start()
