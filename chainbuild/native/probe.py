"""Find out whether a builder starts native programs in builds for another platform.

With a QEMU that is registered in the kernel, emulated programs start native ones as always. Where none is registered, BuildKit
takes the QEMU of its own image, which starts every program under itself, so that native ones fail.
"""

from __future__ import annotations

from typing import Final

from chainbuild.builder.build_spec import BuildDriver, BuildSpec
from chainbuild.host.folders import scratch_folder
from chainbuild.native.tools import OPTION, Tools
from chainbuild.step_id import StepId

PROBE: Final = "chainbuild's Dockerfile that starts a native program"
# After a success, the builder has the result in its cache.
_DOCKERFILE: Final = """\
FROM {image}
RUN --network=none ["/tools/front", "--report", "/versions", "/report"]
"""


def start_natively(driver: BuildDriver, tools: Tools) -> None:
    """Start a program of the tools in a build for their platform. Errors: those of a build, if it does not start."""
    with scratch_folder() as folder:
        dockerfile, context = folder / "Dockerfile", folder / "context"
        dockerfile.write_text(_DOCKERFILE.format(image=tools.image), "utf-8")
        context.mkdir()
        spec = BuildSpec(
            step=StepId(tools.platform.name, OPTION, "start"),
            dockerfile=dockerfile,
            shown=PROBE,
            context=context,
            platform=tools.platform,
            quoted=False,
        )
        driver.build(spec, lambda _: None)
