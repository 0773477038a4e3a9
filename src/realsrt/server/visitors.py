"""People who use the page without a key: known by a cookie that cannot be guessed, and each sees what is theirs."""

import hashlib
import hmac
import ipaddress
import os
import secrets
import time
from collections import defaultdict, deque
from pathlib import Path

from realsrt.server.problems import refuse

COOKIE = "realsrt"
VISITOR = "visitor "  # an owner of this beginning is one
WARM_UP = VISITOR + "warm-up"  # whose job is computed when the page begins
_PER_HOUR = 100  # new visitors from one address
_HOUR = 3600.0


class Visitors:
    """Signs cookies and knows its own; the secret is kept in a file, so that cookies outlive a restart."""

    def __init__(self, path: Path, keep: float) -> None:
        """`keep`: hours that results stay; a cookie is good for a year at least. Raises OSError."""
        self._secret = _secret(path)
        self.max_age = max(365 * 86_400, round(keep * 2 * _HOUR))
        self._new: dict[str, deque[float]] = defaultdict(deque)

    def owner(self, cookie: str | None) -> str | None:
        """Whose jobs a cookie shows, or None for one that was not made here."""
        name, _, signature = (cookie or "").partition(".")
        if not name or not hmac.compare_digest(signature.encode(), self._signature(name).encode()):
            return None
        return VISITOR + hashlib.sha256(name.encode()).hexdigest()[:24]

    def welcome(self, address: str) -> str:
        """A new visitor's cookie. Raises a 429 if too many come from one address."""
        now, recent = time.monotonic(), self._new[network(address)]
        while recent and now - recent[0] > _HOUR:
            recent.popleft()
        if len(recent) >= _PER_HOUR:
            raise refuse(429, "too many new visitors from your address; try again later", {"Retry-After": "600"})
        recent.append(now)
        if len(self._new) > 10_000:
            self._new = defaultdict(deque, {key: times for key, times in self._new.items() if now - times[-1] < _HOUR})
        name = secrets.token_urlsafe(32)
        return f"{name}.{self._signature(name)}"

    def _signature(self, name: str) -> str:
        return hmac.new(self._secret, name.encode(), "sha256").hexdigest()


def network(address: str) -> str:
    """What one person has: an IPv4 address, or 64 bits of IPv6. What is no address is all one."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


def _secret(path: Path) -> bytes:
    try:
        found = path.read_bytes()
        if len(found) == 32:
            return found
    except FileNotFoundError:
        pass
    made = secrets.token_bytes(32)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(made)
    return made
