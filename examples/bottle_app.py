"""A Bottle application: ``rocket serve --app-dir examples bottle_app``."""

import hashlib
import time
from collections.abc import Iterator

from bottle import Bottle, redirect, request, response, template

FORM = """<!doctype html>
<title>Bottle on Rocket</title>
<h1>Bottle on Rocket</h1>
% if name:
<p id="result">Hello, {{name}}!</p>
% end
<form method="post" action="/form"><input name="name"><button>Greet</button></form>
<form method="post" action="/upload" enctype="multipart/form-data">
  <input type="file" name="file"><button>Upload</button>
</form>
"""
MEBIBYTE = b"\xa5" * (1 << 20)

app = Bottle()


@app.get("/")
@app.get("/form")
def page() -> str:
    return str(template(FORM, name=None))


@app.post("/form")
def greet() -> str:
    return str(template(FORM, name=request.forms.getunicode("name")))


@app.post("/upload")
def upload() -> str:
    response.content_type = "text/plain"
    file = request.files["file"].file
    digest, size = hashlib.sha256(), 0
    while block := file.read(1 << 16):
        digest.update(block)
        size += len(block)
    return f"{digest.hexdigest()} {size}\n"


@app.get("/download")
def download() -> Iterator[bytes]:
    response.content_type = "application/octet-stream"
    for _ in range(int(request.query.get("mb", 1))):
        yield MEBIBYTE


@app.get("/redirect")
def go() -> None:
    redirect("/", 302)


@app.get("/cookie")
def cookie() -> str:
    response.content_type = "text/plain"
    visits = int(request.get_cookie("visits", "0")) + 1
    response.set_cookie("visits", str(visits), httponly=True, samesite="lax")
    return f"visit {visits}\n"


@app.get("/slow")
def slow() -> str:
    response.content_type = "text/plain"
    seconds = min(float(request.query.get("s", 1.0)), 10.0)
    time.sleep(seconds)
    return f"slept {seconds:g} s\n"


@app.get("/error")
def error() -> str:
    raise RuntimeError("this handler always fails")
