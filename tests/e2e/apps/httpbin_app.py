"""httpbin (PyPI), as it is and in wsgiref.validate."""

from wsgiref.validate import validator

from httpbin import app as application


class _Input:
    """wsgi.input for Flask, which reads without a size: the validator does not allow that."""

    def __init__(self, source):
        self._source = source

    def read(self, size=-1):
        return self._source.read(size)

    def readline(self, size=-1):
        return self._source.readline(size)

    def __iter__(self):
        return iter(self._source)


def _correct(environ, start_response):
    """httpbin without the sins that the validator would find: the server is to be validated."""

    def start(status, headers, exc_info=None):
        names = {name.lower() for name, _ in headers}
        if status[:3] in {"204", "304"}:
            headers = [field for field in headers if field[0].lower() != "content-type"]
        elif "content-type" not in names:
            headers = [*headers, ("Content-Type", "text/plain")]
        return start_response(status, headers, *([exc_info] if exc_info else []))

    return application({**environ, "wsgi.input": _Input(environ["wsgi.input"])}, start)


validated = validator(_correct)
