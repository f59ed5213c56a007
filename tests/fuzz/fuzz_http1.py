"""Fuzz `rocket.http1`: no bytes may raise anything but `BadRequest`, and every split must give the same requests.

    python tests/fuzz/fuzz_http1.py tests/fuzz/corpus              guided by coverage, if atheris is installed
    python tests/fuzz/fuzz_http1.py --seconds 60 [--seed 1]        random mutations of the corpus, without it

The first byte of an input says where to split the rest. A crash is an input to keep: put it into the corpus, which
the random mode also runs as it is.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE.parent / "http1"), str(HERE)]

try:
    import atheris
except ImportError:
    atheris = None

if atheris is not None:
    with atheris.instrument_imports(include=["rocket"]):
        from rocket import http1
else:
    from rocket import http1

from fuzz_random import main  # noqa: E402
from http1_reader import byte_by_byte, read  # noqa: E402

from rocket.errors import ApplicationError  # noqa: E402

SMALL = http1.Limits(request_line=64, fields=4, field_size=48, head_size=160, body_size=64)


def check(data):
    """Raise AssertionError, or whatever should not be raised, if *data* shows a fault."""
    cut, data = (data[0], data[1:]) if data else (0, b"")
    whole = read([data])
    at = cut * len(data) // 255
    assert read([data[:at], data[at:]]) == whole
    assert read(byte_by_byte(data)) == whole
    assert read(byte_by_byte(data), SMALL)[0] == read([data], SMALL)[0]
    for request in whole[0]:
        assert request.head.length in {http1.CHUNKED, len(request.body)}
        assert all(value == value.strip(" \t") and not set("\r\n\0") & set(value) for value in request.fields.values())
    text = data.decode("latin-1")
    try:
        head = http1.format_head(text[:8], [(text[8:16], text[16:])])
    except ApplicationError:
        return
    assert head.text.count("\r") == head.text.count("\n") == head.text.count("\r\n") <= 2


TARGETS = [([path.read_bytes() for path in sorted((HERE / "corpus").iterdir())], check)]

if __name__ == "__main__":
    if atheris is not None and "--seconds" not in sys.argv:
        atheris.Setup(sys.argv, check)
        atheris.Fuzz()
    main(TARGETS, __doc__)
