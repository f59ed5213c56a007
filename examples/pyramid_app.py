"""A Pyramid application: ``rocket serve --app-dir examples "pyramid_app:create()"``.

Pyramid lets a view's exception through to the server, so that `/error` shows Rocket's own answer.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from html import escape

from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPFound
from pyramid.request import Request
from pyramid.response import Response

FORM = """<!doctype html>
<title>Pyramid on Rocket</title>
<h1>Pyramid on Rocket</h1>
{result}
<form method="post" action="/form"><input name="name"><button>Greet</button></form>
<form method="post" action="/upload" enctype="multipart/form-data">
  <input type="file" name="file"><button>Upload</button>
</form>
"""
MEBIBYTE = b"\xa5" * (1 << 20)

View = Callable[[Request], Response]


def page(request: Request) -> Response:
    return Response(FORM.format(result=""))


def greet(request: Request) -> Response:
    return Response(FORM.format(result=f'<p id="result">Hello, {escape(request.POST["name"])}!</p>'))


def upload(request: Request) -> Response:
    file = request.POST["file"].file
    digest, size = hashlib.sha256(), 0
    while block := file.read(1 << 16):
        digest.update(block)
        size += len(block)
    return Response(f"{digest.hexdigest()} {size}\n", content_type="text/plain")


def download(request: Request) -> Response:
    def blocks(count: int) -> Iterator[bytes]:
        for _ in range(count):
            yield MEBIBYTE

    return Response(app_iter=blocks(int(request.GET.get("mb", 1))), content_type="application/octet-stream")


def go(request: Request) -> Response:
    return HTTPFound("/")


def cookie(request: Request) -> Response:
    visits = int(request.cookies.get("visits", 0)) + 1
    response = Response(f"visit {visits}\n", content_type="text/plain")
    response.set_cookie("visits", str(visits), httponly=True, samesite="Lax")
    return response


def slow(request: Request) -> Response:
    seconds = min(float(request.GET.get("s", 1.0)), 10.0)
    time.sleep(seconds)
    return Response(f"slept {seconds:g} s\n", content_type="text/plain")


def error(request: Request) -> Response:
    raise RuntimeError("this handler always fails")


ROUTES: list[tuple[str, str, View]] = [
    ("/", "GET", page),
    ("/form", "GET", page),
    ("/form", "POST", greet),
    ("/upload", "POST", upload),
    ("/download", "GET", download),
    ("/redirect", "GET", go),
    ("/cookie", "GET", cookie),
    ("/slow", "GET", slow),
    ("/error", "GET", error),
]


def create() -> Callable[..., Iterator[bytes]]:
    """Return the WSGI application."""
    config = Configurator()
    for path, method, view in ROUTES:
        name = f"{method} {path}"
        config.add_route(name, path, request_method=method)
        config.add_view(view, route_name=name)
    return config.make_wsgi_app()
