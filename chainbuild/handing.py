"""Files of a step's images that its Dockerfile takes from the context: a private copy of the context has them.

So an own production stage may say `ADD ./minimized.tar.gz /` of what its minimize stage left at `/minimized.tar.gz`. The
file is read from the registry; no container is made, and nothing is written into the tree.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from chainbuild.build_order import BuildOrder
from chainbuild.context.files import ContextFile
from chainbuild.errors import BuildFailedError, NotAnImageError, NotFoundInRegistryError, NotReadyError
from chainbuild.events import Emit, Message
from chainbuild.model import Step
from chainbuild.registry.images import RemoteImage
from chainbuild.registry.one_file import save_file
from chainbuild.registry.pool import Registries
from chainbuild.scratch import scratch_folder
from chainbuild.tarball import without_links_to_self
from chainbuild.values import replace
from chainbuild.wording import plural

_IGNORE: Final = ".dockerignore"


@contextmanager
def with_handed(
    step: Step,
    order: BuildOrder,
    files: Iterable[ContextFile],
    images: Mapping[str, RemoteImage],
    registries: Registries,
    emit: Emit,
) -> Iterator[BuildOrder]:
    """Have the order of a step with what is handed to it, as long as the `with` lasts.

    `files` are those of its context that it can read. Errors: `BuildFailedError` if an image does not have what is to be
    handed on; `NotReadyError` if there is no space for a copy; those of the registry.
    """
    if not step.handed:
        yield order
        return
    with scratch_folder() as scratch:
        context = scratch / "context"
        try:
            _copy(order.context, files, context)
        except OSError as error:
            raise NotReadyError(
                f"{step.id}: its context cannot be copied: {error.strerror}", where=str(error.filename or context)
            ) from error
        for file in step.handed:
            target = context / file.name
            try:
                save_file(registries, images[file.image], file.path, target)
                left_out = without_links_to_self(target)
            except (NotFoundInRegistryError, NotAnImageError) as error:
                raise BuildFailedError(
                    f"{step.id}: {error.message}",
                    where=order.shown,
                    hint=f"The stage before it has to leave {file.path} in its image.",
                ) from error
            except OSError as error:
                raise NotReadyError(
                    f"{step.id}: cannot write {file.name}: {error.strerror}", where=str(target)
                ) from error
            if left_out:
                text = f"{step.id}: {file.name} has {plural(left_out, 'file')} twice; the second time is left out"
                emit(Message(text=text))
        yield replace(order, context=context, sent="")


def _copy(root: Path, files: Iterable[ContextFile], target: Path) -> None:
    """Copy entries of a context with their modes, times and extended attributes."""
    target.mkdir()
    folders: dict[Path, Path] = {target: root}
    names = dict.fromkeys((*(os.fsencode(file.path) for file in files), _IGNORE.encode()))
    for name in (os.fsdecode(raw) for raw in names):
        source, place = root / name, target / name
        try:
            mode = source.lstat().st_mode
        except FileNotFoundError:
            continue  # the builder leaves out what has vanished, too
        for parent in reversed(place.parents):
            if parent.is_relative_to(target) and parent not in folders:
                folders[parent] = root / parent.relative_to(target)
                parent.mkdir(exist_ok=True)
        if stat.S_ISDIR(mode):
            folders[place] = source
            place.mkdir(exist_ok=True)
        elif stat.S_ISLNK(mode):
            place.symlink_to(source.readlink())
        elif stat.S_ISREG(mode):
            shutil.copy2(source, place)
        elif stat.S_ISFIFO(mode):
            os.mkfifo(place, stat.S_IMODE(mode))
    for place, source in sorted(folders.items(), reverse=True):
        with suppress(OSError):
            shutil.copystat(source, place)
