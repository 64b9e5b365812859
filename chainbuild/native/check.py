"""Read what `--native=check` compared: the log of the program in front of the tools, out of the builder's cache."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from msgspec import Struct

from chainbuild.builder.build_spec import BuildDriver, BuildSpec
from chainbuild.host.folders import scratch_folder
from chainbuild.native.tools import Tools, check_folder
from chainbuild.step_id import StepId
from chainbuild.text import plural

VERDICT: Final = "native"
"""The name of the verdict in a record."""
_NAME: Final = "chainbuild's Dockerfile for the log of native tools"
# The flags of the mount are those of `Tools.flags`: others would name another cache, and so would `--no-cache`. The folder is
# new in every run, so the builder has no older result of this RUN; the id of a mount alone makes no difference to it.
_DOCKERFILE: Final = """\
FROM {image} AS tools
RUN --mount=type=cache,id={name},target={folder} ["/tools/front", "{command}", "{folder}/log", "/report"]
FROM scratch
COPY --from=tools /report /report
"""


class Comparison(Struct, frozen=True, kw_only=True):
    """How many tool starts gave outputs that were compared, and how many did not."""

    equal: int = 0
    varies: int = 0
    """The native tool itself gives other bytes each time (`__TIME__`, for example), so nothing could be compared."""
    emulated: int = 0
    """Only the image's own tool ran."""
    unchecked: int = 0
    """Not in the sample."""

    @property
    def text(self) -> str:
        """The verdict."""
        parts = [f"{plural(self.equal, 'output')} compared, all equal" if self.equal else "nothing was compared"]
        parts += [f"{self.varies} that vary"] if self.varies else []
        parts += [f"{self.emulated} emulated"] if self.emulated else []
        parts += [f"{self.unchecked} not in the sample"] if self.unchecked else []
        return ", ".join(parts)


def parse_log(text: str) -> Comparison:
    """Return the counts of a log: one line per tool start, which begins with what was found. Other lines do not count."""
    words = [line.partition(" ")[0] for line in text.splitlines()]
    return Comparison(**{name: words.count(name) for name in Comparison.__struct_fields__})


class CheckLog(Struct, frozen=True, kw_only=True):
    """The log of a checked build, in a cache mount of the builder. `name` is the id of the mount."""

    step: StepId
    tools: Tools
    name: str
    percent: int


def prepare_log(driver: BuildDriver, log: CheckLog) -> None:
    """Make the log writable for every user of a RUN. Errors: those of a build."""
    _run(driver, log, "--prepare")


def read_comparison(driver: BuildDriver, log: CheckLog) -> Comparison:
    """Return what a checked build of a step compared. Errors: those of a build."""
    return parse_log(_run(driver, log, "--report"))


def _run(driver: BuildDriver, log: CheckLog, command: str) -> str:
    """Run the program of the tools on the log, and return what it reports."""
    with scratch_folder() as folder:
        dockerfile = folder / "Dockerfile"
        content = _DOCKERFILE.format(
            image=log.tools.image, name=log.name, folder=check_folder(log.name, log.percent), command=command
        )
        dockerfile.write_text(content, "utf-8")
        context, exported = folder / "context", folder / "exported"
        context.mkdir()
        spec = BuildSpec(
            step=log.step,
            dockerfile=dockerfile,
            shown=_NAME,
            context=context,
            platform=log.tools.platform,
            export=exported,
        )
        driver.build(spec, lambda _: None)
        return _read(exported / "report")


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except FileNotFoundError:
        return ""
