"""The user a Postgres runs as: it refuses to run as root."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import TargetError

if TYPE_CHECKING:
    from pathlib import Path

USERS = ("postgres", "nobody")


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """The user and group of the server's processes.

    Attributes:
        name: User name, for messages.
        uid: User id.
        gid: Group id.
        switch: We are root and become this user; else it is our own.
    """

    name: str
    uid: int
    gid: int
    switch: bool

    def popen_arguments(self) -> dict[str, Any]:
        """Return the arguments of `Popen` that switch to this user."""
        if not self.switch:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def can_enter(self, folder: Path) -> bool:
        """Tell whether this user reaches *folder* through all of its ancestors."""
        if not self.switch:
            return os.access(folder, os.X_OK)
        return all(self._may_enter(path) for path in (folder, *folder.parents))

    def own(self, path: Path) -> None:
        """Give *path* to this user."""
        if self.switch:
            os.chown(path, self.uid, self.gid)

    def _may_enter(self, folder: Path) -> bool:
        try:
            status = folder.stat()
        except OSError:
            return False
        if status.st_uid == self.uid:
            return bool(status.st_mode & stat.S_IXUSR)
        if status.st_gid == self.gid:
            return bool(status.st_mode & stat.S_IXGRP)
        return bool(status.st_mode & stat.S_IXOTH)


def server_account() -> Account:
    """Return our own user, or for root the first of `USERS` that exists.

    Raises:
        TargetError: We are root, and there is no such user.
    """
    if os.geteuid() != 0:
        uid = os.geteuid()
        return Account(name=f"uid {uid}", uid=uid, gid=os.getegid(), switch=False)
    for name in USERS:
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid, switch=True)
    msg = (
        "Postgres refuses to run as root, and this machine has none of the users "
        f"{', '.join(USERS)}; run as another user, or use --target=docker or dsn"
    )
    raise TargetError(msg)


def reachable_bin_dir(bin_dir: Path, *, account: Account, copy_to: Path) -> Path:
    """Return *bin_dir*, or a copy of its tree where *account* cannot reach it.

    A virtual environment under /root is out of reach for every other user; its
    programs are then linked (or copied) into the folder of this run, instead of
    opening the folders above it to everybody.
    """
    if account.can_enter(bin_dir):
        return bin_dir
    # Programs find their libraries and shared files beside their own folder.
    for name in (bin_dir.name, "lib", "share"):
        tree = bin_dir.parent / name
        if tree.is_dir():
            shutil.copytree(tree, copy_to / name, copy_function=_link, symlinks=True)
    for folder in (copy_to, *(path for path in copy_to.rglob("*") if path.is_dir())):
        folder.chmod(0o755)
    return copy_to / bin_dir.name


def _link(source: str, target: str) -> None:
    """Link if both are on one file system and readable by others; else copy."""
    readable = bool(os.stat(source).st_mode & stat.S_IROTH)  # noqa: PTH116 - a name
    if readable:
        with suppress(OSError):
            os.link(source, target, follow_symlinks=False)
            return
    shutil.copy2(source, target)
    os.chmod(target, 0o755)  # noqa: PTH101, S103 - programs that others run
