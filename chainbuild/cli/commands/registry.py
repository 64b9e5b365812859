"""`chainbuild registry`: manage the chain registry by hand."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chainbuild.cli import flags
from chainbuild.cli.output import messages, open_quietly, print_lines
from chainbuild.cli.settings import settings_from
from chainbuild.text import escaped

if TYPE_CHECKING:
    from chainbuild.execution.session import Session
    from chainbuild.records.garbage import Garbage

app = typer.Typer(help="Manage the chain registry.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def up(*, root: flags.Root = Path(), registry_port: flags.Port = None) -> int:
    """Start the managed registry. It runs until `registry down`."""
    from chainbuild.execution.session import managed_registry

    managed = managed_registry(settings_from(root=root, registry=None, port=registry_port, managed=True))
    managed.up(messages().emit)
    data = managed.status().data or "an unknown folder"
    print_lines(f"{managed.endpoint} is running until chainbuild registry down; its data is in {escaped(data)}")
    return 0


@app.command()
def down(
    *,
    root: flags.Root = Path(),
    registry_port: flags.Port = None,
    force: Annotated[
        bool, typer.Option("--force", help="Stop the registry even if runs use it; those runs fail.")
    ] = False,
) -> int:
    """Stop the managed registry and keep its data. Fails while a run uses the registry."""
    from chainbuild.execution.session import managed_registry

    managed = managed_registry(settings_from(root=root, registry=None, port=registry_port, managed=True))
    was_up = managed.down(messages().emit, force=force)
    print_lines(f"{managed.endpoint} was stopped" if was_up else f"{managed.endpoint} was not running")
    return 0


@app.command()
def status(*, root: flags.Root = Path(), registry_port: flags.Port = None, json: flags.Json = False) -> int:
    """Show what uses the port, which runs need the registry, what stops it, and where its data and login are."""
    from chainbuild.execution.session import managed_registry
    from chainbuild.local_registry.login import ensure_login, find_stored, login_path
    from chainbuild.ui import stdout

    managed = managed_registry(settings_from(root=root, registry=None, port=registry_port, managed=True))
    state = managed.status()
    stored = find_stored(managed.endpoint, ensure_login())
    if json:
        document = {
            "schema": "chainbuild.registry-status/1",
            "endpoint": state.endpoint,
            "kind": state.kind,
            "running": state.running,
            "holder": state.holder,
            "owner": state.owner,
            "data": state.data or str(managed.data),
            "login": {"demanded": state.login, "file": str(login_path()), "docker": stored},
            "runs": [str(holder) for holder in state.holders],
            "until": state.until or None,
        }
        stdout().write_json(document)
        return 0
    descriptions = {
        "none": "not running; a run that needs it starts it",
        "run": "running; the last run that needs it stops it",
        "person": "running until chainbuild registry down",
        "foreign": "running, but not started by chainbuild: used, never stopped",
        "other-user": f"running, but owned by the user {state.owner}",
        "blocked": "not running: the port is in use by something that is not a registry",
    }
    if state.until:
        clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(state.until))
        descriptions["run"] = f"running, though no run needs it, until {clock} or chainbuild registry down"
    without_login = ", without a login" if state.running and not state.login else ""
    facts = [f"port in use by {state.holder}"] if state.holder else []
    facts += [f"data in {state.data or managed.data}", f"login in {login_path()}"]
    facts.append(f"login stored for docker in {stored}" if stored else "login not yet stored for docker")
    facts += [f"needed by {holder}" for holder in state.holders]
    print_lines(
        f"{state.endpoint}: {escaped(descriptions[state.kind])}{without_login}",
        *(f"    {escaped(text)}" for text in facts),
    )
    return 0


@app.command("ls")
def list_images(
    repository: Annotated[
        str, typer.Argument(metavar="[REPO]", help="List only this repository.", show_default=False)
    ] = "",
    *,
    root: flags.Root = Path(),
    registry: flags.Registry = None,
    registry_port: flags.Port = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also list the tags of machine data (k1-…, sha256-…).")
    ] = False,
    json: flags.Json = False,
) -> int:
    """List the repositories and tags of the chain registry."""
    from chainbuild.records.garbage import is_readable
    from chainbuild.ui import stdout

    listed: dict[str, list[str]] = {}
    with open_quietly(settings_from(root=root, registry=registry, port=registry_port), json=json) as session:
        client = session.registries.client(session.chain.host)
        for name in [_place(session, repository)] if repository else sorted(client.repositories()):
            tags = [tag for tag in sorted(client.tags(name)) if everything or is_readable(tag)]
            listed[f"{session.chain.host}/{name}"] = tags
    if json:
        repositories = [{"repository": name, "tags": tags} for name, tags in listed.items() if tags]
        stdout().write_json({"schema": "chainbuild.registry-ls/1", "repositories": repositories})
    else:
        print_lines(*(escaped(f"{name}:{tag}") for name, tags in listed.items() for tag in tags))
    return 0


@app.command()
def gc(
    repository: Annotated[
        str, typer.Argument(metavar="[REPO]", help="Clean up only this repository.", show_default=False)
    ] = "",
    *,
    keep: Annotated[
        int, typer.Option("--keep", metavar="N", min=0, help="Number of TAGs to keep for each option.")
    ] = 3,
    delete: Annotated[bool, typer.Option("--delete", help="Delete (default: only list).")] = False,
    root: flags.Root = Path(),
    registry: flags.Registry = None,
    registry_port: flags.Port = None,
    json: flags.Json = False,
) -> int:
    """List or delete what no kept image, index, record or parent needs. Fails while a run uses the registry."""
    from chainbuild.errors import WrongUseError
    from chainbuild.execution.session import managed_registry
    from chainbuild.records.garbage import collect, find_all_garbage

    settings = settings_from(root=root, registry=registry, port=registry_port)
    with open_quietly(settings, json=json) as session:
        place = _place(session, repository) if repository else ""
        if not place and settings.registry:
            raise WrongUseError(
                "gc of a shared registry needs a REPO",
                hint="Name a repository, for example: chainbuild registry gc org/atom",
            )
        managed = settings.registry is None
        found = find_all_garbage(session.records, keep=keep, repository=place, managed=managed)
        garbage = [item for item in found if item.manifests]
        if not json:
            _show_garbage(found)
        if garbage and delete:

            def delete_all() -> None:
                for item in garbage:
                    collect(session.registries, item)

            if managed:
                managed_registry(settings).sweep(session.emit, delete_all)
            else:
                delete_all()
    _report_deletion(found, deleted=delete, json=json)
    return 0


def _place(session: Session, repository: str) -> str:
    """Return a repository's name in the chain registry. Errors: `WrongUseError`."""
    from chainbuild.parsing.option_values import parse_repository

    return session.chain.place(parse_repository(repository)).repository


