"""What a file is: its type by its name, and which of its encodings a client wants. Values in, values out."""

from __future__ import annotations

import functools
import mimetypes
import re
from collections.abc import Mapping

# Where Python's own table, and the host's, may have a gap or an old name (RFC 9239). What is in `mimetypes` because
# somebody has added it (mimetypes.add_type) counts more.
_GAPS = {
    ".avif": "image/avif",
    ".flac": "audio/flac",
    ".md": "text/markdown",
    ".mjs": "text/javascript",
    ".opus": "audio/ogg",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
}
# Files that are packed, when they are asked for by their own names: what is in them is for the one who unpacks them.
_PACKED = {
    "gzip": "application/gzip",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
    "compress": "application/x-compress",
    "zstd": "application/zstd",
}
UNKNOWN = "application/octet-stream"

CODINGS = {"br": b".br", "zstd": b".zst", "gzip": b".gz"}  # content coding -> what its files' names end in


def content_type(name: bytes, charset: str) -> str:
    """Return the Content-Type of a file called *name*; texts have *charset*, if it is not empty."""
    # The slash: `mimetypes` reads URLs, and must not take a name such as "data:text/html,x" for one.
    text = "/" + name.decode("latin-1")
    kind, packed = mimetypes.guess_type(text, strict=False)
    if name.lower().endswith(b".zst"):
        packed = "zstd"  # known from Python 3.14 on
    if packed is not None:
        return _PACKED.get(packed, UNKNOWN)
    if kind is None:
        kind = _GAPS.get(text[text.rfind(".") :].lower(), UNKNOWN)
    elif kind in {"application/javascript", "application/x-javascript"}:
        kind = "text/javascript"
    if charset and kind.startswith("text/"):
        return f"{kind}; charset={charset}"
    return kind


def choose(accept: str, offered: Mapping[str, object]) -> str:
    """Return the content coding to send, by the Accept-Encoding field *accept*; "" for none.

    *offered* are codings in the order of our preference, all of them better than none (RFC 9110, 12.5.3).
    """
    wanted = _qualities(accept)
    others = wanted.get("*", 0.0)
    best, quality = "", 0.0
    for coding in offered:
        here = wanted.get(coding, others)
        if here > quality:
            best, quality = coding, here
    # Plain is what is left when nothing else will do, unless the client says that it would rather have it so.
    return "" if wanted.get("identity", others) > quality else best


_ITEM = re.compile(
    r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+)(?:[ \t]*;[ \t]*q[ \t]*=[ \t]*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?", re.IGNORECASE
).fullmatch


@functools.lru_cache(maxsize=256)
def _qualities(accept: str) -> Mapping[str, float]:
    found: dict[str, float] = {}
    for item in accept.lower().split(","):
        match = _ITEM(item.strip(" \t"))
        if match is not None:  # what is malformed is as if it was not there
            found[match[1].replace("x-gzip", "gzip")] = 1.0 if match[2] is None else float(match[2])
    return found
