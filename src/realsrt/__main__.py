"""`python -m realsrt` is the same as `realsrt`."""

import sys

if __name__ == "__main__":
    try:
        from realsrt.cli import main
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(main())
