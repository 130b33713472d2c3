"""`python3 -m kvmprobe`, from a plain checkout too."""

import sys

from kvmprobe.cli import main

if __name__ == "__main__":
    sys.exit(main())