def _show_garbage(found: Sequence[Garbage]) -> None:
    """Print what can be deleted from each repository."""
    from chainbuild.records.garbage import Garbage, is_readable
    from chainbuild.text import plural, size

    kept = Garbage.kept_by_any(found)
    for item in found:
        if item.manifests:
            tags = sorted(tag for held in item.manifests for tag in held.tags if is_readable(tag))
            count = plural(len(item.manifests), "manifest")
            print_lines(
                f"{item.repository}: {count}, {size(item.freed(kept))}", *(f"    {escaped(tag)}" for tag in tags)
            )


def _report_deletion(found: Sequence[Garbage], *, deleted: bool, json: bool) -> None:
    """Print how much space is free now, or would be."""
    from chainbuild.records.garbage import Garbage
    from chainbuild.text import size
    from chainbuild.ui import stdout

    freed = Garbage.freed_by_all(found)
    if json:
        kept = Garbage.kept_by_any(found)
        repositories = [
            {
                "repository": str(item.repository),
                "freed": item.freed(kept),
                "manifests": [{"digest": str(held.digest), "tags": sorted(held.tags)} for held in item.manifests],
            }
            for item in found
            if item.manifests
        ]
        document = {"deleted": deleted, "freed": freed, "repositories": repositories}
        stdout().write_json({"schema": "chainbuild.registry-gc/1", **document})
    elif not any(item.manifests for item in found):
        print_lines("Nothing to delete.")
    elif deleted:
        print_lines(f"deleted, {size(freed)} freed")
    else:
        print_lines(f"{size(freed)} would be freed. Delete with --delete.")
