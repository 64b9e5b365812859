"""`chainbuild records copy | adopt`: copy records between registries, and sign those of older versions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chainbuild.cli import flags
from chainbuild.cli.output import messages, print_lines
from chainbuild.text import escaped

if TYPE_CHECKING:
    from chainbuild.execution.session import Session

app = typer.Typer(no_args_is_help=True, help="Copy records to another registry, or sign the records of older versions.")

MANAGED = "managed"


@app.command()
def copy(
    source: Annotated[
        str, typer.Argument(metavar="FROM", help="Chain registry to copy from: managed, or HOST[/PATH].")
    ],
    target: Annotated[str, typer.Argument(metavar="TO", help="Chain registry to copy to: managed, or HOST[/PATH].")],
    repositories: Annotated[
        list[str] | None,
        typer.Argument(metavar="[REPO…]", help="Repositories to copy (default: all).", show_default=False),
    ] = None,
    *,
    root: flags.Root = Path(),
    registry_port: flags.Port = None,
    dry_run: flags.DryRun = False,
    json: flags.Json = False,
) -> int:
    """Copy records and their images from one chain registry to another, so that nothing is rebuilt there.

    Only missing data is sent. A record is copied if it is signed with a key that you trust and matches its image. Your
    own signature is added.
    """
    from chainbuild.errors import WrongUseError
    from chainbuild.records.transfer import copy_records
    from chainbuild.text import plural
    from chainbuild.ui import stdout

    if source == target:
        raise WrongUseError(
            "FROM and TO are the same registry",
            hint="Name two registries, for example: chainbuild records copy managed ghcr.io/acme",
        )
    with (
        _open(source, root, registry_port, json=json) as source_session,
        _open(target, root, registry_port, json=json) as target_session,
    ):
        result = copy_records(
            source_session.records,
            target_session.records,
            only=frozenset(repositories or ()),
            dry_run=dry_run,
            tell=(lambda _: None) if json else lambda text: print_lines(escaped(text)),
        )
    if json:
        document = {"copied": result.copied, "present": result.present, "refused": result.refused, "dry_run": dry_run}
        stdout().write_json({"schema": "chainbuild.records-copy/1", **document})
        return 0
    messages().warn(*(f"skipped: {escaped(name)}: {escaped(reason)}" for name, reason in result.refused.items()))
    done = "would be copied" if dry_run else "copied"
    print_lines(f"{plural(len(result.copied), 'record')} {done}, {result.present} already present")
    return 0


@app.command()
def adopt(
    repositories: Annotated[
        list[str] | None,
        typer.Argument(metavar="[REPO…]", help="Repositories to sign (default: all).", show_default=False),
    ] = None,
    *,
    root: flags.Root = Path(),
    registry: flags.Registry = None,
    registry_port: flags.Port = None,
    dry_run: flags.DryRun = False,
) -> int:
    """Sign the records of chainbuild versions before 0.2, which have no signature and are therefore not reused.

    Do this only for a registry that nobody else could write to: you vouch for its content. Each record is first checked
    against its image. Records taken over from the `registry` folder of a tree are signed only if you name their REPO.
    """
    from chainbuild.cli.output import open_quietly
    from chainbuild.cli.settings import settings_from
    from chainbuild.errors import WrongUseError
    from chainbuild.execution.session import registry_data
    from chainbuild.local_registry.tree_data import repositories_from_trees
    from chainbuild.parsing.option_values import parse_repository
    from chainbuild.records.transfer import adopt_unsigned
    from chainbuild.references import ImageReference
    from chainbuild.text import plural

    if registry and not repositories:
        raise WrongUseError(
            "adopting records of a shared registry needs a REPO",
            hint="Name a repository, for example: chainbuild records adopt acme/tools",
        )
    settings = settings_from(root=root, registry=registry, port=registry_port, managed=True)
    signed = 0
    with open_quietly(settings, json=False) as session:
        places = [session.chain.place(parse_repository(name)) for name in repositories or ()] or [
            ImageReference(session.chain.host, name)
            for name in session.registries.client(session.chain.host).repositories()
        ]
        foreign = repositories_from_trees(registry_data(settings.root)) if not (registry or repositories) else {}
        for place in places:
            if folder := foreign.get(place.repository):
                print_lines(f"skipped: {place.repository}: it came with {escaped(folder)}; name it to sign it")
                continue
            for step, reason in adopt_unsigned(session.records, place, dry_run=dry_run):
                signed += not reason
                if reason:
                    print_lines(f"skipped: {place.repository}: {escaped(step)}: {escaped(reason)}")
    print_lines(f"{plural(signed, 'record')} {'would be signed' if dry_run else 'signed'}")
    return 0


@contextmanager
def _open(text: str, root: Path, port: int | None, *, json: bool) -> Iterator[Session]:
    """Open the chain registry that an argument names."""
    from chainbuild.cli.output import open_quietly
    from chainbuild.cli.settings import settings_from

    settings = settings_from(root=root, registry=None if text == MANAGED else text, port=port, managed=True)
    with open_quietly(settings, json=json) as session:
        yield session
