"""Read which machines build the platforms of a workflow, and check that its times fit them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from chainbuild.ci.pipeline import Runner, Vendor
from chainbuild.parsing.option_values import ProblemCollector
from chainbuild.patterns import regex
from chainbuild.references import Platform
from chainbuild.text import duration

_LABEL = regex(r"[A-Za-z0-9][A-Za-z0-9_.:/-]*")


def read_runners(
    texts: Sequence[str], platforms: Sequence[Platform], vendor: Vendor, collector: ProblemCollector
) -> Mapping[str, Runner]:
    """Return the machine of each platform by its name; problems of `--runner` go to the collector."""
    own: dict[str, Runner] = {}
    for text in texts:
        name, equals, labels = text.partition("=")
        many = tuple(labels.split(","))
        before = len(collector.problems)
        current = collector.parse("--runner", Platform.parse, name, Platform.of_this_machine())
        if not equals or not all(_LABEL.fullmatch(label) for label in many):
            collector.add(
                f"--runner {text!r} is not PLATFORM=LABEL",
                "For example aarch64=ubuntu-24.04-arm; separate several labels with commas.",
            )
        elif len(many) > 1 and not vendor.many_labels:
            collector.add(f"--runner {text!r} has several labels", f"{vendor.title} accepts one label.")
        elif current.oci in own:
            collector.add(f"--runner: duplicate runner for {name}", "Remove one of them.")
        elif len(collector.problems) == before and not any(item.same_as(current) for item in platforms):
            collector.add(
                f"--runner {name}: the workflow does not build for this platform",
                f"Platforms: {', '.join(item.name for item in platforms)}.",
            )
        own[current.oci] = Runner(labels=many, hosted=re.fullmatch(vendor.hosted, many[0]) is not None)
    return {platform.name: own.get(platform.oci) or vendor.runner(platform) for platform in platforms}


def check_times(
    vendor: Vendor, runners: Mapping[str, Runner], seconds: float, most: float | None, collector: ProblemCollector
) -> None:
    """Check the deadline of jobs, and the length of their parts (None: not split); problems go to the collector."""
    if any(runner.hosted for runner in runners.values()) and seconds >= vendor.limit:
        collector.add(
            f"--deadline of {duration(seconds)}: {vendor.title} ends jobs on hosted machines after "
            f"{duration(vendor.limit)}",
            "Set a shorter deadline, or self-hosted machines for all platforms: --runner PLATFORM=LABEL.",
        )
    if seconds <= 0:
        collector.add("--deadline of 0 leaves no time to build", f"For example: --deadline {vendor.deadline}.")
    if most is not None and most > seconds:
        collector.add(
            f"--split of {duration(most)} is longer than the --deadline of {duration(seconds)}",
            "The job would stop before its part is complete. Set a shorter --split or a longer --deadline.",
        )
