"""`python3 -m kvmprobe`, from a plain checkout too."""

from kvmprobe.cli.main import entry

if __name__ == "__main__":
    entry()
