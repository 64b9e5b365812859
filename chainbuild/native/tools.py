"""The native tools of a distribution for an emulated platform: an image with a key and a record, like that of any step."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct, field

from chainbuild.errors import DamagedContentError
from chainbuild.host.folders import scratch_folder
from chainbuild.host.package_data import shipped
from chainbuild.model import BuildArg, Chain, ChangeTolerance, Graph, ImageInput, Step, StepKind
from chainbuild.native.roots import Root
from chainbuild.native.runs import CHECKED, ENTRIES, MOUNTED, Use
from chainbuild.references import ChainRegistry, ImageReference, Platform
from chainbuild.registry.contents import save_file
from chainbuild.registry.images import RemoteImage
from chainbuild.registry.pool import Registries
from chainbuild.step_id import StepId
from chainbuild.values import replace

REPOSITORY: Final = "chainbuild/native"
OPTION: Final = "native"
ROOT_IMAGE: Final = "ROOT_IMAGE"
COMPILERS_IMAGE: Final = "COMPILERS_IMAGE"
GCC: Final = "gcc"
"""GCC's name in the list of versions."""
_NAMES: Final[Mapping[Use, frozenset[str]]] = {
    Use.COMPILERS: frozenset({"binutils", GCC}),
    Use.PACKAGES: frozenset({"apt", "dpkg"}),
}
"""What the tools for each use are called in the list of versions."""
REFRESH_AFTER: Final = 30 * 86400.0
"""The age in seconds after which tools are made anew: the distribution may have newer compilers."""
TOLERANCE: Final = ChangeTolerance(outside=True, flag="native tools")
"""Tools are made from packages: a newer image of the distribution does not make them old."""
IMAGES: Final[Mapping[str, str]] = {"debian": "debian:{suite}-slim", "ubuntu": "ubuntu:{suite}"}
"""The images with the package sources of the supported distributions, by their ID in os-release."""
TRIPLETS: Final[Mapping[str, str]] = {
    "linux/amd64": "x86_64-linux-gnu",
    "linux/arm64": "aarch64-linux-gnu",
    "linux/ppc64le": "powerpc64le-linux-gnu",
    "linux/riscv64": "riscv64-linux-gnu",
}
"""GCC's names of the platforms that can be accelerated: 64-bit and little-endian, as the program in the image reads ELF."""
_VERSIONS: Final = "/versions"


class Tools(Struct, frozen=True, kw_only=True):
    """An image of native tools: its pinned reference, and what is in it.

    `native` are the versions of the programs that run natively, by name; `emulated` is why others do not.
    """

    image: str
    platform: Platform
    native: Mapping[str, str] = field(default_factory=dict)
    emulated: Mapping[str, str] = field(default_factory=dict)

    def text(self, uses: Collection[Use]) -> str:
        """Return what is native for some uses, for the plan; empty if nothing is."""
        return ", ".join(f"{name} {version}" for name, version in self.native.items() if _is_for(name, uses))

    def missing(self, uses: Collection[Use]) -> str:
        """Return what is not native and why, for the plan; empty if everything is."""
        found = ((name, text.partition(" ")) for name, text in self.emulated.items() if _is_for(name, uses))
        return "; ".join(f"{name} {_with_reason(*parts)}" for name, parts in found)

    def offered(self, uses: Collection[Use]) -> frozenset[Use]:
        """Return those of the uses for which there is a native program."""
        return frozenset(use for use in uses if not _NAMES[use].isdisjoint(self.native))

    @property
    def compilable(self) -> str:
        """The version of GCC that is emulated here and that the distribution has the source of; empty if there is none."""
        return self.emulated.get(GCC, "").partition(" ")[0]

    def flags(self, uses: Collection[Use], log: str = "", percent: int = 100) -> tuple[str, ...]:
        """Return the flags of a RUN that make the tools available; none if there are no tools for these uses.

        `log`: the id of a check's log, `percent` its share.
        """
        offered = self.offered(uses)
        base = f"--mount=type=bind,from={self.image}"
        flags = [f"{base},source=/tools,target={MOUNTED}"] if offered else []
        if Use.COMPILERS in offered:
            flags.append(f"{base},source=/specs,target=/usr/lib/gcc/{TRIPLETS[self.platform.oci]}/specs")
            flags += [f"--mount=type=cache,id={log},target={check_folder(log, percent)}"] if log else []
        if Use.PACKAGES in offered:
            flags += [f"{base},source=/tools/entry,target={entry}" for entry in ENTRIES]
        return tuple(flags)


