"""Serve a folder's files, with a field of our own in each answer, and a page of our own for what is not there.

python examples/files.py [FOLDER]
"""

import sys

from rocket import FileWorker, Folder, Server

NOT_FOUND = b"<!DOCTYPE html><title>Not here</title><h1>Not here</h1><p><a href='/'>Begin anew</a></p>\n"


class Files(FileWorker):
    """Each pool thread has a worker of its own: attributes need no lock."""

    def tail(self):
        """The last lines of each answer's head."""
        return b"Referrer-Policy: no-referrer\r\n" + super().tail()

    def answer_error(self, request, exc):
        if isinstance(exc, FileNotFoundError):
            self.answer_with(request, 404, NOT_FOUND, "Content-Type: text/html; charset=utf-8\r\n")
        else:
            super().answer_error(request, exc)


def make_server(path, **options):
    return Server(Folder(path, listing=True, cache_control="no-cache"), worker=Files, **options)


if __name__ == "__main__":
    server = make_server(sys.argv[1] if len(sys.argv) > 1 else ".")
    server.serve_forever(lambda: print("\n".join(server.describe())))
