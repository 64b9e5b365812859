"""`chainbuild files`: list and print files of an image, and show what a step added."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chainbuild.cli import flags
from chainbuild.cli.output import open_quietly

if TYPE_CHECKING:
    from chainbuild.comparison.image_files import Found, ImageFiles


PathInImage = Annotated[
    str, typer.Argument(metavar="[PATH]", help="Folder to list, or file to print.", show_default=False)
]
Added = Annotated[
    bool, typer.Option("--added", help="Show what the last step of the image added, changed and deleted.")
]
Recursive = Annotated[
    bool, typer.Option("--recursive", "-r", help="List everything below PATH (default: only its entries).")
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write the file to FILE (default: stdout).", dir_okay=False),
]


def files(
    image: flags.ImageOrStep,
    path: PathInImage = "/",
    *,
    added: Added = False,
    recursive: Recursive = False,
    output: Output = None,
    platform: flags.OnePlatform = None,
    root: flags.Root = Path(),
    registry: flags.Registry = None,
    registry_port: flags.Port = None,
    json: flags.Json = False,
) -> int:
    """List files of an image, or print one, without pulling the image. Needs no engine.

    With --added, show what a step added, by folder, with sizes.
    """
    from chainbuild.cli.image_arguments import Place, read_image_arguments
    from chainbuild.comparison.image_files import ImageFiles
    from chainbuild.operations.files import find_added, find_file, list_folder
    from chainbuild.operations.named_images import find_named_image
    from chainbuild.ui import stdout
    from chainbuild.ui.files import show_added, show_listing

    if added:
        _refuse(output, "--added has no content to write")
    place = Place(root=root, registry=registry, port=registry_port)
    settings, (named,) = read_image_arguments((image,), platform, place)
    with open_quietly(settings, json=json) as session:
        found = find_named_image(session, named).image
        if not added:
            contents = ImageFiles(session.registries, found)
            entry = find_file(contents, image, path)
            if entry.entry.kind != "dir" and not json:
                _print_file(contents, entry, output)
                return 0
            _refuse(output, "a folder and --json have no content to write")
            listing = list_folder(contents, entry.path, recursive=recursive)
        else:
            result = find_added(session.records, found, path)
    out = stdout()
    if added and json:
        out.write_json({"schema": "chainbuild.added/1", **result.as_json()})
    elif added:
        show_added(result, out, top=path, every_file=recursive)
    elif json:
        out.write_json({"schema": "chainbuild.files/1", **listing.as_json(found)})
    else:
        show_listing(listing, out)
    return 0


def _refuse(output: Path | None, reason: str) -> None:
    from chainbuild.errors import WrongUseError

    if output is not None:
        raise WrongUseError(f"-o {output}: {reason}", hint="Use -o with the path of a file.")


def _print_file(contents: ImageFiles, found: Found, output: Path | None) -> None:
    from chainbuild.cli.output import copy_result
    from chainbuild.host.folders import scratch_folder
    from chainbuild.operations.files import save_found
    from chainbuild.ui import stdout
    from chainbuild.ui.files import write_content

    with scratch_folder() as folder:
        # The digest of its layer is checked at the layer's end, so nothing is printed before that.
        file = folder / "file"
        save_found(contents, found, file)
        if output is None:
            write_content(file, found.path, stdout())
        else:
            copy_result(output, file)
