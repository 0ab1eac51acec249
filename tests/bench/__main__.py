"""`python -m tests.bench`: run the races, print them beside their baselines. Speed never fails a run."""

import argparse
import dataclasses
import json
import sys

from rich.console import Console
from rich.table import Table

from tests.bench.harness import Race, Result, discover, load_baseline, run_race, save_baseline

MIN_ROUNDS = 5


def main() -> int:
    """Parse the command line and run; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("modules", nargs="*", help="benchmarks to run, e.g. `fft`; all by default")
    parser.add_argument("--rounds", type=int, default=9, help=f"rounds after the warm-up, at least {MIN_ROUNDS}")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--save", action="store_true", help="make the measured ratios the new baseline")
    args = parser.parse_args()
    if args.rounds < MIN_ROUNDS:
        parser.error(f"--rounds {args.rounds}: at least {MIN_ROUNDS}, a median of fewer says little")
    try:
        found = discover(args.modules)
    except ValueError as exc:
        parser.error(str(exc))

    console = Console(stderr=args.json)
    report: dict[str, dict[str, object]] = {}
    for module, races in found.items():
        baseline = load_baseline(module)
        results = {}
        for race in races:
            results[race.name] = run_race(race, args.rounds)
            if not args.json:
                console.print(table(race, results[race.name], baseline.get(race.name, {})))
                if race.remark is not None:
                    console.print(race.remark(results[race.name]), highlight=False)
        report[module] = {
            race: {name: dataclasses.asdict(result) for name, result in row.items()} for race, row in results.items()
        }
        if args.save:
            # contestants that are not installed here keep what was saved elsewhere
            kept = {r.name: {n: x for n, x in baseline.get(r.name, {}).items() if n in r.contestants} for r in races}
            ratios = {race: kept[race] | {name: r.ratio for name, r in row.items()} for race, row in results.items()}
            console.print(f"saved {save_baseline(module, ratios).name}")
    if args.json:
        json.dump(report, sys.stdout, indent=2)
        print()
    return 0


def table(race: Race, results: dict[str, Result], baseline: dict[str, float]) -> Table:
    """One race, a row per contestant."""
    view = Table(title=race.name, title_justify="left")
    view.add_column("contestant")
    against = f"CPU time / {race.limit}"
    headings = [f"{race.unit}/s of CPU", f"{race.unit}/s of wall", against, "baseline", "change"]
    for heading in [*headings, "goal"] if race.goals else headings:
        view.add_column(heading, justify="right")
    for name in race.contestants:
        if name not in results:
            view.add_row(name, "not installed")
            continue
        result, before = results[name], baseline.get(name)
        view.add_row(
            name,
            with_prefix(result.rate),
            with_prefix(result.wall_rate),
            f"{result.ratio:.2f}",
            "-" if before is None else f"{before:.2f}",
            "-" if before is None else f"{100 * (result.ratio / before - 1):+.0f} %",
            *([verdict(result.ratio, *race.goals[name])] if name in race.goals else []),
        )
    return view


def verdict(ratio: float, least: float, largest: float) -> str:
    """What was wanted of a ratio, and whether it is so."""
    wanted = (
        f">= {least:g}" if largest == float("inf") else f"<= {largest:g}" if least == 0 else f"{least:g}..{largest:g}"
    )
    return f"{wanted}: {'met' if least <= ratio <= largest else 'missed'}"


def with_prefix(rate: float) -> str:
    """A rate in three digits with a decimal prefix: 1.23 M."""
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if rate >= factor:
            return f"{rate / factor:.3g} {prefix}"
    return f"{rate:.3g}"


if __name__ == "__main__":
    sys.exit(main())
