"""A Flask application: ``rocket serve --app-dir examples flask_app``."""

import hashlib
import time
from collections.abc import Iterator

from flask import Flask, Response, redirect, render_template_string, request
from werkzeug.wrappers import Response as AnyResponse

FORM = """<!doctype html>
<title>Flask on Rocket</title>
<h1>Flask on Rocket</h1>
{% if name %}<p id="result">Hello, {{ name }}!</p>{% endif %}
<form method="post" action="/form"><input name="name"><button>Greet</button></form>
<form method="post" action="/upload" enctype="multipart/form-data">
  <input type="file" name="file"><button>Upload</button>
</form>
"""
MEBIBYTE = b"\xa5" * (1 << 20)

app = Flask(__name__)


@app.get("/")
@app.get("/form")
def page() -> str:
    return render_template_string(FORM)


@app.post("/form")
def greet() -> str:
    return render_template_string(FORM, name=request.form["name"])


@app.post("/upload")
def upload() -> Response:
    file = request.files["file"].stream
    digest, size = hashlib.sha256(), 0
    while block := file.read(1 << 16):
        digest.update(block)
        size += len(block)
    return Response(f"{digest.hexdigest()} {size}\n", mimetype="text/plain")


@app.get("/download")
def download() -> Response:
    def blocks(count: int) -> Iterator[bytes]:
        for _ in range(count):
            yield MEBIBYTE

    return Response(blocks(request.args.get("mb", 1, type=int)), mimetype="application/octet-stream")


@app.get("/redirect")
def go() -> AnyResponse:
    return redirect("/")


@app.get("/cookie")
def cookie() -> Response:
    visits = int(request.cookies.get("visits", 0)) + 1
    response = Response(f"visit {visits}\n", mimetype="text/plain")
    response.set_cookie("visits", str(visits), httponly=True, samesite="Lax")
    return response


@app.get("/slow")
def slow() -> Response:
    seconds = min(request.args.get("s", 1.0, type=float), 10.0)
    time.sleep(seconds)
    return Response(f"slept {seconds:g} s\n", mimetype="text/plain")


@app.get("/error")
def error() -> Response:
    raise RuntimeError("this handler always fails")
