"""How a run is executed, after the options and the project file are read and merged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from msgspec import Struct, field

from chainbuild.model import ChangeTolerance
from chainbuild.native.settings import NativeSettings
from chainbuild.planning.decisions import Renewal
from chainbuild.step_id import StepId

if TYPE_CHECKING:
    from chainbuild.planning.generations import GraphFor


class ExecutionOptions(Struct, frozen=True, kw_only=True):
    """How a run is executed: parsed values, with every default applied."""

    jobs: int | None = None
    """Number of parallel steps; None: one per platform."""
    keep_going: bool = False
    strict: bool = False
    """Treat warnings of the minimize stage and of the proofs as errors."""
    load: bool = True
    renewal: Renewal = field(default_factory=Renewal)
    outdated: str = ""
    """Renew the steps whose packages have updates: `all` updates, or those for `security`; empty: no step."""
    tolerance: Mapping[StepId, ChangeTolerance] = field(default_factory=dict)
    """Changes that do not cause a rebuild, by step."""
    first: int | None = None
    """`--from`: steps below this number are reused without checking."""
    seconds_left: Callable[[], float] | None = None
    """Return the seconds until the deadline."""
    rebase: bool = False
    """Rebase steps whose base moved, if it is proven that they fit, instead of building them."""
    native: NativeSettings = field(default_factory=NativeSettings)
    """Whether emulated steps get native tools."""
    push: bool = False
    """Send results and indexes to REPO's own registry."""
    replace_index: bool = False
    """Drop platforms from an index that this run does not build."""
    refuse_stale_index: bool = False
    """Fail if an index would keep an image that the current tree would not produce."""
    graph_for: GraphFor | None = None
    """Read the same request for other platforms."""
