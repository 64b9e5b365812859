"""Run the commands of `chainbuild release`: open what they need, call the release package, and show the result."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from chainbuild.cli.output import make_folder, messages, open_quietly, own_folder, write_result
from chainbuild.cli.settings import settings_from
from chainbuild.errors import Problem, WrongUseError
from chainbuild.references import ImageReference
from chainbuild.release.model import ReleasePlan
from chainbuild.release.page import page
from chainbuild.release.planning import undecided
from chainbuild.release.reader import parse_plan, read_plan
from chainbuild.release.rules import FILE_NAME
from chainbuild.text import plural
from chainbuild.ui import stdout
from chainbuild.ui.releases import show_moves, show_plan
from chainbuild.yamlspec.nodes import shown_path

if TYPE_CHECKING:
    from chainbuild.execution.session import Session
    from chainbuild.release.promotions import Move

MOVES_SCHEMA = "chainbuild.release-moves/1"


class Where(Struct, frozen=True, kw_only=True):
    """The flags that these commands share."""

    root: Path
    plan: Path | None
    registry: str | None = None
    port: int | None = None
    json: bool = False

    @property
    def path(self) -> Path:
        """The path of the plan file."""
        return self.root / (self.plan or FILE_NAME)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Open a session with the chain registry."""
        with open_quietly(
            settings_from(root=self.root, registry=self.registry, port=self.port), json=self.json
        ) as session:
            yield session


def create_plan(
    where: Where, patterns: Sequence[str], *, to: Sequence[str], name: str, force: bool, policy: Path | None = None
) -> int:
    """Run `release create`."""
    from chainbuild.attestations.policy import read_policy
    from chainbuild.operations.outdated import examiner
    from chainbuild.release.planning import built_images, chosen, each_its_own, planned, targets
    from chainbuild.release.policies import check_with, no_policy
    from chainbuild.release.writing import plan_text

    shown = shown_path(where.path)
    if where.path.exists() and not force:
        hint = "Update it with chainbuild release update, or replace it with --force."
        raise WrongUseError([Problem(path=shown, message="the plan already exists", hint=hint)])
    targets(to, ImageReference.parse("any/image:1"))  # report wrong names before any registry is contacted
    rules = read_policy(policy) if policy else None
    with where.session() as session:
        names = chosen(built_images(session.records, patterns), patterns)
        if not names:
            raise WrongUseError("no built image to release", hint="List the built images with chainbuild images.")
        destinations = {image: targets(to, image) for image in names}
        each_its_own(destinations)
        check = check_with(rules, examiner(session)) if rules else no_policy
        images = [planned(session.records, image, destinations[image], session.emit, check) for image in names]
    # The plan may be applied in another checkout, so its policy is found from the plan.
    named = os.path.relpath(policy, where.path.parent) if policy else ""
    raw = plan_text(name, images, named).encode("utf-8")
    plan = parse_plan(raw, where.path, shown)
    write_result(where.path, raw)
    return _show_result(where, plan, f"{shown}: {plural(len(images), 'image')}")


def update_plan(where: Where, patterns: Sequence[str]) -> int:
    """Run `release update`."""
    from chainbuild.operations.outdated import examiner
    from chainbuild.release.planning import update

    before = read_plan(where.path)
    raw = where.path.read_bytes()
    with where.session() as session:
        text = update(session.records, before, raw, patterns, session.emit, examiner(session))
    plan = parse_plan(text, where.path, before.shown)
    if text == raw:
        return _show_result(where, plan, f"{plan.shown}: already up to date")
    if where.path.read_bytes() != raw:
        raise WrongUseError(
            [
                Problem(
                    path=plan.shown,
                    message="the plan was edited while it was updated; nothing was changed",
                    hint="Run chainbuild release update again.",
                )
            ]
        )
    write_result(where.path, text)
    old = {image.name: image.as_json() for image in before.images}
    new = [str(image.name) for image in plan.images if old.get(image.name) != image.as_json()]
    return _show_result(where, plan, f"{plan.shown}: {', '.join(new)}")


def _show_result(where: Where, plan: ReleasePlan, text: str) -> int:
    left = undecided(plan)
    if where.json:
        stdout().write_json(_document(plan, left))
    else:
        more = f"; {plural(len(left), 'open decision')}: see chainbuild release show" if left else ""
        stdout().write([text + more])
    return 0


def _document(plan: ReleasePlan, left: Sequence[Problem]) -> dict[str, Any]:
    rows = [{"path": item.path, "line": item.line, "message": item.message, "hint": item.hint} for item in left]
    return {**plan.as_json(), "open": rows}


def show_the_plan(where: Where, *, html: Path | None) -> int:
    """Run `release show`."""
    plan = read_plan(where.path)
    left = undecided(plan)
    if html:
        write_result(html, page(plan, left).encode("utf-8"))
    if where.json:
        stdout().write_json(_document(plan, left))
    elif html:
        stdout().write([str(html)])
    else:
        show_plan(plan, left, stdout())
    return 0


def publish_plan(where: Where, output: Path | None) -> int:
    """Run `release page`."""
    plan = read_plan(where.path)
    left = undecided(plan)
    folder = output or own_folder(where.root, "releases", f"{where.path.stem}-page")
    make_folder(folder)
    write_result(folder / FILE_NAME, where.path.read_bytes())
    write_result(folder / "index.html", page(plan, left, source=FILE_NAME).encode("utf-8"))
    if where.json:
        stdout().write_json(
            {"schema": "chainbuild.release-page/1", "page": str(folder / "index.html"), "plan": str(folder / FILE_NAME)}
        )
    else:
        stdout().write([str(folder / "index.html")])
    return 0


def apply_plan(where: Where, *, dry_run: bool) -> int:
    """Run `release apply`."""
    from chainbuild.operations.outdated import examiner
    from chainbuild.release.applying import begun_at, journal_path, move_names, open_journal, put_contents
    from chainbuild.release.promotions import prepare

    plan = read_plan(where.path)
    with where.session() as session:
        examine = examiner(session)
        if dry_run:
            begun = begun_at(journal_path(plan), "apply") > 0
            moves = prepare(session.records, plan, begun=begun, examine=examine)
            return _moved(where, moves, dry_run=True)
        with open_journal(plan, "apply") as journal:
            moves = prepare(session.records, plan, begun=journal.begun > 0, examine=examine)
            put_contents(session.registries, moves, session.emit)
            move_names(session.registries, moves, journal, session.emit)
    return _moved(where, moves, dry_run=False)


def roll_back(where: Where, *, dry_run: bool) -> int:
    """Run `release rollback`."""
    from chainbuild.release.applying import move_names, open_journal
    from chainbuild.release.promotions import prepare_return

    plan = read_plan(where.path)
    with where.session() as session:
        moves, stay = prepare_return(session.registries, plan)
        if stay:
            names = ", ".join(map(str, stay))
            text = f"left unchanged, because they did not exist before this plan: {names}"
            messages(json=where.json).info(text)
        if not dry_run:
            with open_journal(plan, "rollback") as journal:
                move_names(session.registries, moves, journal, session.emit)
    return _moved(where, moves, dry_run=dry_run)


def _moved(where: Where, moves: Sequence[Move], *, dry_run: bool) -> int:
    if where.json:
        stdout().write_json({"schema": MOVES_SCHEMA, "dry_run": dry_run, "names": [move.as_json() for move in moves]})
        return 0
    show_moves(moves, stdout(), only_planned=dry_run)
    return 0
