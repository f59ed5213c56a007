"""From a request's target to an open file, and never out of the folder.

The target is taken apart as text, each segment decoded once. The names are then opened one below the other, each
relative to the folder before it (openat(2)), none of them as a symbolic link: the system is never given a path with
more than one name in it. So there is no moment between a check and the opening in which a name could come to mean
something else, as there is with ``realpath``.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Sequence
from typing import NamedTuple, Optional
from urllib.parse import quote_from_bytes, unquote_to_bytes

from rocket.errors import BadRequest

LINKS = 40  # symbolic links on the way at most, as the kernel has it (path_resolution(7))
WELL_KNOWN = b".well-known"  # RFC 8615: a name with a dot that is there to be asked for

# O_PATH: to go through a folder takes the right to search it, not to read it.
FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
# O_NONBLOCK: should the file have become a fifo in this very moment, open() must not wait for its writer.
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

_ABSOLUTE = re.compile(r"[a-z]+://[^/?]*([^?]*)", re.IGNORECASE).match


class Path(NamedTuple):
    """The path of a request target."""

    names: tuple[bytes, ...]
    is_folder: bool  # it ends in a slash
    query: str  # as it came, with its question mark; empty if there is none

    @property
    def folder_url(self) -> str:
        """The path as a folder's, with its query.

        Made anew from the names: it begins with one slash, for two would be another host's address (RFC 3986, 4.2).
        """
        return "/" + "".join(quote_from_bytes(name, safe="") + "/" for name in self.names) + self.query


def split_path(target: str) -> Optional[Path]:
    """Return the names in *target*, which `read_head` let pass; None if nothing can be named so.

    ``a//b`` is ``a/b``, as for the system. ``.``, ``..`` and a slash that comes encoded name nothing: who sends them
    wants something else than a file. Raises BadRequest for ``%00``.
    """
    path, mark, query = target.partition("?")
    if path[:1] != "/":
        match = _ABSOLUTE(path)
        path = (match[1] if match is not None else "") or "/"
    names = []
    for segment in path.split("/"):
        name = segment.encode("latin-1")
        if b"%" in name:
            name = unquote_to_bytes(name)
            if b"\0" in name:
                raise BadRequest("%00 in the path")
        if name in {b".", b".."} or b"/" in name:
            return None
        if name:
            names.append(name)
    return Path(tuple(names), path[-1] == "/", mark + query)


class Opened(NamedTuple):
    """A file or folder that was found. Whoever has it closes both descriptors."""

    fd: int  # of a file: to read it; of a folder: to go on from there
    status: os.stat_result
    parent: int  # the folder that it is in; its own for the folder that all is in
    name: bytes  # in there

    def close(self) -> None:
        os.close(self.fd)
        if self.parent != self.fd:
            os.close(self.parent)


def open_beneath(root: bytes, names: Sequence[bytes], *, symlinks: bool, dot_files: bool) -> Opened:
    """Open what *names* lead to from the folder *root* on: a regular file, or a folder.

    Raises FileNotFoundError for what is not there, or not to be seen from here: names that begin with a dot (but for
    ``/.well-known``) unless *dot_files*, symbolic links that lead out (with *symlinks* false: all), devices, fifos,
    sockets. They are not opened, not even for a look. Raises other OSErrors as they come.
    """
    pending = list(reversed(names))
    way: list[bytes] = []  # the names of the folders that we went through
    links = 0
    folder = os.open(root, FOLDER)
    parent, found = folder, b""
    try:
        while pending:
            name = pending.pop()
            if name in {b"", b"."}:  # of a symbolic link
                continue
            if name == b"..":  # likewise; back from where we came, whatever the system thinks is above
                if not way:
                    raise _missing(name)
                pending += reversed(way[:-1])
            else:
                if name[:1] == b"." and not dot_files and (way or name != WELL_KNOWN):
                    raise _missing(name)
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    if pending:
                        raise _missing(name)
                    if parent != folder:
                        os.close(parent)
                    parent = folder
                    return _open_file(name, folder)
                if stat.S_ISDIR(status.st_mode):
                    inner = os.open(name, FOLDER | os.O_NOFOLLOW, dir_fd=folder)
                    if parent != folder:
                        os.close(parent)
                    parent, folder, found = folder, inner, name
                    way.append(name)
                    continue
                if not stat.S_ISLNK(status.st_mode) or not symlinks or links == LINKS:
                    raise _missing(name)
                links += 1
                pending += reversed(_follow(root, way, os.readlink(name, dir_fd=folder)))
            # From the beginning: each name is looked at again, those on our way are no links.
            way = []
            if parent != folder:
                os.close(parent)
            os.close(folder)
            parent = folder = -1
            parent = folder = os.open(root, FOLDER)
        return Opened(folder, os.fstat(folder), parent, found)
    except BaseException:
        for fd in {folder, parent} - {-1}:
            os.close(fd)
        raise


def _open_file(name: bytes, folder: int) -> Opened:
    fd = os.open(name, FILE, dir_fd=folder)
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):  # it was one when we looked
        os.close(fd)
        raise _missing(name)
    return Opened(fd, status, folder, name)


def _follow(root: bytes, way: list[bytes], target: bytes) -> list[bytes]:
    """Return the names from *root* on that a symbolic link to *target* stands for, whose folder is at *way*."""
    if target[:1] != b"/":
        return way + target.split(b"/")
    for base in (root, os.path.realpath(root)):
        if target == base or target.startswith(base.rstrip(b"/") + b"/"):
            return target[len(base) :].split(b"/")
    raise _missing(target)


def _missing(name: bytes) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
