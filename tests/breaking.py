"""A line between a client and a server that breaks at any byte, in either direction."""

import contextlib
import random
import socket
import threading


class BreakingLine:
    """Passes connections on to a server, and breaks some of them.

    Args:
        port: of the server, on this machine.
        breaks: how many connections are broken.
        most: after at most so many bytes.
        seed: decides after how many bytes, counted in both directions.
    """

    def __init__(self, port, breaks, most, seed):
        self.target, self.left, self.most = port, breaks, most
        self.broken = 0
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._pass, args=self._listener.accept()[:1], daemon=True).start()

    def _pass(self, client):
        with self._lock:
            budget = [self._random.randrange(self.most) if self.left else None]
            self.left = max(0, self.left - 1)
        with (
            client,
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.target)) as server,
        ):
            back = threading.Thread(target=self._pump, args=(server, client, budget), daemon=True)
            back.start()
            self._pump(client, server, budget)
            back.join()

    def _pump(self, source, sink, budget):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 14):
                with self._lock:
                    if budget[0] is not None:
                        data, ends = data[: budget[0]], len(data) >= budget[0]
                        budget[0] -= len(data)
                        self.broken += ends
                        if ends:
                            budget[0] = 0
                    else:
                        ends = False
                sink.sendall(data)
                if ends:
                    break
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
