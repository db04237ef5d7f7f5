"""``python -m fallow``: for torchrun, and for machines whose PATH lacks the script."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
