"""Measures what kvmprobe costs, as ratios to something measured in the same run. `scripts/bench` runs it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# Not this folder: its modules are scripts.measurements.…
sys.path[0] = str(Path(__file__).resolve().parents[2])

from scripts.measurements import (  # noqa: E402
    boot_time,
    check_time,
    cpu_scaling,
    cycle_rate,
    observer_cost,
    summary_time,
)

# By name: what to run, and how many rounds, a compromise between the noise of a shared machine and the time it takes.
MEASUREMENTS = {
    "check": (check_time.main, 31),
    "observers": (observer_cost.main, 15),
    "cycles": (cycle_rate.main, 9),
    "cpus": (cpu_scaling.main, 5),
    "lab": (boot_time.main, 5),
    "summary": (summary_time.main, 3),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"what to measure: {', '.join(MEASUREMENTS)} (all)")
    parser.add_argument("--rounds", type=int, help="how many rounds")
    options = parser.parse_args()
    for name in options.names:
        if name not in MEASUREMENTS:
            parser.error(f"{name} is none of {', '.join(MEASUREMENTS)}")
    for name, (measure, rounds) in MEASUREMENTS.items():
        if not options.names or name in options.names:
            print(f"\n== {name}")
            measure(options.rounds or rounds)


if __name__ == "__main__":
    main()
