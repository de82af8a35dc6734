# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""An address to listen on, taken before anything expensive starts."""

import socket

from real_trl.option_values import FieldError


def bind(host: str, port: int) -> socket.socket:
    """
    A socket on an address, before anything is loaded; it answers nobody yet.

    Raises:
        `ValueError`: naming the field, if the address cannot be had.
    """
    if not 0 <= port < 2**16:
        raise FieldError("port", port, "Set it to 1 to 65535, or to 0 for a free one.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        said = f": got {host!r}, which is no address of this machine ({error})"
        raise FieldError("host", host, "Correct it.", said) from error
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise ValueError(
            f"port: {host}:{port} cannot be used ({error.strerror}). Choose another port or host; port 0 takes a free one."
        ) from error
    return listener


def is_local(host: str) -> bool:
    """Whether only this machine reaches what listens on `host`."""
    return host in ("127.0.0.1", "::1", "localhost")


def url_of(listener: socket.socket) -> str:
    """The address of a socket, as a browser takes it."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
