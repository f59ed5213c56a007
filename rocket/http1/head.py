"""Request heads: the request line and the field lines (RFC 9112, sections 2 to 6).

A head that is right is read in one loop over its lines. What clients send again and again, most of their lines, is
remembered: a look-up is all that such a line costs. A head that is wrong, or not all there, goes to `check_partial`,
line by line: only that says what is wrong. Both are built from the same pieces of `grammar`.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Optional

from rocket.errors import (
    BadRequest,
    BodyTooLarge,
    ExpectationFailed,
    HeadTooLarge,
    NotImplementedByServer,
    TargetTooLong,
    VersionNotSupported,
)
from rocket.http1.grammar import FIELD, REQUEST_LINE, TARGET, TOKEN, VALUE, Limits, quote
from rocket.http1.target import KNOWN_HOSTS, check_host, check_target

CHUNKED = -1
# Under this key the fields' dict lists the keys of Forwarded, X-Forwarded-* and X-Real-IP fields, with spaces between
# them, if there are any: so that a request without them pays nothing for whoever has to distrust them.
FORWARDING = "rocket.forwarding"


class Head(NamedTuple):
    """What a request's head says, but for its fields."""

    method: str
    target: str
    minor: int  # of HTTP/1.x: 0 or 1
    end: int  # index of the first byte after the head
    length: int  # of the body in bytes; CHUNKED if only its end will tell; 0 if there is none
    keep_alive: bool  # the client allows another request on this connection
    expects_continue: bool  # the client may be waiting for a 100 before it sends the body


_request = re.compile(REQUEST_LINE).fullmatch
_good_field = re.compile(FIELD).fullmatch
_new_head = tuple.__new__  # 0.1 us less than Head(...) (bench/parse.py)

# Field name as sent -> key in a CGI environment. Filled by any thread; look-up, store and clear() are atomic.
_NAMES: dict[str, str] = {}
_NAMES_SIZE = 1024
_NAMES_LENGTH = 64
# Field line -> its key and value. Only fields that say the same in request after request, and hold no secret.
_LINES: dict[str, tuple[str, str]] = {}
_LINES_SIZE = 1024
_REPEATED = frozenset(
    f"HTTP_{name}"
    for name in """
    ACCEPT ACCEPT_CHARSET ACCEPT_ENCODING ACCEPT_LANGUAGE CACHE_CONTROL CONNECTION DNT HOST ORIGIN PRAGMA PRIORITY
    SEC_CH_UA SEC_CH_UA_MOBILE SEC_CH_UA_PLATFORM SEC_FETCH_DEST SEC_FETCH_MODE SEC_FETCH_SITE SEC_FETCH_USER SEC_GPC TE
    UPGRADE_INSECURE_REQUESTS USER_AGENT VIA X_REQUESTED_WITH
    """.split()  # noqa: SIM905
)
# Request line -> what it says. Without a query: that is different each time, and may hold a secret.
_REQUESTS: dict[str, tuple[str, str, int]] = {}
_REQUESTS_SIZE = 1024
_SHORT = 256  # characters: a longer line is not remembered
_FORWARDING_NAMES: dict[str, str] = {}  # as _NAMES, for names that `FORWARDING` has to list


