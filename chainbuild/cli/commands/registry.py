"""`chainbuild registry`: the managed registry, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chainbuild.cli import flags
from chainbuild.cli.output import open_quietly, print_lines, say
from chainbuild.cli.settings import settings_from
from chainbuild.text import escaped

app = typer.Typer(help="The chain registry: up, down, status, ls, gc.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def up(*, root: flags.Root = Path(), registry_port: flags.Port = 5000) -> int:
    """Start it; it runs until `registry down`."""
    from chainbuild.execution.session import managed_registry

    managed = managed_registry(settings_from(root=root, registry=None, port=registry_port))
    managed.up(say)
    data = managed.status().data or "a place that cannot be seen"
    print_lines(f"{managed.endpoint} is up and stays up; its data is in {escaped(data)}")
    return 0


@app.command()
def down(
    *,
    root: flags.Root = Path(),
    registry_port: flags.Port = 5000,
    force: Annotated[bool, typer.Option("--force", help="Stop it even if runs need it: they will fail.")] = False,
) -> int:
    """Stop it; its data stays. Refuses while a run needs it."""
    from chainbuild.execution.session import managed_registry

    managed = managed_registry(settings_from(root=root, registry=None, port=registry_port))
    was_up = managed.down(say, force=force)
    print_lines(f"{managed.endpoint} is down" if was_up else f"{managed.endpoint} was not up")
    return 0


@app.command()
def status(*, root: flags.Root = Path(), registry_port: flags.Port = 5000, json: flags.Json = False) -> int:
    """Show what is on its port, who needs it, who stops it, and where its data and its login are."""
    from chainbuild.execution.session import managed_registry
    from chainbuild.local_registry.login import ensure_login, find_stored, login_path
    from chainbuild.ui import stdout

    managed = managed_registry(settings_from(root=root, registry=None, port=registry_port))
    found = managed.status()
    stored = find_stored(managed.endpoint, ensure_login())
    if json:
        document = {
            "schema": "chainbuild.registry-status/1",
            "endpoint": found.endpoint,
            "kind": found.kind,
            "running": found.running,
            "holder": found.holder,
            "owner": found.owner,
            "data": found.data or str(managed.data),
            "login": {"demanded": found.login, "file": str(login_path()), "docker": stored},
            "runs": [str(holder) for holder in found.holders],
        }
        stdout().write_json(document)
        return 0
    words = {
        "none": "not running; a run that needs it starts it",
        "run": "up; the last run that needs it stops it",
        "person": "up until chainbuild registry down",
        "foreign": "up, but not chainbuild's: it is used and never stopped",
        "other-user": f"up, but it is the registry of {found.owner}",
        "blocked": "the port is held by something that is no registry",
    }
    without_login = ", without a login" if found.running and not found.login else ""
    facts = [f"held by {found.holder}"] if found.holder else []
    facts += [f"data in {found.data or managed.data}", f"login in {login_path()}"]
    facts.append(f"for docker in {stored}" if stored else "docker does not have the login yet")
    facts += [f"needed by {holder}" for holder in found.holders]
    print_lines(
        f"{found.endpoint}: {escaped(words[found.kind])}{without_login}", *(f"    {escaped(text)}" for text in facts)
    )
    return 0


@app.command("ls")
def list_images(
    repository: Annotated[str, typer.Argument(help="Only this repository.", show_default=False)] = "",
    *,
    root: flags.Root = Path(),
    registry: flags.Registry = None,
    registry_port: flags.Port = 5000,
    everything: Annotated[bool, typer.Option("--all", help="Also the tags of machine data (k1-…, sha256-…).")] = False,
) -> int:
    """List the repositories and tags that the chain registry holds."""
    from chainbuild.records.garbage import is_readable

    with open_quietly(settings_from(root=root, registry=registry, port=registry_port), json=False) as session:
        client = session.registries.client(session.chain.host)
        names = [repository] if repository else sorted(client.repositories())
        for name in names:
            for tag in sorted(client.tags(name)):
                if everything or is_readable(tag):
                    print_lines(escaped(f"{session.chain.host}/{name}:{tag}"))
    return 0


@app.command()
def gc(
    repository: Annotated[str, typer.Argument(metavar="[REPO]", help="Only this repository.", show_default=False)] = "",
    *,
    keep: Annotated[int, typer.Option("--keep", metavar="N", min=0, help="How many TAGs of each option stay.")] = 3,
    delete: Annotated[bool, typer.Option("--delete", help="Do it; without this it is only shown.")] = False,
    root: flags.Root = Path(),
    registry: flags.Registry = None,
    registry_port: flags.Port = 5000,
) -> int:
    """Show, then delete, what no kept image, index, record or parent needs. Refuses while a run needs the registry."""
    from chainbuild.errors import WrongUseError
    from chainbuild.execution.session import managed_registry
    from chainbuild.parsing.option_values import parse_repository
    from chainbuild.records.garbage import Garbage, collect, find_all_garbage, is_readable
    from chainbuild.references import Digest
    from chainbuild.text import plural, size

    settings = settings_from(root=root, registry=registry, port=registry_port)
    with open_quietly(settings, json=False) as session:
        place = session.chain.place(parse_repository(repository)).repository if repository else ""
        if not place and settings.registry:
            raise WrongUseError(
                "gc in a registry of others needs a REPO", hint="As in chainbuild registry gc org/atom."
            )
        managed = settings.registry is None
        found = find_all_garbage(session.records, keep=keep, repository=place, managed=managed)
        kept = frozenset[Digest]().union(*(one.kept_blobs for one in found))
        garbage = [one for one in found if one.manifests]
        for one in garbage:
            tags = sorted(tag for held in one.manifests for tag in held.tags if is_readable(tag))
            count = plural(len(one.manifests), "manifest")
            print_lines(f"{one.repository}: {count}, {size(one.freed(kept))}", *(f"    {escaped(tag)}" for tag in tags))
        freed = size(Garbage.freed_by_all(found))
        if not garbage:
            print_lines("nothing can go")
        elif not delete:
            print_lines(f"{freed} would be freed; --delete does it")
        else:

            def delete_all() -> None:
                for one in garbage:
                    collect(session.registries, one)

            if settings.registry is None:
                managed_registry(settings).sweep(session.emit, delete_all)
            else:
                delete_all()
            print_lines(f"deleted; {freed} freed")
    return 0
