"""/ lists the notes and takes new ones, /slow keeps a thread busy, /connections counts the database connections."""

import sys
import threading
import time

from django.db import connections as databases
from django.db.backends.signals import connection_created
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_http_methods

from notes.models import Note


class Count:
    """How many connections were opened, and how many of them closed. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.opened = self.closed = 0  # guarded by _lock
        connection_created.connect(self._created)

    def _created(self, **_: object) -> None:
        with self._lock:
            self.opened += 1

    def close_all(self) -> None:
        """Close the connections of this thread, and say so: `on_thread_exit` of serve.py."""
        open_ones = [each for each in databases.all(initialized_only=True) if each.connection is not None]
        databases.close_all()
        with self._lock:
            self.closed += len(open_ones)
        name = threading.current_thread().name
        sys.stdout.write(f"{name} ends, database connections closed: {len(open_ones)}\n")
        sys.stdout.flush()


count = Count()


@csrf_exempt  # no sessions here, so nothing to forge
@require_http_methods(["GET", "HEAD", "POST"])
def notes(request: HttpRequest) -> HttpResponse:
    if request.method == "POST":
        Note.objects.create(text=request.POST["text"])
    return JsonResponse({"notes": list(Note.objects.values_list("text", flat=True))})


@require_GET
def slow(request: HttpRequest) -> HttpResponse:
    """Ask the database, then wait: several at a time need a thread, and so a connection, each."""
    found = Note.objects.count()
    time.sleep(min(float(request.GET.get("s", 1)), 10))
    return JsonResponse({"notes": found, "thread": threading.current_thread().name})


@require_GET
def connections(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"opened": count.opened, "closed": count.closed, **threads(request)})


def threads(request: HttpRequest) -> dict[str, int]:
    """How many threads there are now, if the server tells."""
    stats = request.META.get("rocket.stats")
    return {"threads": stats()["threads"]} if stats is not None else {}