def read_head(data: bytes, fields: dict[str, str], limits: Limits, start: int = 0) -> Optional[Head]:
    """Read the head that *data* begins with; put its fields into *fields* under their CGI names.

    *fields* must not hold any of these names yet; what it gets besides is `FORWARDING`. Return None if the head is
    incomplete; call `check_partial`, then, which finds what is wrong already. *start*: the head is known not to end
    before this index. Any `BadRequest`; *fields* is of no use then.
    """
    end = data.find(b"\r\n\r\n", start - 3 if start > 3 else 0)
    if end < 0:
        if len(data) > limits.head_size:
            check_partial(data, 0, limits)
        return None
    max_request_line, max_fields, max_field_size, max_head_size, max_body_size = limits
    if end + 4 > max_head_size:
        _check_head_size(data[: end + 4], limits)
    lines = data[:end].decode("latin-1").split("\r\n")
    if end > max_field_size or end > max_request_line:
        check_partial(data[: end + 4], 0, limits)  # one line may be too long
    line = lines[0]
    request = _REQUESTS.get(line) or _read_request_line(line)
    if request is None:
        return _read_odd_head(data, fields, limits)
    method, target, minor = request
    if len(lines) > 1:
        if len(lines) - 1 > max_fields:
            check_partial(data[: end + 4], 0, limits)  # a line of it may deserve another answer
            raise HeadTooLarge(f"{len(lines) - 1} header fields, more than {max_fields}")
        del lines[0]
        known = _LINES
        for line in lines:
            pair = known.get(line) or _read_field(line, fields)
            if pair is None:
                return _read_odd_head(data, fields, limits)
            key, value = pair
            if key in fields:
                value = _join(key, fields[key], value)
            elif not key:
                continue
            fields[key] = value

    # What frames the message comes first: no other error may stand for one of these.
    if "HTTP_TRANSFER_ENCODING" in fields:
        length = _check_codings(fields, minor)
    elif "CONTENT_LENGTH" in fields:
        length = _content_length(fields["CONTENT_LENGTH"])
    else:
        length = 0
    host = fields.get("HTTP_HOST")
    if host is None:
        if minor:
            raise BadRequest("no Host")
    elif host not in KNOWN_HOSTS:  # 0.5 us less than the expression (bench/parse.py)
        check_host(host)
    if target[0] != "/" or method == "CONNECT":
        check_target(method, target)
    expects = "HTTP_EXPECT" in fields and _expects_continue(fields["HTTP_EXPECT"]) and length != 0 and minor == 1
    if length > max_body_size:
        raise BodyTooLarge(f"Content-Length {length} is more than {max_body_size}")
    connection = fields.get("HTTP_CONNECTION")
    keep_alive = minor == 1 if connection is None else _keeps_alive(connection, minor)
    return _new_head(Head, (method, target, minor, end + 4, length, keep_alive, expects))


def _read_odd_head(data: bytes, fields: dict[str, str], limits: Limits) -> Optional[Head]:
    """Skip the empty lines that some clients send after a body (RFC 9112, 2.2), or say what is wrong."""
    begin = _begin(data)
    if begin and data[begin : begin + 1] != b"\r":
        head = read_head(data[begin:], fields, limits)
        return None if head is None else head._replace(end=head.end + begin)
    if check_partial(data, 0, limits):
        raise BadRequest("malformed head")  # never, as long as both readers agree
    return None


def _check_head_size(head: bytes, limits: Limits) -> None:
    check_partial(head, 0, limits)  # a line of it may deserve another answer
    if len(head) - _begin(head) > limits.head_size:
        raise HeadTooLarge(f"the head is longer than {limits.head_size} bytes")


def _field_too_long(line: str, limits: Limits) -> HeadTooLarge:
    return HeadTooLarge(f"the field {quote(line.partition(':')[0])} is longer than {limits.field_size} bytes")


def _read_request_line(line: str) -> Optional[tuple[str, str, int]]:
    match = _request(line)
    if match is None:
        return None
    method, target, digit = match.groups()
    request = method, target, 0 if digit == "0" else 1
    if "?" not in line and len(line) <= _SHORT:
        if len(_REQUESTS) >= _REQUESTS_SIZE:
            _REQUESTS.clear()
        _REQUESTS[line] = request
    return request


def _read_field(line: str, fields: dict[str, str]) -> Optional[tuple[str, str]]:
    """Return a field line's key and value; the key is "" if the field is to be dropped. None: it is malformed."""
    name, colon, value = line.partition(":")
    key = _NAMES.get(name)  # it was found valid before
    # Of ASCII what is printable is what VALUE allows but for the tab; 0.15 us less than to ask the expression.
    if not (key and colon and value.isascii() and value.isprintable()):
        if _good_field(line) is None:
            return None
        key = key or _cgi_name(name, fields)
    pair = key, value.strip(" \t")
    if key in _REPEATED and len(line) <= _SHORT:
        if len(_LINES) >= _LINES_SIZE:
            _LINES.clear()
        _LINES[line] = pair
    return pair


