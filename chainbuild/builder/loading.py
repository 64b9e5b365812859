"""Build an image into the engine's local store, after the builds that it is linked to, with what the builder has cached."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from chainbuild.builder.build_spec import BuildSpec
from chainbuild.builder.failures import build_error
from chainbuild.builder.progress import Progress, hidden_flags
from chainbuild.builder.solve import bake_file, name_of
from chainbuild.events import Emit
from chainbuild.host.folders import scratch_folder

if TYPE_CHECKING:
    from chainbuild.builder.buildx import BuildxDriver


def load(driver: BuildxDriver, specs: Sequence[BuildSpec], emit: Emit) -> None:
    """Build the last of the builds, which has a name to `load` it under; see `BuildxDriver.load`."""
    from python_on_whales.exceptions import DockerException

    last = specs[-1]
    progress = Progress(last.step, emit, hidden=hidden_flags(last))
    with ExitStack() as stack:
        file = bake_file(driver, specs, stack.enter_context(scratch_folder()), stack)
        try:
            for line in driver.bake(file, specs, [name_of(len(specs) - 1)]):
                progress.feed(line)
        except DockerException as error:
            raise build_error(last, progress.failure(), error.return_code) from None
