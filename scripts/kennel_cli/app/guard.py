"""Refuse what other web sites make a visitor's browser ask of the page's server.

A site can send requests here, from its own origin, or from a name of its own that it lets point to this machine (DNS
rebinding). What a browser says of a request tells them from the page's own.
"""

import ipaddress
import socket
from urllib.parse import urlsplit

from flask import Flask, Request, request
from werkzeug.exceptions import Forbidden


def guard(app: Flask, host: str) -> None:
    """Let the application answer only the page that it serves; `host` is the name that the user lets it listen on."""
    names = {"localhost", socket.gethostname().lower(), host.lower()}

    @app.before_request
    def refuse_strangers() -> None:
        if not _is_own_name(request, names):
            raise Forbidden(f"this page is not served as {request.host}; open it at the address that `kennel app` says")
        if request.method not in ("GET", "HEAD") and not _is_same_origin(request):
            raise Forbidden("this request comes from another page")


def _is_own_name(asked: Request, names: set[str]) -> bool:
    """Return whether the browser has asked this machine: by an address, which nobody can rebind, or a name of its."""
    try:
        name = (urlsplit(f"//{asked.host}").hostname or "").lower()
    except ValueError:
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name in names
    return True


def _is_same_origin(asked: Request) -> bool:
    """Return whether the page itself has asked; browsers add the header Origin to whatever is no GET."""
    origin = urlsplit(asked.headers.get("Origin", ""))
    return bool(origin.netloc) and origin.netloc == asked.host
