"""The options: each declared once, with its default, unit, check and help.

The command line's flags, the environment's variables, the keys of a TOML file, the keywords of `Server` and
docs/options.md follow from the declarations in `Config`. To add an option, declare it there and run
`rocket options --markdown > docs/options.md`.

A keyword or flag wins over the environment, that over a TOML file, that over the default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Optional

from rocket.errors import ConfigError
from rocket.kinds import (
    GIB,
    KIB,
    MIB,
    addresses,
    choice,
    count,
    field_value,
    networks,
    path,
    python_callable,
    python_class,
    seconds,
    secret,
    share,
    size,
    strategy,
    switch,
    text,
    tokens,
    verification,
    words,
)
from rocket.options import (
    COMMAND_LINE,
    DEFAULT,
    KEYWORD,
    Given,
    Option,
    file_in,
    from_origin,
    given_by_environ,
    given_by_toml,
    option,
    unknown,
)

LISTENING = "Listening"
PROXIES = "Behind a proxy"
THREADS = "Threads"
LIMITS = "Limits of a request"
BUFFERS = "Memory and temporary files"
TLS = "TLS"
TIMEOUTS = "Timeouts"
REPORTING = "What it says"

# What a proxy may tell of its client. The first five are understood, the others handed on.
FORWARDING_FIELDS = (
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-by",
    "x-forwarded-prefix",
    "x-forwarded-protocol",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-real-ip",
)


@dataclass(frozen=True, init=False)
class Config:
    """The options' values: checked, complete and immutable.

    `Config(max_threads=8)` takes them from Python; `Config.load` also looks at the environment and at files.
    Both raise ConfigError. `origin` tells where a value comes from.
    """

    # fmt: off
    bind: tuple[str, ...] = option(
        ("127.0.0.1:8000",), addresses(), LISTENING,
        "Where to listen: host:port, [::1]:port, or :port for all addresses (port 0 takes a free one); unix:/path, "
        "unix:@name, fd://3, systemd: or systemd:NAME; tls://host:port?cert=FILE&key=FILE. docs/binds.md has the rest. "
        "Several, also of several kinds, are separated by commas.",
    )
    backlog: int = option(
        2048, count(least=1), LISTENING,
        "Connections that the system keeps for us until we accept them; it may cut this (Linux: net.core.somaxconn). "
        "More survives a longer burst, and the last in it wait longer.",
    )
    dual_stack: bool = option(
        True, switch(), LISTENING,
        "Whether an IPv6 listener on all addresses, [::]:port, takes IPv4 connections too.",
    )
    defer_accept: bool = option(
        True, switch(), LISTENING,
        "Whether the system may hold a connection back until its first bytes are there (TCP_DEFER_ACCEPT, Linux). "
        "Saves a wake-up per connection, and silent ones cost no descriptor.",
    )
    max_connections: int = option(
        0, count(), LISTENING,
        "Open connections at most; at the limit accepting pauses, and the oldest idle ones are closed, or, without "
        "any, those that are slowest to send a head, or stand still in a body or an answer. 0 takes it from the limit "
        "on open files (ulimit -n).",
    )
    max_requests_per_connection: int = option(
        1000, count(), LISTENING,
        "Requests after which a connection is closed, so that a load balancer spreads its clients anew. "
        "0 means no limit.",
    )

    forwarded_allow_ips: tuple[str, ...] = option(
        (), networks(), PROXIES,
        "Proxies that may say for whom they speak: addresses, networks, unix (all peers of unix sockets), or * "
        "(anybody, if only proxies can connect). What others send of X-Forwarded-*, Forwarded, X-Real-IP is dropped. "
        "docs/proxies.md has examples.",
    )
    forwarded_headers: tuple[str, ...] = option(
        ("x-forwarded-for", "x-forwarded-proto"), words(*FORWARDING_FIELDS), PROXIES,
        "Header fields that those proxies set, each of them: these are believed, and others of the kind dropped, for a "
        "proxy hands on what its client wrote. Either forwarded, or some of x-forwarded-for, -proto, -host and -port. "
        "With proxy_protocol none, unless given.",
    )
    forwarded_hops: int = option(
        1, count(least=1), PROXIES,
        "Proxies in a row, at most, whose entries in these fields are believed, counted from us; "
        "each must be in forwarded_allow_ips.",
    )
    proxy_protocol: str = option(
        "off", choice("off", "on", "v1", "v2"), PROXIES,
        "Whether each connection begins with a header of the PROXY protocol, which names the client: v1, v2, or on for "
        "either. It is then required, and taken from forwarded_allow_ips only.",
    )

    monitor: object = option(
        "auto", strategy("mypkg.uring:UringMonitor"), THREADS,
        "What watches idle connections: auto, epoll, kqueue, poll, select, selectors, or a dotted path. "
        "'rocket monitors' shows what this host has.",
    )
    scaling: object = option(
        "adaptive", strategy("fixed:8"), THREADS,
        "The rule that decides how many threads may work: adaptive, queue, stall, load or fixed, if need be with "
        "arguments as in fixed:8, or a dotted path. docs/policies.md explains them.",
    )
    min_threads: int = option(
        2, count(least=1), THREADS,
        "Threads that are kept also when there is nothing to do. If left out, never more than max_threads.",
    )
    max_threads: int = option(
        64, count(least=1), THREADS,
        "Threads at most. Handlers that wait (for a database, say) gain from more; handlers that compute do not, "
        "because of the GIL.",
    )
    thread_idle_timeout: float = option(
        30.0, seconds(), THREADS,
        "A thread above min_threads that has been idle for longer than this is retired.",
    )
    max_queue: int = option(
        1024, count(least=1), THREADS,
        "Requests that may wait for a thread. While there are as many, no connections are accepted; if nothing moves, "
        "because all threads are stuck, the ones beyond it are answered 503. A short queue fails early, a long one "
        "answers late.",
    )
    queue_timeout: float = option(
        30.0, seconds(), THREADS,
        "A request that has waited longer than this for a thread is answered 503: its client has probably given up. "
        "0 means off.",
    )
    memory_reserve: float = option(
        0.05, share(), THREADS,
        "While less than this share of the memory (the host's, or a container's) is free, the number of threads that "
        "may work falls, down to min_threads. 0 means off.",
    )
    switch_interval: float = option(
        0.001, seconds(), THREADS,
        "While threads that compute take the GIL from the others, it is handed on after this time instead of Python's "
        "5 ms: sys.setswitchinterval, which is of the whole process. 0 leaves Python's alone.",
    )
    on_thread_start: Optional[Callable[[], object]] = option(  # noqa: RUF009 (what it returns is immutable)
        None, python_callable(), THREADS,
        "Called without arguments in each new worker's thread before it serves, from Python only.",
    )
    on_thread_exit: Optional[Callable[[], object]] = option(  # noqa: RUF009
        None, python_callable(), THREADS,
        "Called without arguments in each worker's thread before it ends, from Python only: "
        "to close what belongs to the thread, its database connection say.",
    )
    futures: int = option(
        0, count(), THREADS,
        "Threads at most for work that goes on behind the answer, which applications submit to "
        "environ['wsgiorg.executor']; environ['wsgiorg.futures'] has the futures that are to be found again by name. "
        "0 means that there is neither.",
    )
    worker: Optional[type[object]] = option(  # noqa: RUF009 (what it returns is immutable)
        None, python_class(), THREADS,
        "The Worker subclass that serves the connections, from Python only. None means WSGIWorker.",
    )

    limit_request_line: int = option(
        8190, size(least=64), LIMITS,
        "The request line's length at most; a longer one is answered 414. Raise it for very long query strings.",
    )
    limit_request_fields: int = option(
        100, count(least=1), LIMITS,
        "Header fields of a request at most; more are answered 431.",
    )
    limit_request_field_size: int = option(
        8190, size(least=64), LIMITS,
        "A header field's length at most; a longer one is answered 431. "
        "Raise it for large cookies or Kerberos tickets.",
    )
    max_head_size: int = option(
        64 * KIB, size(least=256), LIMITS,
        "Request line and header fields together at most; more is answered 431. What a connection may cost in memory "
        "before its request is known.",
    )
    max_body_size: int = option(
        GIB, size(), LIMITS,
        "A request body's length at most; a longer one is answered 413.",
    )

    body_buffer: int = option(
        MIB, size(), BUFFERS,
        "A request body is collected in memory up to this, and from there on in a temporary file, before a thread is "
        "given to the request. Memory at worst: this for each connection.",
    )
    response_buffer: int = option(
        MIB, size(), BUFFERS,
        "What a slow reader has not taken yet of a response is kept in memory up to this, and from there on in a "
        "temporary file, so that the thread is free again. Memory at worst: this for each connection.",
    )
    response_spool: int = option(
        256 * MIB, size(), BUFFERS,
        "That temporary file's size at most; past it the thread waits for the reader.",
    )

    certfile: str = option(
        "", path(), TLS,
        "A certificate and its chain, in PEM; with it, all addresses speak HTTPS. A file that changes is taken up "
        "without a restart: new connections get the new certificate.",
    )
    keyfile: str = option(
        "", path(), TLS,
        "The certificate's private key, in PEM. If left out, it is in certfile, too.",
    )
    keyfile_password: str = option(
        "", secret(), TLS,
        "The password of encrypted private keys. Others can see what stands on a command line: better in the "
        "environment or a file.",
    )
    certdir: str = option(
        "", path(), TLS,
        "A folder of certificates, each NAME.pem, or NAME.crt with NAME.key; the one that has the name that a client "
        "asks for is taken (SNI). Others get that of certfile, or default.pem, or the first by name.",
    )
    self_signed: bool = option(
        False, switch(), TLS,
        "Whether to make a certificate that no client trusts, for trying HTTPS on this host. Needs rocket[tls].",
    )
    ca_certs: str = option(
        "", path(), TLS,
        "A file in PEM, or a folder as of c_rehash(1), with the authorities whose client certificates are trusted.",
    )
    cert_reqs: str = option(
        "none", verification(), TLS,
        "Whether clients must show a certificate: none, optional, required (or 0, 1, 2).",
    )
    min_tls_version: str = option(
        "1.2", choice("1.2", "1.3"), TLS,
        "The oldest version that is spoken. Everything that was built since 2014 knows 1.2.",
    )
    ciphers: str = option(
        "ECDHE+AESGCM:ECDHE+CHACHA20", text(), TLS,
        "The cipher suites of TLS 1.2, as openssl-ciphers(1) writes them. Those of 1.3 are OpenSSL's.",
    )
    alpn: tuple[str, ...] = option(
        ("http/1.1",), tokens(), TLS,
        "The protocols that are offered to clients who ask (ALPN).",
    )

    stream: bool = option(
        False, switch(), BUFFERS,
        "Whether the application is called as soon as a request's head is there, and reads the body while it arrives. "
        "For applications that stop uploads early or follow them; a slow client then holds a thread.",
    )

    head_timeout: float = option(
        10.0, seconds(zero=False), TIMEOUTS,
        "A request's head must be there this long after its first byte. Against clients that send a byte now and then.",
    )
    handshake_timeout: float = option(
        10.0, seconds(zero=False), TIMEOUTS,
        "A TLS handshake must be done this long after the connection was made.",
    )
    body_timeout: float = option(
        30.0, seconds(zero=False), TIMEOUTS,
        "A connection is closed if its request body has not grown for this long, or for less: see min_body_rate.",
    )
    min_body_rate: int = option(
        240, size(unit="bytes per second"), TIMEOUTS,
        "A request body that comes with fewer bytes per second than this, after 5 seconds' grace, is answered 408. "
        "Against clients that send a byte now and then, or nothing more. 0 means no limit.",
    )
    write_timeout: float = option(
        30.0, seconds(zero=False), TIMEOUTS,
        "A connection is closed if its peer has not taken anything of the response for this long.",
    )
    keep_alive: float = option(
        75.0, seconds(), TIMEOUTS,
        "An idle connection is kept for the next request this long; it costs a descriptor, no thread. Choose more than "
        "the proxy in front does, or it meets closed connections. 0 closes after each response.",
    )
    park_delay: float = option(
        0.0, seconds(), TIMEOUTS,
        "A worker waits this long for a connection's next request before it parks the connection. "
        "Saves a system call for quick clients, and occupies a thread meanwhile.",
    )
    lingering_time: float = option(
        2.0, seconds(), TIMEOUTS,
        "After an error is answered, what the client still sends is read for this long before the connection is "
        "closed; closing at once could destroy the answer on its way.",
    )
    graceful_timeout: float = option(
        5.0, seconds(), TIMEOUTS,
        "When it is told to stop, the server lets running requests finish for this long, and then exits also if a "
        "handler is stuck.",
    )

    server_header: str = option(
        "Rocket", field_value(), REPORTING,
        "The value of the Server field of each response; empty for no such field.",
    )
    log_level: str = option(
        "info", choice("debug", "info", "warning", "error", "critical"), REPORTING,
        "The least important messages that the command line still prints. "
        "From Python, configure the logger 'rocket' instead.",
    )

    # fmt: on
    _origins: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    def __init__(self, **options: object) -> None:
        self._settle({name: (value, KEYWORD) for name, value in options.items()})

    @classmethod
    def load(
        cls,
        cli: Mapping[str, object],
        environ: Mapping[str, str],
        folder: Path,
        file: Optional[Path] = None,
    ) -> Config:
        """Take the options from *cli*, then *environ*, then *file* or else rocket.toml or pyproject.toml in *folder*.

        *cli* maps options' names to values. Of the two files in *folder* the first that exists counts;
        it need not exist, but *file* must.
        """
        path = file or file_in(folder)
        given: Given = {} if path is None else given_by_toml(path)
        given.update(given_by_environ(environ, OPTIONS))
        given.update({name: (value, COMMAND_LINE) for name, value in cli.items()})
        config = cls.__new__(cls)
        config._settle(given)
        return config

    def origin(self, name: str) -> str:
        """Return where the value of the option *name* comes from: "default", "keyword", "the command line", ..."""
        return self._origins.get(name, DEFAULT)

    def replace(self, **options: object) -> Config:
        """Return a copy in which *options* have other values. Raises ConfigError."""
        given: Given = {name: (getattr(self, name), origin) for name, origin in self._origins.items()}
        given.update({name: (value, KEYWORD) for name, value in options.items()})
        config = type(self).__new__(type(self))
        config._settle(given)
        return config

    def as_dict(self) -> dict[str, object]:
        """Return the values by name, as `Config` and `Server` take them."""
        return {name: getattr(self, name) for name in OPTIONS}

    def _settle(self, given: Given) -> None:
        """Read, check and set the values; the only place that sets any."""
        values = {name: declared.default for name, declared in OPTIONS.items()}
        for name, (value, origin) in given.items():
            if name not in OPTIONS:
                raise unknown(name, origin, OPTIONS)
            if OPTIONS[name].kind.python_only and origin != KEYWORD:
                raise ConfigError(f"{name} can be given from Python only{from_origin(origin)}")
            values[name] = OPTIONS[name].read(value, origin)
        origins = {name: origin for name, (_, origin) in given.items()}
        for name, value in values.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_origins", origins)
        self._compare_threads()
        self._compare_proxies()

    def _compare_threads(self) -> None:
        """Check that min_threads and max_threads fit each other."""
        if self.max_threads >= self.min_threads:
            return
        if "min_threads" not in self._origins:  # max_threads=1 alone is a sensible wish
            object.__setattr__(self, "min_threads", self.max_threads)
            return
        high, low = self.origin("max_threads"), self.origin("min_threads")
        where = from_origin(high) if high == low else f" (the one from {high}, the other from {low})"
        raise ConfigError(f"max_threads ({self.max_threads}) is below min_threads ({self.min_threads}){where}")

    def _compare_proxies(self) -> None:
        """Check that what is said about proxies fits."""
        others = [name for name in self.forwarded_headers if name in FORWARDING_FIELDS[1:5]]
        if others and "forwarded" in self.forwarded_headers:
            raise ConfigError(
                f"forwarded_headers has both forwarded and {others[0]}: name those that the proxy sets, "
                f"for a client may write the others{from_origin(self.origin('forwarded_headers'))}"
            )
        if self.proxy_protocol == "off":
            return
        if not self.forwarded_allow_ips:
            raise ConfigError(
                f"proxy_protocol is {self.proxy_protocol}, but forwarded_allow_ips is empty: nobody could connect"
                f"{from_origin(self.origin('proxy_protocol'))}"
            )
        if "forwarded_headers" not in self._origins:  # who speaks the PROXY protocol hands on what the client wrote
            object.__setattr__(self, "forwarded_headers", ())


OPTIONS: Mapping[str, Option] = {
    each.name: Option(name=each.name, default=each.default, **each.metadata) for each in fields(Config) if each.metadata
}
