"""`script/bench`: what is measured is in docs/benchmarks.md. Whole processes, side by side in one run."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import (
    bootstrap,
    loop,
    measure,
    memory,
    minimize,
    native,
    outdated,
    page,
    plan,
    rebase,
    science,
    sizes,
    start,
    stock,
)
from chainbuild.errors import ChainbuildError

Tables = dict[str, str]
"""What was measured, by the place that it has in docs/benchmarks.md."""


def main() -> int:
    """Run the benchmark that is named; its table goes to stdout and, with `--write`, into the page."""
    parser = argparse.ArgumentParser(prog="script/bench", description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    commands = parser.add_subparsers(required=True, metavar="BENCHMARK")

    words = commands.add_parser("loop", help="a chain through a shell loop, buildx bake and chainbuild")
    defaults = loop.Settings()
    words.add_argument("--rounds", type=int, default=defaults.rounds)
    words.add_argument("--steps", type=int, default=defaults.steps)
    words.add_argument("--base", default=defaults.base, help="a local image (default: %(default)s)")
    words.add_argument("--least", type=int, default=defaults.least, help="bytes that the first step writes")
    words.add_argument("--most", type=int, default=defaults.most, help="bytes that the last step writes")
    words.add_argument(
        "--prune", action="store_true", help="empty the engine's whole build cache where it is to be empty"
    )
    words.set_defaults(name="loop", measured=_loop)

    words = commands.add_parser(
        "minimize", help="the closure against ldd, natively and under QEMU; what the layer holds"
    )
    words.add_argument("images", nargs="*", help="local images, for ldd alone; else the chain registry's `stock`")
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--no-emulation", action="store_true", help="leave out the other platform, which takes minutes")
    _of_a_registry(words)
    words.set_defaults(name="minimize", measured=_minimize)

    words = commands.add_parser("sizes", help="chain, minimized and production of every option; what each switch saves")
    words.add_argument("--no-switches", action="store_true", help="only what the registry knows")
    _of_a_registry(words)
    words.set_defaults(name="sizes", measured=_sizes)

    words = commands.add_parser("memory", help="how much memory the minimize stage's program takes at most")
    words.add_argument("--files", type=int, default=200_000, help="in the tree of many files (default: %(default)s)")
    _of_a_registry(words)
    words.set_defaults(name="memory", measured=_memory)

    words = commands.add_parser("start", help="the CPU time of commands that build nothing")
    words.add_argument("--rounds", type=int, default=start.ROUNDS)
    words.add_argument("--base", default="debian:bookworm-slim", help="a local image (default: %(default)s)")
    words.add_argument("--beside", type=Path, metavar="DIR", help="another checkout with a .venv, to compare with")
    words.set_defaults(name="start", measured=_start)

    words = commands.add_parser("plan", help="plans of many steps, and of science layers, that are all in the registry")
    words.add_argument(
        "--sizes", default=",".join(map(str, plan.SIZES)), help="numbers of steps (default: %(default)s)"
    )
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument(
        "--layers", default=",".join(map(str, science.SIZES)), help="numbers of science layers (default: %(default)s)"
    )
    words.set_defaults(name="plan", measured=_plan)

    words = commands.add_parser("outdated", help="find outdated packages of two chains of images on two platforms")
    words.add_argument(
        "--sizes",
        default=",".join(map(str, outdated.SIZES)),
        help="steps of a chain on each platform (default: %(default)s)",
    )
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--base", default="debian:bookworm-slim", help="a local image (default: %(default)s)")
    words.set_defaults(name="outdated", measured=_outdated)

    words = commands.add_parser("native", help="compile packages emulated, with native tools, and on the own platform")
    words.add_argument(
        "--base", default="debian:trixie-slim", help="a local image of both platforms (default: %(default)s)"
    )
    words.add_argument(
        "--packages",
        default=",".join(package.name for package in native.PACKAGES),
        help="what to compile (default: %(default)s)",
    )
    words.set_defaults(name="native", measured=_native)

    words = commands.add_parser("stock", help="the chain `stock`: own platform, with native tools, and emulated")
    words.add_argument(
        "--base", default="debian:trixie-slim", help="a local image of both platforms (default: %(default)s)"
    )
    words.add_argument(
        "--tree", type=Path, default=measure.REPOSITORY, help="the folder with `stock` (default: %(default)s)"
    )
    words.add_argument(
        "--ways", default=f"{stock.OWN},{stock.NATIVE},{stock.EMULATED}", help="what to compare (default: %(default)s)"
    )
    words.set_defaults(name="stock", measured=_stock)

    words = commands.add_parser("bootstrap", help="base images of the own and a foreign platform, made from packages")
    words.add_argument("--suites", default=",".join(bootstrap.SUITES), help="of Debian (default: %(default)s)")
    words.add_argument("--rounds", type=int, default=3)
    words.set_defaults(name="bootstrap", measured=_bootstrap)

    words = commands.add_parser("rebase", help="many images on a patched base: rebased, and built")
    words.add_argument(
        "--images", type=int, default=rebase.IMAGES, help="on each of two platforms (default: %(default)s)"
    )
    words.add_argument(
        "--base", default="debian:bookworm-slim", help="a local image of both platforms (default: %(default)s)"
    )
    words.set_defaults(name="rebase", measured=_rebase)

    asked = parser.parse_args()
    # Ended from outside, it still takes away what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    measured: Callable[[argparse.Namespace], Tables] = asked.measured
    try:
        tables = measured(asked)
    except (measure.RunFailedError, ChainbuildError) as error:
        measure.say(f"script/bench {asked.name}: {error}")
        return 1
    print("\n\n".join(tables.values()))
    print(f"\n{page.machine()}")
    for name, table in tables.items() if asked.write else ():
        page.put(name, table)
    return 0


def _loop(asked: argparse.Namespace) -> Tables:
    settings = loop.Settings(
        steps=asked.steps, rounds=asked.rounds, base=asked.base, least=asked.least, most=asked.most, prune=asked.prune
    )
    return {"loop": loop.table(loop.measured(settings))}


def _of_a_registry(words: argparse.ArgumentParser) -> None:
    words.add_argument("--repo", default="chainbuild/atom", help="whose images (default: %(default)s)")
    words.add_argument("--production", default="debian:bookworm-slim", help="what they end on (default: %(default)s)")
    words.add_argument("--registry-port", type=int, help="as chainbuild's (default: $CHAINBUILD_REGISTRY_PORT or 5000)")


def _minimize(asked: argparse.Namespace) -> Tables:
    settings = minimize.Settings(
        rounds=asked.rounds,
        images=tuple(asked.images),
        repository=asked.repo,
        production=asked.production,
        emulate=not asked.no_emulation,
        port=asked.registry_port,
    )
    return {"minimize": minimize.table(minimize.measured(settings))}


def _sizes(asked: argparse.Namespace) -> Tables:
    found = sizes.measured(asked.repo, asked.production, port=asked.registry_port, switches=not asked.no_switches)
    return {"sizes": sizes.table(found)}


def _memory(asked: argparse.Namespace) -> Tables:
    found = memory.measured(asked.repo, asked.production, asked.files, port=asked.registry_port)
    return {"memory": memory.table(found)}


def _stock(asked: argparse.Namespace) -> Tables:
    return {"stock": stock.table(stock.measured(asked.base, asked.tree, tuple(asked.ways.split(","))))}


def _native(asked: argparse.Namespace) -> Tables:
    return {"native": native.table(native.measured(asked.base, tuple(asked.packages.split(","))))}


def _rebase(asked: argparse.Namespace) -> Tables:
    return {"rebase": rebase.table(rebase.measured(asked.images, asked.base))}


def _start(asked: argparse.Namespace) -> Tables:
    return {"start": start.table(start.measured(asked.rounds, asked.base, asked.beside))}


def _plan(asked: argparse.Namespace) -> Tables:
    steps, layers = (tuple(int(word) for word in text.split(",")) for text in (asked.sizes, asked.layers))
    return {
        "plan": plan.table(plan.measured(steps, asked.rounds)),
        "science": science.table(science.measured(layers, asked.rounds)),
    }


def _outdated(asked: argparse.Namespace) -> Tables:
    sizes = tuple(int(word) for word in asked.sizes.split(","))
    return {"outdated": outdated.table(outdated.measured(sizes, asked.rounds, asked.base))}


def _bootstrap(asked: argparse.Namespace) -> Tables:
    return {"bootstrap": bootstrap.table(bootstrap.measured(tuple(asked.suites.split(",")), asked.rounds))}


if __name__ == "__main__":
    sys.exit(main())
