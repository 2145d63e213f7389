"""Where a webhook may go: to public addresses only, by name and again by the address connected to.

A name is resolved, every address that it has must be public, and the connection goes to one of those very
addresses, so that a name that changes its meaning in between (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from ssl import SSLContext
from typing import Any

import httpcore
import httpx

from trsp_jobs.errors import AddressRefused

_PUBLIC_V6 = IPv6Network("2000::/3")
_TUNNELS = (IPv6Network("2002::/16"), IPv6Network("2001::/32"))
"""6to4 and Teredo, which hold another address inside."""
_RELAYS_V4 = "192.88.99."


def is_public(address: str) -> bool:
    """Tell whether an IP address is one of the public internet."""
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address):
        return is_public(str(found.ipv4_mapped)) if found.ipv4_mapped else _is_public_v6(found)
    return _is_public_v4(found)


def _is_public_v4(address: IPv4Address) -> bool:
    return address.is_global and not address.is_multicast and not str(address).startswith(_RELAYS_V4)


def _is_public_v6(address: IPv6Address) -> bool:
    return address.is_global and address in _PUBLIC_V6 and not any(address in network for network in _TUNNELS)


def addresses_of(host: str, port: int, *, allow_private: bool) -> Sequence[str]:
    """Return the IP addresses of a host.

    Raises:
        AddressRefused: If it has none, or one that is not public.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise AddressRefused(f"{host} has no address: {error}") from error
    addresses = [str(entry[4][0]) for entry in found]
    inner = next((item for item in addresses if not allow_private and not is_public(item)), None)
    if inner is not None:
        raise AddressRefused(f"{host} is {inner}, which is no public address")
    return addresses


def checked_url(text: str, *, allow_private: bool) -> str:
    """Return a webhook's address in its plain form, with the host in ASCII.

    Raises:
        AddressRefused: If nothing can or may be sent there.
    """
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, UnicodeError, ValueError) as error:
        raise AddressRefused(f"is no address: {error}") from error
    schemes = ("https", "http") if allow_private else ("https",)
    if url.scheme not in schemes or not url.host:
        raise AddressRefused("must be https://HOST/PATH")
    if not 0 < _port(url) < 65_536:
        raise AddressRefused(f"names the port {_port(url)}; a port is 1 to 65535")
    if url.userinfo or url.fragment:
        raise AddressRefused("holds a user name, a password or a fragment; give it without")
    addresses_of(url.raw_host.decode(), _port(url), allow_private=allow_private)
    return str(url)


def _port(url: httpx.URL) -> int:
    return (443 if url.scheme == "https" else 80) if url.port is None else url.port


class Guarded(httpcore.NetworkBackend):
    """Connects to public addresses only, and ends whatever takes longer than a number of seconds in all."""

    def __init__(self, seconds: float, *, allow_private: bool) -> None:
        self._deadline = time.monotonic() + seconds
        self._allow_private = allow_private
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address of a host that answers."""
        problem: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in addresses_of(host, port, allow_private=self._allow_private):
            try:
                left = seconds_left(self._deadline, timeout, httpcore.ConnectTimeout)
                stream = self._plain.connect_tcp(address, port, left, local_address, socket_options)
            except httpcore.ConnectError as error:
                problem = error
            else:
                return _Hurried(stream, self._deadline)
        raise problem


class _Hurried(httpcore.NetworkStream):
    """A connection whose every wait ends at one moment, however slowly the other side drips."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, seconds_left(self._deadline, timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, seconds_left(self._deadline, timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = seconds_left(self._deadline, timeout, httpcore.ConnectTimeout)
        return _Hurried(self._stream.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def seconds_left(deadline: float, timeout: float | None, error: type[httpcore.TimeoutException]) -> float:
    """Return how long one wait may take: to a moment of the monotonic clock, and at most `timeout` seconds.

    Raises:
        httpcore.TimeoutException: The given one, if the moment has passed.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise error("it took too long")
    return left if timeout is None else min(left, timeout)