def _is_for(name: str, uses: Collection[Use]) -> bool:
    return any(name in _NAMES[use] for use in uses)


def check_folder(name: str, percent: int) -> str:
    """Return where the log of a check is mounted. The program in front of the tools reads the percentage from its name."""
    return f"{CHECKED}/{percent}-{name}"


def _with_reason(version: str, _: str, reason: str) -> str:
    return f"{version} ({reason})" if reason else version


def tools_graph(chain: ChainRegistry, root: Root, platform: Platform, build_platform: Platform) -> Graph:
    """Return the graph of the one step that makes the tools of packages. `root` is of a distribution in `IMAGES`."""
    step = _step(chain, root, platform, build_platform, name=root.name)
    return _graph(chain, root, step)


def compiled_graph(
    chain: ChainRegistry, root: Root, platform: Platform, build_platform: Platform, version: str
) -> Graph:
    """Return the graph of two steps: one that compiles GCC of a version of the distribution, one that makes tools with it."""
    compilers = _step(
        chain,
        root,
        platform,
        build_platform,
        name=f"{root.name}-gcc-{re.sub('[^A-Za-z0-9._-]', '-', version)}",
        dockerfile="Dockerfile-native-gcc",
        args={"PACKAGE": f"gcc-{version.partition('.')[0]}", "VERSION": version},
    )
    compiled = ImageInput(name=COMPILERS_IMAGE, source=compilers.id, platform=platform)
    tools = _step(chain, root, platform, build_platform, name=f"{root.name}-compiled", more=(compiled,))
    return _graph(chain, root, compilers, replace(tools, target="compiled"))


def image_of(root: Root) -> ImageReference:
    """Return the image with the package sources of a root's distribution."""
    return ImageReference.parse(IMAGES[root.distribution].format(suite=root.suite))


def _step(
    chain: ChainRegistry,
    root: Root,
    platform: Platform,
    build_platform: Platform,
    *,
    name: str,
    dockerfile: str = "Dockerfile-native",
    args: Mapping[str, str] | None = None,
    more: tuple[ImageInput, ...] = (),
) -> Step:
    name = f"{name}-on-{build_platform.name}"
    return Step(
        id=StepId(platform.name, OPTION, name),
        kind=StepKind.BUILD,
        name=name,
        option=OPTION,
        number=0,
        platform=platform,
        dockerfile=shipped(f"utilities/{dockerfile}"),
        shown=f"utilities/{dockerfile}",
        context=shipped("utilities"),
        args=tuple(BuildArg(name=key, value=value) for key, value in (args or {}).items()),
        images=(ImageInput(name=ROOT_IMAGE, source=image_of(root), platform=build_platform, on_builder=True), *more),
        repository=chain.place(ImageReference.parse(REPOSITORY)),
        tag=f"{name}-{platform.name}",
        parent="",
        # They run on the builder, so tools for another kind of builder are other tools.
        identity=build_platform.oci,
    )


def _graph(chain: ChainRegistry, root: Root, *steps: Step) -> Graph:
    made = Chain(option=OPTION, platform=steps[0].platform, base=image_of(root), steps=steps)
    return Graph(repo=chain.place(ImageReference.parse(REPOSITORY)), chains=(made,), exact=True)


def read_tools(registries: Registries, image: RemoteImage) -> Tools:
    """Return the tools in an image. Errors: those of the registry; `DamagedContentError` if they are not described."""
    with scratch_folder() as folder:
        target = folder / "versions"
        save_file(registries, image, _VERSIONS, target)
        native, emulated = parse_versions(_text(target))
    return Tools(image=image.reference.pinned, platform=image.platform, native=native, emulated=emulated)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except ValueError as error:
        raise DamagedContentError("the native tools' list of versions is not text") from error


def parse_versions(text: str) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Return what is native (name to version) and what is not (name to version and reason), as `make-tools.sh` writes it.

    Errors: `DamagedContentError`.
    """
    native: dict[str, str] = {}
    emulated: dict[str, str] = {}
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        name, _, value = rest.partition(" ")
        if word not in {"native", "emulated"} or not name or not value:
            raise DamagedContentError(f"the native tools' list of versions has a line {line[:80]!r}")
        (native if word == "native" else emulated)[name] = value
    return native, emulated
