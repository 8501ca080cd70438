"""Keeps URIs from strangers' lists from reaching this machine and its cloud's metadata service.

The address is checked when the connection is made, so neither an unusual spelling, nor a redirect, nor a name that
changes between two look-ups gets around the check. Private networks are allowed: people keep their images there.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import ipaddress
import os
import socket
import urllib.request
from typing import Any
from urllib.parse import urljoin, urlsplit

from ddpm_seg.storage.errors import LocalHostError

_SWITCH = "DDPM_SEG_ALLOW_LOCAL_HOSTS"
_REFUSAL = (
    "the host is this machine or a link-local service such as a cloud's metadata; "
    f"--allow-local-hosts (or {_SWITCH}=1) lets lists name such hosts"
)
_LOCAL_NETWORKS = [
    ipaddress.ip_network(network)
    for network in (
        *("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "::/128", "::1/128", "fe80::/10"),
        # Metadata services at other addresses: AWS over IPv6, Azure, Alibaba, Oracle.
        *("fd00:ec2::254/128", "168.63.129.16/32", "100.100.100.200/32", "192.0.0.192/32"),
    )
]
_WITH_IPV4_AT_THE_END = [ipaddress.ip_network(network) for network in ("::/96", "::ffff:0:0/96", "64:ff9b::/96")]

AddressInfo = tuple[Any, Any, int, str, tuple[Any, ...]]  # as getaddrinfo returns it


_allowed = False


def allow_local_hosts(allowed: bool) -> None:
    """Sets, for this process, whether lists may name hosts on this machine."""
    global _allowed
    _allowed = allowed


def local_hosts_allowed() -> bool:
    """Whether `allow_local_hosts` or the environment allows local hosts in lists; by default neither does."""
    return _allowed or os.environ.get(_SWITCH, "0") not in ("", "0")


def is_local_address(address: str) -> bool:
    """Whether an IP address, or an IPv4 address embedded in it, is loopback, link-local, unspecified or a metadata
    service's."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.sixtofour is not None and is_local_address(str(ip.sixtofour)):
            return True
        if any(ip in network for network in _WITH_IPV4_AT_THE_END) and int(ip) > 1:
            return is_local_address(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
    return any(ip in network for network in _LOCAL_NETWORKS if network.version == ip.version)


def refuse_local_host(host: str) -> None:
    """Raises LocalHostError where `host`, a name or an address, resolves to a local address only.

    For clients that connect by themselves. A name that does not resolve is left to them.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return
    if found and all(is_local_address(str(address[0])) for *_, address in found):
        raise _refused()


def guarded_client_options() -> dict[str, Any]:
    """Options for an aiohttp session that refuses local addresses. Call this where an event loop runs."""
    import aiohttp

    traces = aiohttp.TraceConfig()
    traces.on_request_start.append(_check_start)
    traces.on_request_redirect.append(_check_redirect)
    return {"connector": aiohttp.TCPConnector(socket_factory=_guarded_socket), "trace_configs": [traces]}


def _guarded_socket(info: AddressInfo) -> socket.socket:
    family, kind, protocol, _, address = info
    if is_local_address(str(address[0])) and (str(address[0]), address[1]) not in _proxies():
        raise _refused()
    return socket.socket(family=family, type=kind, proto=protocol)


def _refused() -> LocalHostError:
    return LocalHostError(errno.EACCES, _REFUSAL)


@functools.cache
def _proxies() -> frozenset[tuple[str, int]]:
    """Addresses of the proxies in the environment. They are the user's own choice, so they may be local."""
    found = set()
    for url in urllib.request.getproxies().values():
        place = urlsplit(url if "://" in url else f"http://{url}")
        try:
            port = place.port or (443 if place.scheme == "https" else 80)
            answers = socket.getaddrinfo(place.hostname, port, type=socket.SOCK_STREAM)
        except (OSError, ValueError):
            continue
        found |= {(str(address[0]), port) for *_, address in answers}
    return frozenset(found)


async def _check_start(session: Any, context: Any, params: Any) -> None:
    await _check_behind_proxy(str(params.url))


async def _check_redirect(session: Any, context: Any, params: Any) -> None:
    await _check_behind_proxy(urljoin(str(params.url), params.response.headers.get("Location", "")))


async def _check_behind_proxy(url: str) -> None:
    """Checks the host name if a proxy is used: the proxy makes the connection, so its address cannot be checked."""
    place = urlsplit(url)
    if place.hostname and urllib.request.getproxies().get(place.scheme):
        await asyncio.get_running_loop().run_in_executor(None, refuse_local_host, place.hostname)
