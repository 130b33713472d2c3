"""Measures what kvmprobe costs, as ratios to something measured in the same run."""

from __future__ import annotations

import argparse

from benches import cpus, cycles, lab, probe, summary, witnesses

# How often each is measured: the noise of a shared machine against the time it takes.
BENCHES = {
    "probe": (probe.main, 31),
    "witnesses": (witnesses.main, 15),
    "cycles": (cycles.main, 9),
    "cpus": (cpus.main, 5),
    "lab": (lab.main, 5),
    "summary": (summary.main, 3),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"what to measure: {', '.join(BENCHES)} (all of them)")
    parser.add_argument("--rounds", type=int, help="how often each is measured")
    options = parser.parse_args()
    for name in options.names:
        if name not in BENCHES:
            parser.error(f"{name} is none of {', '.join(BENCHES)}")
    for name, (measure, rounds) in BENCHES.items():
        if not options.names or name in options.names:
            print(f"\n== {name}")
            measure(options.rounds or rounds)


if __name__ == "__main__":
    main()
