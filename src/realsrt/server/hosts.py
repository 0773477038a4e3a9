"""Only names that mean this service: a page elsewhere whose name is pointed at it (DNS rebinding) gets nothing."""

import ipaddress

from starlette.types import ASGIApp, Receive, Scope, Send

from realsrt.server.problems import response


class Hosts:
    """An ASGI middleware that answers requests to IP addresses, names without a dot and `allowed` names only."""

    def __init__(self, app: ASGIApp, allowed: tuple[str, ...]) -> None:
        self._app, self._allowed = app, frozenset(name.lower() for name in allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
            if len(hosts) > 1 or not all(map(self._known, hosts)):
                await response(421, "the service does not go by this name; see --host-name")(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _known(self, host: str) -> bool:
        name = host.lower()
        if name.startswith("["):
            name = name[1:].partition("]")[0]
        elif name.count(":") == 1:
            name = name.partition(":")[0]
        if name in self._allowed or (name and "." not in name and ":" not in name):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True
