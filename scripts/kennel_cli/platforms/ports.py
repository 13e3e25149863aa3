"""Ports for servers of this machine."""

import random
import socket

# below those that systems give to whoever asks for none in particular, which may be gone when a server comes to listen
_PORTS = range(15000, 32000)
_CHOICE = random.SystemRandom()


def free_port() -> int:
    """Return a port that nobody listens at. A server that is started with it has it some seconds later."""
    while True:
        port = _CHOICE.choice(_PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