def _cgi_name(name: str, fields: dict[str, str]) -> str:
    """Return the key for a field name that is not in `_NAMES`, "" if the field is to be dropped.

    "_" and "-" are the same in a key: with names that hold "_" a client could write what a proxy in front of us is
    trusted to write. HTTP_PROXY is a variable that HTTP clients obey (CVE-2016-5385), and Proxy is no field.
    """
    key = _FORWARDING_NAMES.get(name, "")
    if not key:
        if "_" in name:
            return ""
        key = name.upper().replace("-", "_")
        if key == "PROXY":
            return ""
        if key not in {"CONTENT_TYPE", "CONTENT_LENGTH"}:
            key = "HTTP_" + key
        forwarding = key.startswith("HTTP_X_FORWARDED") or key in {"HTTP_FORWARDED", "HTTP_X_REAL_IP"}
        names = _FORWARDING_NAMES if forwarding else _NAMES
        if len(name) <= _NAMES_LENGTH:
            if len(names) >= _NAMES_SIZE:
                names.clear()
            names[name] = key
        if not forwarding:
            return key
    listed = fields.get(FORWARDING)
    fields[FORWARDING] = key if listed is None else f"{listed} {key}"
    return key


def _join(key: str, first: str, second: str) -> str:
    """Join two fields of one name (RFC 9110, 5.3; Cookie: RFC 9113, 8.2.3), unless there may be one only."""
    if key in {"CONTENT_LENGTH", "HTTP_HOST"}:
        # Even equal: whoever sends two has put together what two others said.
        raise BadRequest(f"two {'Host' if key == 'HTTP_HOST' else 'Content-Length'} fields")
    separator = "; " if key == "HTTP_COOKIE" else ","
    return first + separator + second


_digits = re.compile("[0-9]{1,19}").fullmatch
_coding = re.compile(f"{TOKEN}(?:[ \t]*;{VALUE})?").fullmatch


def _content_length(value: str) -> int:
    if _digits(value) is None:
        raise BadRequest(f"not a Content-Length: {quote(value)}")
    return int(value)


def _check_codings(fields: dict[str, str], minor: int) -> int:
    if "CONTENT_LENGTH" in fields:
        raise BadRequest("both Transfer-Encoding and Content-Length")
    if not minor:
        raise BadRequest("Transfer-Encoding in HTTP/1.0")
    value = fields["HTTP_TRANSFER_ENCODING"]
    codings = [coding.strip(" \t").lower() for coding in value.split(",")]
    if codings == ["chunked"]:
        return CHUNKED
    if "chunked" in codings[:-1]:
        raise BadRequest(f"chunked is not the last transfer coding, or not the only one: {quote(value)}")
    if not all(map(_coding, codings)):
        raise BadRequest(f"not a Transfer-Encoding: {quote(value)}")
    raise NotImplementedByServer(f"unknown transfer coding: {quote(value)}")


def _expects_continue(value: str) -> bool:
    expected = [item for item in (item.strip(" \t").lower() for item in value.split(",")) if item]
    for item in expected:
        if item != "100-continue":
            raise ExpectationFailed(f"unknown expectation: {quote(item)}")
    return bool(expected)


def _keeps_alive(connection: str, minor: int) -> bool:
    if connection in {"keep-alive", "Keep-Alive"}:
        return True
    options = {option.strip(" \t").lower() for option in connection.split(",")}
    return "close" not in options and (minor == 1 or "keep-alive" in options)


_begin_of = re.compile(rb"(?:\r\n){0,8}").match
# So much of a request line that has no end yet. 40 bytes are enough to know TLS, binary protocols and noise.
_method_start = re.compile(f"{TOKEN}(?: |\\Z)".encode()).match
_request_line = re.compile(REQUEST_LINE.encode("latin-1")).fullmatch
_field = re.compile(FIELD.encode("latin-1")).fullmatch
_other_version = re.compile(f"{TOKEN} {TARGET} (HTTP/[02-9]\\.[0-9])".encode("latin-1")).fullmatch


