"""`python -m realsrt` is the same as `realsrt`."""

import sys

from realsrt.cli import main

if __name__ == "__main__":
    sys.exit(main())
