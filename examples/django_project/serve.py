"""The server in a program of one's own, with a hook of one's own: ``python serve.py --max-threads 16``.

A thread that has served keeps its database connection (CONN_MAX_AGE). When it has been idle for thread_idle_timeout
it is retired, and `on_thread_exit`, which is called in it, closes the connection. `manage.py rocket` does the same
with `django.db.connections.close_all`.
"""

import argparse

from mysite.wsgi import application
from notes.views import count
from rocket import Server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bind", default="127.0.0.1:8000")
    parser.add_argument("--max-threads", default=16, type=int)
    parser.add_argument("--scaling", default="adaptive", metavar="POLICY")
    parser.add_argument("--thread-idle-timeout", default=30.0, type=float, metavar="SECONDS")
    options = vars(parser.parse_args())
    server = Server(application, on_thread_exit=count.close_all, min_threads=2, **options)
    server.serve_forever(lambda: print(*server.describe(), sep="\n", flush=True))


if __name__ == "__main__":
    main()