def _begin(data: bytes) -> int:
    match = _begin_of(data)
    return match.end() if match is not None else 0


def check_partial(data: bytes, start: int, limits: Limits) -> int:
    """Raise the right `BadRequest` if what there is of a head cannot become a good one.

    *start* is 0 at first, then what the last call returned: lines before it are not looked at again.
    The line that has no end yet is measured, no more; so a client that sends byte by byte costs O(n) in all.
    """
    begin = _begin(data)
    if start <= begin:
        end = data.find(b"\n", begin)
        line = data[begin:] if end < 0 else data[begin:end]
        if len(line) > limits.request_line + 1:  # its CR
            if line.find(b" ", 0, limits.request_line) < 0:  # RFC 9112, 3, has a status for each
                raise NotImplementedByServer(f"the method is longer than {limits.request_line} bytes")
            raise TargetTooLong(f"the request line is longer than {limits.request_line} bytes")
        if end < 0:
            if line and line != b"\r" and _method_start(line[:40]) is None:
                raise BadRequest(f"not an HTTP request: {quote(line)}")
            _check_no_bare_cr(line)
            return 0
        _check_request_line(line)
        start = end + 1
    first = start
    while True:
        end = data.find(b"\n", start)
        line = data[start:] if end < 0 else data[start:end]
        if len(line) > limits.field_size + 1:
            raise _field_too_long(line.decode("latin-1"), limits)
        if end < 0:
            break
        if line == b"\r":
            return start  # the head is complete
        _check_field(line)
        start = end + 1
    if line[:1] in {b" ", b"\t"}:
        _check_field(line)
    _check_no_bare_cr(line)
    if len(data) - begin > limits.head_size:
        raise HeadTooLarge(f"the head is longer than {limits.head_size} bytes")
    if start > first:
        count = data.count(b"\n", begin, start) - 1
        if count > limits.fields:
            raise HeadTooLarge(f"{count} header fields, more than {limits.fields}")
    return start


def _check_no_bare_cr(line: bytes) -> None:
    """Refuse a line that has no LF yet, and a CR before its last byte: nothing can make it good (RFC 9112, 2.2).

    A client that ends its lines with CR alone would else be told so only by the timeout.
    """
    if -1 < line.find(b"\r") < len(line) - 1:
        raise BadRequest(f"a CR without LF: {quote(line)}")


def _check_request_line(line: bytes) -> None:
    if line[-1:] != b"\r":
        raise BadRequest("the request line ends without CR")
    line = line[:-1]
    if _request_line(line) is not None:
        return
    other = _other_version(line)
    if other is not None:
        raise VersionNotSupported(f"not HTTP/1.1 or 1.0: {quote(other[1])}")
    if b"#" in line and line.count(b" ") == 2:
        raise BadRequest("a fragment in the target")
    raise BadRequest(f"not a request line of HTTP/1.1: {quote(line)}")


_control = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search


def _check_field(line: bytes) -> None:
    if line[:1] in {b" ", b"\t"}:
        raise BadRequest("a folded header field (RFC 9112, 5.2)")
    name, colon, _ = line.partition(b":")
    if line[-1:] != b"\r":
        raise BadRequest(f"the field {quote(name)} ends without CR")
    line = line[:-1]
    if _field(line) is not None:
        return
    if not colon:
        raise BadRequest(f"a header field without a colon: {quote(line)}")
    if not name:
        raise BadRequest("a header field without a name")
    if name[-1:] in {b" ", b"\t"}:
        raise BadRequest(f"white space before the colon of the field {quote(name)}")
    control = _control(line, len(name))
    if control is not None:
        raise BadRequest(f"the byte 0x{control[0][0]:02x} in the field {quote(name)}")
    raise BadRequest(f"not a field name: {quote(name)}")
