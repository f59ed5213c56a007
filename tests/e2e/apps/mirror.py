"""Answers with the environ, as JSON; /last with that of the last request to /check."""

import json

last = {}


def application(environ, start_response):
    told = {key: value for key, value in environ.items() if isinstance(value, str)}
    if environ["PATH_INFO"] == "/check":
        last.update(told)
    body = json.dumps(last if environ["PATH_INFO"] == "/last" else told).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
