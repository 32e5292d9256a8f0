"""A network between pods and a relay that loses answers and takes its time."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time

__all__ = ["Lossy"]


class Lossy:
    """Listens on a port of its own; what comes there goes to another one.

    Args:
        target: Port of the relay.
        lost: Share of the answers that never arrive.
        seed: Of what is lost.
    """

    def __init__(self, target: int, lost: float, seed: int) -> None:
        self._target, self._lost = target, lost
        self._random = random.Random(seed)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.dropped = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                threading.Thread(target=self._pass_on, args=(connection,), daemon=True).start()

    def _pass_on(self, near: socket.socket) -> None:
        is_lost = self._random.random() < self._lost
        with contextlib.suppress(OSError), near:
            near.settimeout(10)
            with socket.create_connection(("127.0.0.1", self._target), timeout=10) as far:
                far.sendall(_request(near))
                time.sleep(self._random.uniform(0, 0.3))
                answer = b""
                while piece := far.recv(1 << 16):
                    answer += piece
            if is_lost:
                self.dropped += 1
                return
            time.sleep(self._random.uniform(0, 0.3))
            near.sendall(answer)


def _request(near: socket.socket) -> bytes:
    """Read a request, all of it; and say that no other one follows."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += near.recv(1 << 16)
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    length = next(
        (int(line[15:]) for line in lines if line.lower().startswith(b"content-length")), 0
    )
    while len(body) < length:
        body += near.recv(1 << 16)
    lines = [line for line in lines if not line.lower().startswith(b"connection:")]
    return b"\r\n".join([*lines, b"Connection: close", b"", body])
