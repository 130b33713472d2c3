"""`kvmprobe explain`: what a reason means, what the kernel does there, what to do."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Explains a reason of the verdict; without REASON it lists them all."
    parser.add_argument("reason", metavar="REASON", nargs="?", help="its name, as the verdict has it")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from kvmprobe.formats import explanation
    from kvmprobe.report import output

    output.write(explanation.render(options.reason), None)
    return 0
