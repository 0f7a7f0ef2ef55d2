"""`scripts/soak`: lets shops sell while everything fails, and says whether a sale was lost, doubled or out of order."""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.soaking import namespaces

if TYPE_CHECKING:
    # Loaded later: the first process only makes the namespaces and is replaced.
    from scripts.soaking.mutants import Mutant
    from scripts.soaking.rounds import Result

ROOT = Path(__file__).resolve().parents[2]
LIFE_SECONDS = 600.0
"""A platform serves so long; a longer soak goes on with a fresh one and the next seed, so that the judge stays quick."""
MUTANT_SECONDS = 180.0
NOT_PERMITTED = 77
"""The exit code of programs that cannot run here, as automake has it for tests that are skipped."""


def main() -> int:
    """The exit code: 0 when nothing was found, 1 when something broke, 77 where namespaces are not permitted."""
    arguments = _parser().parse_args()
    from scripts.soaking import mutants

    if arguments.list_mutants:
        for mutant in mutants.ALL:
            print(f"{mutant.name:28} {mutant.sentence}")
        return 0
    if arguments.mutant and arguments.mutant not in mutants.BY_NAME:
        sys.stderr.write(f"There is no mutant {arguments.mutant}; --list-mutants names them.\n")
        return 2
    try:
        namespaces.enter()
    except namespaces.NotPermitted as error:
        sys.stderr.write(f"{error}\n")
        return NOT_PERMITTED
    from scripts.soaking.programs import NotReady

    try:
        return asyncio.run(_run(arguments))
    except (mutants.NotApplicable, NotReady) as error:
        sys.stderr.write(f"{error}\n")
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/soak",
        description="Runs PostgreSQL, the cloud and four tablets as real processes in network namespaces, sells at all of them, "
        "lets everything fail by chance, heals it, and judges from outside: nothing lost, doubled or out of order.",
    )
    parser.add_argument("--minutes", type=float, default=5.0, metavar="N", help="how long (default 5)")
    parser.add_argument("--seed", type=int, help="of the faults and the shops; a random one when left out")
    parser.add_argument("--mutant", metavar="NAME", help="plants a fault into a copy of the product and runs until it is caught")
    parser.add_argument("--list-mutants", action="store_true", help="names the faults that can be planted")
    parser.add_argument("--faults", metavar="KINDS", default="", help="only these kinds, separated by commas")
    parser.add_argument(
        "--all-kinds", action="store_true", help="goes on until every kind of fault has come, however long that takes"
    )
    parser.add_argument(
        "--packed", action="store_true", help="every kind of fault once, as many at the same time as can be, and none for long"
    )
    parser.add_argument(
        "--pace", type=float, default=0.25, metavar="S", help="seconds between two sales of a cashier (default 0.25)"
    )
    parser.add_argument("--source", type=Path, default=ROOT, metavar="DIR", help="another checkout whose product is tried")
    parser.add_argument("--keep", action="store_true", help="keeps the logs and files of a soak that found nothing, too")
    return parser


async def _run(arguments: argparse.Namespace) -> int:
    from scripts.soaking import mutants

    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(1 << 31)
    mutant = mutants.BY_NAME[arguments.mutant] if arguments.mutant else None
    seconds = MUTANT_SECONDS if mutant else 0.0 if arguments.packed else arguments.minutes * 60
    print(f"Soak with seed {seed}" + (f", mutant {mutant.name}: {mutant.sentence}" if mutant else ""), flush=True)
    began = time.monotonic()
    results: list[Result] = []
    while not results or (time.monotonic() - began < seconds and not results[-1].findings):
        left = seconds - (time.monotonic() - began) if results else seconds
        results.append(await _life(arguments, seed + len(results), mutant, min(LIFE_SECONDS, left)))
    _summary(results, time.monotonic() - began)
    return _verdict(results[-1], arguments)


def _new_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="gipos-soak-"))
    folder.chmod(0o755)  # the database runs under another account when we are root
    (folder / "logs").mkdir()
    return folder


async def _life(arguments: argparse.Namespace, seed: int, mutant: Mutant | None, seconds: float) -> Result:
    """One platform, from its making to its end."""
    from scripts.soaking import mutants
    from scripts.soaking.plans import Plan
    from scripts.soaking.rounds import Soak
    from scripts.soaking.world import built, copy_product

    kinds = tuple(arguments.faults.split(",")) if arguments.faults else mutant.faults if mutant else ()
    folder = _new_folder()
    has_ended_well = False
    try:
        source = copy_product(arguments.source, folder / "source")
        if mutant is not None:
            mutants.plant(mutant, source)
        async with built(folder, source) as world:
            soak = Soak(
                world,
                Plan(world, seed, kinds, packed=arguments.packed),
                seed,
                lambda line: print(line, flush=True),
                arguments.pace,
            )
            result = await soak.run(time.monotonic() + seconds, all_kinds=arguments.all_kinds or arguments.packed)
        has_ended_well = not result.findings
    finally:
        if has_ended_well and not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"Logs, journal and files: {folder}", flush=True)
    return result


def _summary(results: list[Result], seconds: float) -> None:
    rounds = [one for result in results for one in result.rounds]
    from scripts.soaking.rounds import DRAIN_SECONDS

    kinds = sum((result.kinds for result in results), start=type(results[0].kinds)())
    print()
    print(f"{'fault':22}{'times':>6}{'drained, median':>18}{'longest':>10}")
    for kind, times in sorted(kinds.items()):
        took = [one.drained for one in rounds if kind in one.faults] or [0.0]
        print(f"{kind:22}{times:6d}{statistics.median(took):16.1f} s{max(took):8.1f} s")
    receipts, facts = sum(result.receipts for result in results), sum(result.facts for result in results)
    others = sum((result.others for result in results), start=type(results[0].others)())
    told = "".join(f", {count} {words}" for words, count in others.items())
    print(f"{len(rounds)} rounds in {seconds:.0f} s, {receipts} receipts of tills{told}")
    waited = sorted(one.drained for one in rounds)
    if waited:
        middle, late = statistics.median(waited), sum(one.drained > one.limit for one in rounds)
        print(
            f"After healing everything had arrived within {middle:.1f} s (median), {waited[-1]:.1f} s (longest);"
            f" {DRAIN_SECONDS:.0f} s are promised, {late} rounds took longer than that times what others do on this machine"
        )
    print(f"{facts} facts by REST")


def _verdict(result: Result, arguments: argparse.Namespace) -> int:
    print()
    if not result.findings:
        print("The judge found nothing: 0 lost, 0 doubled, 0 out of order, stock is the sum of its movements, copies are fresh.")
        return 0
    first, *others = result.findings
    print(first.sentence)
    print(f"  {first.kind}: {first.evidence}")
    for finding in others:
        print(f"  {finding.kind}: {finding.sentence} {finding.evidence}")
    again = f"scripts/soak --seed {result.seed}" + (f" --mutant {arguments.mutant}" if arguments.mutant else "")
    print(f"  seed {result.seed}, round {result.step}, {result.seconds:.0f} s after the beginning; again: {again}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
