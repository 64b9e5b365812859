"""Users and groups of a root file system, and those of the chain's image that the production image lacks.

Formats: passwd(5), group(5), shadow(5), gshadow(5). Malformed lines are left alone and never copied. Passwords are
never copied either: processes can run as an added user, but nobody can log in as one.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field

from chainbuild.minimize.overlay import Overlay
from chainbuild.minimize.root import MAX_TEXT, FileTree, Node, RootFileSystem, join, shown

PASSWD, GROUP, SHADOW, GSHADOW = "/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow"
_SKELETON = "/etc/skel"
_NAME = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.@-]{0,255}\$?")
_MOST_ID = (1 << 32) - 2


@dataclass(frozen=True, kw_only=True, slots=True)
class User:
    """A line of passwd(5), without its password."""

    name: str
    uid: int
    gid: int
    comment: str = ""
    home: str = ""
    shell: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """A line of group(5), without its password."""

    name: str
    gid: int
    members: tuple[str, ...] = ()


@dataclass(kw_only=True, slots=True)
class Users:
    """The users and groups of an image by name; of several lines with the same name the first counts."""

    users: dict[str, User] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)

    def user_of(self, uid: int) -> User | None:
        """Return the first user with this id."""
        return next((user for user in self.users.values() if user.uid == uid), None)

    def group_of(self, gid: int) -> Group | None:
        """Return the first group with this id."""
        return next((group for group in self.groups.values() if group.gid == gid), None)


@dataclass(kw_only=True, slots=True)
class AddedUsers:
    """The added users and groups, and the changed files with the reasons.

    `conflicts` are errors of the result. `left` are texts about what was left out, each with a path to keep or `""`.
    """

    users: list[User] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    conflicts: list[str] = field(default_factory=list)
    left: list[tuple[str, str]] = field(default_factory=list)


def read_users(tree: FileTree) -> Users:
    """Read the users and groups in /etc/passwd and /etc/group of `tree`."""
    users = Users()
    for fields in _lines(tree, PASSWD, 7):
        uid, gid = _number(fields[2]), _number(fields[3])
        if uid is not None and gid is not None:
            user = User(name=fields[0], uid=uid, gid=gid, comment=fields[4], home=fields[5], shell=fields[6])
            users.users.setdefault(user.name, user)
    for fields in _lines(tree, GROUP, 4):
        gid = _number(fields[2])
        if gid is not None:
            members = tuple(name for name in fields[3].split(",") if _NAME.fullmatch(name))
            users.groups.setdefault(fields[0], Group(name=fields[0], gid=gid, members=members))
    return users


def bring_users(chain: RootFileSystem, overlay: Overlay, image_user: str) -> AddedUsers:
    """Add the users and groups that `chain` has and the result in `overlay` lacks, by name.

    `image_user` is the chain's `USER`: its ids must be free in the production image, and its home folder is added
    empty. Other users and groups whose ids are taken are left out. A production image without /etc/passwd gets only the
    lines of root and of that user, and none if that is root or an unused number.
    """
    if any(overlay.resolve(path) in overlay.added for path in (PASSWD, GROUP)):
        return AddedUsers()  # ADDITIONAL_FILES keeps the chain's files unchanged
    return _UserMerge(chain, overlay, image_user).done()


class _UserMerge:
    def __init__(self, chain: RootFileSystem, overlay: Overlay, image_user: str) -> None:
        self.chain, self.overlay = chain, overlay
        self.chain_users, self.result_users = read_users(chain), read_users(overlay)
        name, _, group = image_user.partition(":")
        number = _number(name)
        user = self.chain_users.users.get(name) or (self.chain_users.user_of(number) if number is not None else None)
        self.user = user if user is not None and user.uid != 0 else None
        self.group = self.chain_users.groups.get(group)
        self.bare = overlay.resolve(PASSWD) is None
        self.result = AddedUsers()

    def done(self) -> AddedUsers:
        if self.bare and self.user is None and self.group is None:
            return self.result
        for path in (PASSWD, GROUP, SHADOW, GSHADOW):
            if len(self.overlay.read(path) or b"") >= MAX_TEXT:
                self.result.left.append((f"no users were added: {path} of the production image is too long", ""))
                return self.result
        self._users()
        self._groups()
        if self.result.conflicts:
            return self.result
        self._write_users()
        self._write_groups()
        if self.user is not None and self.user in self.result.users:
            self._home(self.user)
        return self.result

    def _is_own(self, group: Group) -> bool:
        """Return whether a container runs with this group: the one in USER, otherwise the user's primary group."""
        if self.group is not None:
            return group.name == self.group.name
        return self.user is not None and group.gid == self.user.gid

    def _is_joined(self, group: Group) -> bool:
        return self.user is not None and self.user.name in group.members

    def _users(self) -> None:
        for user in self.chain_users.users.values():
            needed = user == self.user
            if self.bare and not needed and user.uid != 0:
                continue
            same, owner = self.result_users.users.get(user.name), self.result_users.user_of(user.uid)
            if same is not None:
                if needed and same.uid != user.uid:
                    text = f"has the id {user.uid} in the chain's image and {same.uid} in the production image"
                    self._collides(needed, f"user {user.name}", f"USER {user.name} {text}")
                continue
            if owner is None:
                self.result.users.append(user)
                self.result_users.users[user.name] = user
            else:
                text = f"the id {user.uid} of user {user.name} of the chain's image belongs to {owner.name}"
                self._collides(needed, f"user {user.name}", f"{text} in the production image")

    def _groups(self) -> None:
        for group in self.chain_users.groups.values():
            needed = self._is_own(group)
            if self.bare and not needed and not self._is_joined(group) and group.gid != 0:
                continue
            same, owner = self.result_users.groups.get(group.name), self.result_users.group_of(group.gid)
            if same is not None:
                if same.gid != group.gid and (needed or self._is_joined(group)):
                    text = f"has the id {group.gid} in the chain's image and {same.gid} in the production image"
                    self._collides(needed, f"group {group.name}", f"group {group.name} of USER {text}")
            elif owner is None:
                members = tuple(name for name in group.members if name in self.result_users.users)
                self.result.groups.append(Group(name=group.name, gid=group.gid, members=members))
                self.result_users.groups[group.name] = group
            else:
                text = f"the id {group.gid} of group {group.name} of the chain's image belongs to {owner.name}"
                self._collides(needed, f"group {group.name}", f"{text} in the production image")

    def _collides(self, needed: bool, what: str, text: str) -> None:
        if needed:
            self.result.conflicts.append(f"{text}: create {what} with another id in the chain, or set KEEP_USERS=0")
        else:
            self.result.left.append((f"{what} is left out: {text}", ""))

    def _write_users(self) -> None:
        users = self.result.users
        if not users:
            return
        has_shadow = self.overlay.is_file(SHADOW)
        password = "x" if has_shadow else "*"
        why = f"users of the chain's image: {_listed([user.name for user in users])}"
        lines = [f"{u.name}:{password}:{u.uid}:{u.gid}:{u.comment}:{u.home}:{u.shell}" for u in users]
        self._append(PASSWD, lines, why)
        if has_shadow:
            self._append(SHADOW, [f"{user.name}:*:::::::" for user in users], f"{why}; without passwords")

    def _write_groups(self) -> None:
        groups, joined = self.result.groups, self._joined()
        if not groups and not joined:
            return
        names = [group.name for group in groups] + sorted(joined)
        why = f"groups of the chain's image: {_listed(names)}"
        has_shadow = self.overlay.is_file(GSHADOW)
        password = "x" if has_shadow else "*"
        self._append(GROUP, [f"{g.name}:{password}:{g.gid}:{','.join(g.members)}" for g in groups], why, joined)
        if has_shadow:
            self._append(GSHADOW, [f"{g.name}:!::{','.join(g.members)}" for g in groups], why, joined)

    def _joined(self) -> dict[str, list[str]]:
        """Return the groups of both images that get new members, with the added users that are members in the chain's image."""
        brought = {user.name for user in self.result.users}
        own = {group.name for group in self.result.groups}
        joined: dict[str, list[str]] = {}
        for name, chain_group in self.chain_users.groups.items():
            own_group = self.result_users.groups.get(name)
            if own_group is not None and name not in own and own_group.gid == chain_group.gid:
                new = [
                    member for member in chain_group.members if member in brought and member not in own_group.members
                ]
                if new:
                    joined[name] = new
        return joined

    def _append(self, path: str, lines: list[str], why: str, joined: dict[str, list[str]] | None = None) -> None:
        """Add `path` as the production image has it, with more members in some lines and with `lines` appended."""
        old = os.fsdecode(self.overlay.read(path) or b"").split("\n")
        if old[-1] == "":
            old.pop()
        for number, line in enumerate(old):
            fields = line.split(":")
            if joined and len(fields) == 4 and fields[0] in joined:
                fields[3] = ",".join([*([fields[3]] if fields[3] else []), *joined[fields[0]]])
                old[number] = ":".join(fields)
        data = os.fsencode("\n".join([*old, *lines, ""]))
        where = self.overlay.resolve(path) or self.overlay.place(path) or path
        self.overlay.add(where, Node(kind="file", data=data, size=len(data)))
        self.result.files[where] = why

    def _home(self, user: User) -> None:
        """Keep the home folder of the image's USER, empty, with its mode and owner; report its lost content."""
        home = self.chain.resolve(user.home) if user.home.startswith("/") else None
        node = None if home is None else self.chain.entry(home)
        where = self.overlay.place_folder(user.home)
        if home is None or node is None or node.kind != "dir" or home == "/" or where is None:
            return
        if self.overlay.entry(where) is not None:
            return
        self.overlay.add(where, node)
        self.result.files[where] = f"home folder of USER {user.name}, without its content"
        lost = sorted(set(self.chain.names(home)) - set(self.chain.names(_SKELETON)))
        if lost:
            names = _listed([shown(join(user.home, name)) for name in lost], 3)
            text = f"the home folder of USER {user.name} is kept empty; left out: {names}"
            self.result.left.append((text, user.home))


def _lines(tree: FileTree, path: str, count: int) -> list[list[str]]:
    """Return the valid lines of an account file: `count` fields, a usable name, only printable characters."""
    rows = []
    data = tree.read(path) or b""
    if len(data) >= MAX_TEXT:
        data = data.rpartition(b"\n")[0]  # the last line may be cut
    for line in os.fsdecode(data).split("\n"):
        fields = line.split(":")
        if len(fields) == count and line.isprintable() and _NAME.fullmatch(fields[0]):
            rows.append(fields)
    return rows


def _listed(names: list[str], most: int = 20) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _number(text: str) -> int | None:
    if not text.isascii() or not text.isdecimal() or len(text) > 10 or int(text) > _MOST_ID:
        return None
    return int(text)
