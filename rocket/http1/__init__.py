"""HTTP/1.1 on the wire: bytes to requests, responses to bytes. Knows no sockets, threads or options.

Reading order: `grammar` (the alphabets), `head` (request heads), `target` (Host and the four forms of a
target), `chunked` (bodies), `response`. What is refused, with which status, and why: docs/http.md.
"""

from rocket.http1.chunked import LAST_CHUNK, ChunkedBody, chunk
from rocket.http1.grammar import TOKEN, Limits, quote
from rocket.http1.head import CHUNKED, FORWARDING, Head, check_partial, read_head
from rocket.http1.response import CONTINUE, REASONS, ResponseHead, error_response, format_head, http_date
from rocket.http1.target import check_host, split_target, wants_tls

__all__ = [
    "CHUNKED",
    "CONTINUE",
    "FORWARDING",
    "LAST_CHUNK",
    "REASONS",
    "TOKEN",
    "ChunkedBody",
    "Head",
    "Limits",
    "ResponseHead",
    "check_host",
    "check_partial",
    "chunk",
    "error_response",
    "format_head",
    "http_date",
    "quote",
    "read_head",
    "split_target",
    "wants_tls",
]
