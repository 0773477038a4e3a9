"""API keys: who may use the service, and whose a job is."""

import hashlib
import hmac
import os
from collections.abc import Mapping
from pathlib import Path

from realsrt.errors import UsageError, why

VARIABLE = "REALSRT_API_KEYS"
_SHORTEST = 16


class Keys:
    """Known keys, held as SHA-256 digests. None at all: everyone is the owner "" and may come in."""

    def __init__(self, owners: Mapping[str, str] | None = None) -> None:
        """`owners`: key → name of its owner. Raises UsageError for a key that is too short to be a secret."""
        self._owners: list[tuple[bytes, str]] = []
        for key, owner in (owners or {}).items():
            if len(key) < _SHORTEST:
                raise UsageError(f"an API key is shorter than {_SHORTEST} characters; try: openssl rand -hex 24")
            self._owners.append((_digest(key), owner))

    def __bool__(self) -> bool:
        return bool(self._owners)

    def owner(self, key: str | None) -> str | None:
        """Whose key this is, or None. The time it takes does not depend on how much of a key is right."""
        if not self._owners:
            return ""
        given, found = _digest(key or ""), None
        for digest, owner in self._owners:
            if hmac.compare_digest(given, digest):
                found = owner
        return found


def load_keys(path: Path | None) -> Keys:
    """Keys of a file, and of the variable REALSRT_API_KEYS (separated by commas or white space).

    A line holds KEY, or NAME KEY; what starts with # is left out. Keys of one name share their jobs; without a name the
    owner is a hash of the key. Raises UsageError if the file cannot be read or holds no key.
    """
    lines = [entry for entry in os.environ.get(VARIABLE, "").replace(",", " ").split() if entry]
    if path is not None:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: the keys cannot be read: {why(error)}") from error
        held = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        if not held:
            raise UsageError(f"{path}: holds no key; write one a line, as NAME KEY or KEY")
        lines += held
    owners: dict[str, str] = {}
    for line in lines:
        parts = line.split()
        if len(parts) > 2:
            raise UsageError(f"{path}: a line has {len(parts)} words; write NAME KEY or KEY")
        owners[parts[-1]] = parts[0] if len(parts) == 2 else _digest(parts[0]).hex()[:16]
    return Keys(owners)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
