"""The benchmark of the server: what it starts ends quietly."""

import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.serve import POLLING

from serving import SECONDS

RUN = Path(__file__).parent / "runs" / "finished"


def test_clients_that_lose_the_server_end_without_a_trace():
    words = [sys.executable, "-m", "fallow", "serve", str(RUN), "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        base, token = server.stdout.readline().strip().split("#")
        words = [sys.executable, "-c", POLLING, base.split("/")[2], token, "8"]
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as clients:
            try:
                while not connected(clients.pid):
                    assert clients.poll() is None
                    time.sleep(0.05)
                server.kill()
                _, said = clients.communicate(timeout=SECONDS)
            finally:
                server.kill()
                clients.kill()
    assert said == ""


def connected(process):
    """Return whether a process has a socket open."""
    links = Path(f"/proc/{process}/fd").iterdir()
    return any(os.readlink(link).startswith("socket:") for link in links if link.is_symlink())
