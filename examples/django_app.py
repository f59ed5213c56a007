"""A Django application in one file: ``rocket serve --app-dir examples django_app``."""

import hashlib
import secrets
import time
from collections.abc import Iterator

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.template import Context, Engine
from django.urls import path
from django.views.decorators.http import require_GET, require_http_methods, require_POST

FORM = Engine().from_string("""<!doctype html>
<title>Django on Rocket</title>
<h1>Django on Rocket</h1>
{% if name %}<p id="result">Hello, {{ name }}!</p>{% endif %}
<form method="post" action="/form"><input name="name"><button>Greet</button></form>
<form method="post" action="/upload" enctype="multipart/form-data">
  <input type="file" name="file"><button>Upload</button>
</form>
""")
MEBIBYTE = b"\xa5" * (1 << 20)

settings.configure(
    ALLOWED_HOSTS=["localhost", "127.0.0.1", "[::1]"],
    ROOT_URLCONF=__name__,
    SECRET_KEY=secrets.token_hex(),  # nothing here is signed for longer than the process lives
    USE_TZ=True,
)


@require_http_methods(["GET", "HEAD", "POST"])
def form(request: HttpRequest) -> HttpResponse:
    return HttpResponse(FORM.render(Context({"name": request.POST.get("name")})))


@require_POST
def upload(request: HttpRequest) -> HttpResponse:
    digest, size = hashlib.sha256(), 0
    for block in request.FILES["file"].chunks():
        digest.update(block)
        size += len(block)
    return HttpResponse(f"{digest.hexdigest()} {size}\n", content_type="text/plain")


@require_GET
def download(request: HttpRequest) -> StreamingHttpResponse:
    def blocks(count: int) -> Iterator[bytes]:
        for _ in range(count):
            yield MEBIBYTE

    return StreamingHttpResponse(blocks(int(request.GET.get("mb", 1))), content_type="application/octet-stream")


@require_GET
def go(request: HttpRequest) -> HttpResponse:
    return HttpResponseRedirect("/")


@require_GET
def cookie(request: HttpRequest) -> HttpResponse:
    visits = int(request.COOKIES.get("visits", 0)) + 1
    response = HttpResponse(f"visit {visits}\n", content_type="text/plain")
    response.set_cookie("visits", str(visits), httponly=True, samesite="Lax")
    return response


@require_GET
def slow(request: HttpRequest) -> HttpResponse:
    seconds = min(float(request.GET.get("s", 1.0)), 10.0)
    time.sleep(seconds)
    return HttpResponse(f"slept {seconds:g} s\n", content_type="text/plain")


@require_GET
def error(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("this handler always fails")


urlpatterns = [
    path("", form),
    path("form", form),
    path("upload", upload),
    path("download", download),
    path("redirect", go),
    path("cookie", cookie),
    path("slow", slow),
    path("error", error),
]

application = get_wsgi_application()
