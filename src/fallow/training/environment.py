"""``environment.json``: on which machine and with which versions each session of a run trained."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch

from ..files.checked_json import check_kind, parse_json
from ..files.regular_file import read_regular
from ..runs.schema import Environment
from ..version import __version__

_LARGEST = 1 << 20


_DEVICE = ("device", "device_name", "devices", "precision")


def environment_json(path: Path, settings: Mapping[str, Any]) -> str:
    """Return the text of the file with this session added to those that ``path`` holds.

    Args:
        path: the file; it may not be there yet.
        settings: of the session, which name the device that it trains on.
    """
    sessions = []
    with suppress(OSError, ValueError):
        found = parse_json(read_regular(path, path.parent, _LARGEST), str(path))
        sessions = check_kind(Environment, found, str(path)).sessions
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    sessions.append(
        {
            "began": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "command": sys.argv,
            "fallow": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "lightning": lightning.__version__,
            "numpy": np.__version__,
            "system": platform.platform(),
            "processors": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpu": gpu,
            **{name: settings[name] for name in _DEVICE if name in settings},
        }
    )
    return json.dumps({"sessions": sessions}, indent=1) + "\n"
