"""The native tools of a distribution for an emulated platform: an image with a key and a record, like that of any step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct, field

from chainbuild.errors import DamagedContentError
from chainbuild.host.folders import scratch_folder
from chainbuild.host.package_data import shipped
from chainbuild.model import Chain, ChangeTolerance, Graph, ImageInput, Step, StepKind
from chainbuild.native.roots import Root
from chainbuild.native.runs import CHECKED, MOUNTED
from chainbuild.references import ChainRegistry, ImageReference, Platform
from chainbuild.registry.contents import save_file
from chainbuild.registry.images import RemoteImage
from chainbuild.registry.pool import Registries
from chainbuild.step_id import StepId

REPOSITORY: Final = "chainbuild/native"
OPTION: Final = "native"
ROOT_IMAGE: Final = "ROOT_IMAGE"
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

    @property
    def text(self) -> str:
        """What is native, for the plan; empty if nothing is."""
        return ", ".join(f"{name} {version}" for name, version in self.native.items())

    @property
    def missing(self) -> str:
        """What is not native and why, for the plan; empty if everything is."""
        return "; ".join(f"{name} {reason}" for name, reason in self.emulated.items())

    def flags(self, check: str = "") -> tuple[str, ...]:
        """Return the flags of a RUN that make the tools available. `check`: the percentage and the id of its log."""
        base = f"--mount=type=bind,from={self.image}"
        specs = f"/usr/lib/gcc/{TRIPLETS[self.platform.oci]}/specs"
        flags = (f"{base},source=/tools,target={MOUNTED}", f"{base},source=/specs,target={specs}")
        if not check:
            return flags
        percent, _, name = check.partition(" ")
        return (*flags, f"--mount=type=cache,id={name},sharing=shared,mode=1777,target={CHECKED}/{percent}")


def tools_graph(chain: ChainRegistry, root: Root, platform: Platform, build_platform: Platform) -> Graph:
    """Return the graph of the one step that makes the tools. `root` is of a distribution in `IMAGES`."""
    name = f"{root.name}-on-{build_platform.name}"
    image = ImageReference.parse(IMAGES[root.distribution].format(suite=root.suite))
    repository = chain.place(ImageReference.parse(REPOSITORY))
    step = Step(
        id=StepId(platform.name, OPTION, name),
        kind=StepKind.BUILD,
        name=name,
        option=OPTION,
        number=0,
        platform=platform,
        dockerfile=shipped("utilities/Dockerfile-native"),
        shown="utilities/Dockerfile-native",
        context=shipped("utilities"),
        images=(ImageInput(name=ROOT_IMAGE, source=image, platform=build_platform, on_builder=True),),
        repository=repository,
        tag=f"{name}-{platform.name}",
        parent="",
    )
    return Graph(
        repo=repository, chains=(Chain(option=OPTION, platform=platform, base=image, steps=(step,)),), exact=True
    )


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
