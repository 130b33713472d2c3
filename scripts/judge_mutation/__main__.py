"""Changes the judge in one place at a time and runs the quick tests of judging: a change that none of them notices
survives. Survivors that are not listed as equivalent are printed, and then the numbers."""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections import Counter
from pathlib import Path

# Not this folder: its modules are scripts.judge_mutation.…
sys.path[0] = str(Path(__file__).resolve().parents[2])

from scripts.judge_mutation.equivalent_mutants import block_of, listed  # noqa: E402
from scripts.judge_mutation.mutants import PROJECT, mutants_of  # noqa: E402
from scripts.judge_mutation.trial import Trial  # noqa: E402

WANTED = 0.9  # killed, of the mutants that are not equivalent


def main() -> int:
    """Returns 1 where too many survive."""
    parser = argparse.ArgumentParser(prog="scripts/judge-mutants", description=__doc__)
    parser.add_argument("paths", metavar="PATH", nargs="*", help="files or folders (kvmprobe/judge)")
    parser.add_argument("--sample", type=int, metavar="N", help="only N mutants, chosen at random")
    parser.add_argument("--seed", type=int, default=1, help="of the choice (1)")
    parser.add_argument("--again", type=Path, metavar="FILE", help="only the mutants that an earlier run printed")
    parser.add_argument(
        "--fast", action="store_true", help="compare the stored judgements alone; repeat what survives with --again"
    )
    parser.add_argument("--count", action="store_true", help="count the mutants, and run nothing")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="how many at once (all CPUs)")
    options = parser.parse_args()
    files: list[Path] = []
    for path in map(Path, options.paths or [PROJECT / "kvmprobe/judge"]):
        files += sorted(path.resolve().rglob("*.py")) if path.is_dir() else [path.resolve()]
    mutants = [mutant for file in files for mutant in mutants_of(file)]
    total = len(mutants)
    if options.count:
        for name, count in sorted(Counter(mutant.name for mutant in mutants).items()):
            print(f"{count:5} {name}")
        for name, count in sorted(Counter(mutant.path for mutant in mutants).items()):
            print(f"{count:5} {name}")
        print(f"{total:5} mutants")
        return 0
    if options.sample:
        mutants = random.Random(options.seed).sample(mutants, min(options.sample, total))
    if options.again:
        wanted = listed(options.again)
        functions = {key[:2] for key in wanted}
        mutants = [
            mutant for mutant in mutants if (mutant.path, mutant.function) in functions and mutant.key() in wanted
        ]
    trial = Trial(0) if options.fast else Trial()
    if not trial.passes_unchanged():
        print("the tests fail without a change", file=sys.stderr)
        return 70
    equivalent = listed()
    started = time.monotonic()
    killed, alike, left = 0, 0, []
    for number, (mutant, survived) in enumerate(trial.results(mutants, options.jobs), 1):
        if number % 50 == 0:
            print(f"{number} of {len(mutants)}", file=sys.stderr, flush=True)
        if not survived:
            killed += 1
        elif mutant.key() in equivalent:
            alike += 1
        else:
            left.append(mutant)
            print(block_of(mutant.key(), mutant.name), flush=True)
    seconds = time.monotonic() - started
    share = killed / (killed + len(left)) if killed or left else 1
    print(f"# {len(mutants)} of {total} mutants (seed {options.seed}): {killed} killed, {alike} equivalent, ", end="")
    print(f"{len(left)} survived; {share:.1%} of those that are not equivalent killed, in {seconds:.0f} s")
    return 0 if share >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
