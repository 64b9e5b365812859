"""`script/bench sizes`: every finished option of the chain registry, and what each switch of minimize takes out of it.

Sizes of the images are those of their records. For the switches the minimize stage's program is run natively over the
chain's image, once without any and once for each, with the option's own settings otherwise.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import chains, measure
from benchmarks.images import bytes_in, unpacked
from chainbuild.minimize.trim import SWITCHES
from chainbuild.text import size

ALL = "all of them"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sized:
    """An option on a platform; `saved` has the bytes that each switch takes out of the minimized image."""

    one: chains.Finished
    saved: dict[str, int] = field(default_factory=dict)
    plain: int = 0
    """The bytes of the minimized image without any switch."""


def measured(repository: str, production: str, *, port: int | None, switches: bool) -> tuple[Sized, ...]:
    """Measure. Errors: `RunFailedError`, also where the registry has no finished option."""
    with chains.registry(port) as session:
        there = chains.finished(session, repository, production)
        if not there:
            raise measure.RunFailedError(f"{session.chain} has no finished option of {repository}: build one first")
        return tuple(_trimmed(one) if switches else Sized(one=one) for one in there)


def _trimmed(one: chains.Finished) -> Sized:
    name = f"{one.option} ({one.platform})"
    with unpacked(one.chain_image, one.platform.oci) as root, unpacked(one.bare_image, one.platform.oci) as bare:
        off = [word for switch in SWITCHES for word in (_flag(switch), "0")]
        own = _bytes(one, root, bare)
        if own != one.minimized.unpacked:
            measure.say(
                f"{name}: note: the registry's minimized image has {one.minimized.unpacked:,} bytes, not {own:,}"
            )
        plain = _bytes(one, root, bare, *off)
        saved = {}
        for switch in SWITCHES:
            saved[switch] = plain - _bytes(one, root, bare, *off, _flag(switch), "1")
            measure.say(f"{name}: {switch.upper()} saves {size(saved[switch])}")
        saved[ALL] = plain - _bytes(one, root, bare, *(word for switch in SWITCHES for word in (_flag(switch), "1")))
    return Sized(one=one, saved=saved, plain=plain)


def _flag(switch: str) -> str:
    return f"--{switch.replace('_', '-')}"


def _bytes(one: chains.Finished, root: Path, bare: Path, *more: str) -> int:
    with tempfile.TemporaryDirectory(prefix="chainbuild-bench-") as folder:
        measure.run([sys.executable, *chains.pack(one, root, bare, Path(folder), *more)], cwd=measure.REPOSITORY)
        return bytes_in(Path(folder) / "out")


def table(sized: tuple[Sized, ...]) -> str:
    """The page's tables: the images, and the switches."""
    rows = [
        "| option | platform | chain | | minimized | | production | | of the chain |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| | | *compressed* | *unpacked* | *compressed* | *unpacked* | *compressed* | *unpacked* | *unpacked* |",
    ]
    for one in (each.one for each in sized):
        cells = [size(one.chain.size), size(one.chain_bytes), size(one.minimized.size), size(one.minimized.unpacked)]
        cells += [size(one.production.size), size(one.production.unpacked)]
        share = f"{one.production.unpacked / one.chain_bytes:.0%}" if one.chain_bytes else "—"
        rows.append(f"| {one.option} | {one.platform} | {' | '.join(cells)} | {share} |")
    with_switches = [each for each in sized if each.saved]
    if with_switches:
        names = (*SWITCHES, ALL)
        heads = " | ".join(name if name == ALL else f"`{name.upper()}`" for name in names)
        rows += ["", f"| minimized, of | platform | none | {heads} |", f"| --- | --- |{' ---: |' * (len(names) + 1)}"]
        for each in with_switches:
            cells = [size(each.plain), *(_less(each.saved[name]) for name in names)]
            rows.append(f"| {each.one.option} | {each.one.platform} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _less(count: int) -> str:
    return f"−{size(count)}" if count else "0"
