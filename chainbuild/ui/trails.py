"""An image's trail as people and programs read it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

from chainbuild.inventory import Crumb
from chainbuild.records.record import Record
from chainbuild.registry.images import RemoteImage
from chainbuild.ui.terminal import Line, Span, Terminal
from chainbuild.wording import duration, escaped, moment, size

SCHEMA: Final = "chainbuild.inspect/1"


def show_trail(image: RemoteImage, crumbs: Sequence[Crumb], out: Terminal) -> None:
    """Print the image and then every step, the lowest first."""
    lines: list[Line | str] = [
        (Span(str(image.reference), "bold"),),
        f"  platform {image.platform.oci}, {size(image.size)} compressed in {len(image.layers)} layers",
    ]
    steps = {crumb.record.identity: crumb.step for crumb in crumbs if crumb.record}
    for crumb in crumbs:
        lines += [(), (Span(escaped(crumb.step), "bold"),), f"  key         {crumb.key}"]
        lacking = crumb.refusal or "its record is no longer in the chain registry"
        lines += _facts(crumb, crumb.record, steps) if crumb.record else [f"  {escaped(lacking)}"]
    out.write(lines)


def _facts(crumb: Crumb, record: Record, steps: Mapping[str, str]) -> list[Line | str]:
    notes = record.notes
    commit = notes.get("commit", "")
    if commit and notes.get("dirty") == "yes":
        commit += " and uncommitted changes"
    when = moment(record.built_at)
    facts = {
        "image": str(record.image),
        "Dockerfile": notes.get("dockerfile", ""),
        "args": " ".join(f"{name}={value}" for name, value in record.components.args.items()),
        "stands on": ", ".join(
            # What nobody here made is known by its content, not by a digest: layers and configuration.
            f"{name} {steps.get(identity) or f'of content {identity[7:19]}'}"
            for name, identity in record.components.images.items()
        ),
        "commit": commit,
        "built": f"{when} in {duration(record.seconds)}",
        "signed by": crumb.signer,
        "adds": size(max(record.added, 0)),
        "proven": "; ".join(f"{proof}: {said}" for proof, said in record.verdicts.items()),
    }
    lines: list[Line | str] = [f"  {name:<11} {escaped(text)}" for name, text in facts.items() if text]
    for number, warning in enumerate(record.warnings.first):
        lines.append(f"  {'' if number else 'warnings':<11} {escaped(str(warning))}")
    if (more := record.warnings.total - len(record.warnings.first)) > 0:
        lines.append(f"  {'':<11} and {more} more (chainbuild minimize report has all of the stage)")
    return lines


def trail_as_json(image: RemoteImage, crumbs: Sequence[Crumb]) -> str:
    """The trail's document."""
    document = {
        "schema": SCHEMA,
        "image": str(image.reference),
        "platform": image.platform.oci,
        "digest": str(image.digest),
        "size": image.size,
        "trail": [
            {
                "step": crumb.step,
                "key": crumb.key,
                "record": crumb.record.as_json() if crumb.record else None,
                "signer": crumb.signer or None,
                "refusal": crumb.refusal or None,
            }
            for crumb in crumbs
        ],
    }
    return json.dumps(document, indent=2)
