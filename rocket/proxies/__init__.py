"""What a proxy tells of its client, and whether it is believed. Values in, values out: no I/O, no options.

Reading order: `forwarded` (the grammar of Forwarded and X-Forwarded-For), `trust` (which entries are believed, and what
becomes of the environ), `protocol` (the header of the PROXY protocol). What is decided, and why: docs/proxies.md.
"""

from rocket.proxies.protocol import VERSIONS, ProxyHeader, read_proxy_header
from rocket.proxies.trust import Proxies

__all__ = ["VERSIONS", "Proxies", "ProxyHeader", "read_proxy_header"]
