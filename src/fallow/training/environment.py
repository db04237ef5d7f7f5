"""``environment.json``: the machine and the versions that each session of a run trained with."""

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
    """Return the text of the file ``path`` with this session added.

    Args:
        path: the file; it need not exist.
        settings: of the session; they name its device.
    """
    sessions = []
    with suppress(OSError, ValueError):  # a damaged file must not keep the run from training
        content = parse_json(read_regular(path, path.parent, _LARGEST), str(path))
        sessions = check_kind(Environment, content, str(path)).sessions
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
