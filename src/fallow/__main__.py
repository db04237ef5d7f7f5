"""``python -m fallow``, for torchrun and for machines without scripts on the path."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
