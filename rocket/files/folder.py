"""Folder: what is served of a folder, and how; and the files of it that are kept open."""

from __future__ import annotations

import errno
import mimetypes
import os
import re
import resource
import stat
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Optional, Union

from rocket import http1
from rocket.errors import ConfigError
from rocket.files import listing as pages
from rocket.files.conditions import Validators, validators
from rocket.files.media import CODINGS, content_type
from rocket.files.paths import FILE, FOLDER, Opened, Path, open_beneath, split_path

# What the system says of a name that cannot be there, or that is no file that can be read.
_MISSING = frozenset(
    (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.ENXIO)
)
_SHORTAGE = frozenset((errno.EMFILE, errno.ENFILE))
_FIELD_VALUE = re.compile(r"[!-~]+(?: [!-~]+)*").fullmatch


class File:
    """An open file, with what is to be said of it. Closed when nobody sends it any more.

    *fields* are the header lines that each answer with its content has, but for Content-Length.
    """

    __slots__ = ("_seen", "coding", "fd", "fields", "size", "type", "validators", "whole")

    def __init__(self, fd: int, status: os.stat_result, *, kind: str, coding: str, now: float, more: str) -> None:
        self.fd = fd
        self._seen = _identity(status)
        self.size = status.st_size
        self.type = kind
        self.coding = coding
        self.validators: Validators = validators(status, now)
        encoding = f"Content-Encoding: {coding}\r\n" if coding else ""
        self.fields = (
            f"ETag: {self.validators.etag}\r\n{more}"
            f"Last-Modified: {http1.http_date(self.validators.modified)}\r\n"
            f"Accept-Ranges: bytes\r\nX-Content-Type-Options: nosniff\r\n{encoding}"
        )
        # Made once: the usual answer, but for its last lines.
        self.whole = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {self.size}\r\n{self.fields}".encode()

    def fileno(self) -> int:
        return self.fd

    @property
    def unchanged(self) -> bool:
        """Whether it is as it was when it was opened: not written to, not deleted, not replaced by a rename."""
        return _identity(os.fstat(self.fd)) == self._seen

    def release(self) -> None:
        """Nothing: but whoever has this as a callback keeps the file open until it was called."""

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        close(self.fd)  # bound above: at the end of the process, modules may be gone


def _identity(status: os.stat_result) -> tuple[int, int, int]:
    # ctime: a change of mode, owner or links (a rename over it, or its end) is seen, too. fstat(2) has the same inode.
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size


class Resource(NamedTuple):
    """What a path names at a moment: a file, and what is packed of it beside."""

    plain: File
    packed: dict[str, File]  # by content coding, the smallest first
    hint: str  # the header lines of a 304: ETag is the file's
    expires: float  # monotonic s: from then on it is looked for again


class Redirect(NamedTuple):
    """A folder that was named without its slash."""

    location: str


class Page(NamedTuple):
    """A folder's listing."""

    content: bytes


Found = Union[Resource, Redirect, Page]


class Folder:
    """What is served of the folder *path*. Any thread.

    *index*: the files that stand for a folder, the first that is there. *listing*: whether a folder without one is
    listed. *dot_files*: whether names that begin with a dot are there at all (``/.well-known`` is, always).
    *symlinks*: whether symbolic links are followed; never out of the folder. *precompressed*: whether ``name.br``,
    ``name.zst`` and ``name.gz`` beside ``name`` are sent to clients that take them. *cache_control*: the value of that
    field for files, "" for none. *charset* of texts, "" not to tell. *recheck*: a path is looked up again after so many
    seconds; what is written into a file, or deleted, is seen at once all the same. 0: each time.
    *keep_open*: files at most that are kept open until then; by default a 16th of what the process may open, 1024 at
    most. Raises ConfigError.
    """

    def __init__(
        self,
        path: Union[str, bytes, os.PathLike[str]],
        *,
        index: Sequence[str] = ("index.html",),
        listing: bool = False,
        dot_files: bool = False,
        symlinks: bool = True,
        precompressed: bool = True,
        cache_control: str = "",
        charset: str = "utf-8",
        recheck: float = 1.0,
        keep_open: Optional[int] = None,
    ) -> None:
        if not isinstance(path, (str, bytes, os.PathLike)) or not os.fspath(path):
            raise ConfigError(f"the folder to serve must be a path, not {path!r}")  # "": of an unset variable
        self.path = os.path.abspath(os.fsdecode(path))
        self._root = os.fsencode(self.path)
        if not os.path.isdir(self._root):
            problem = "is not a folder" if os.path.exists(self._root) else "does not exist"
            raise ConfigError(f"the folder to serve {problem}: {self.path}")
        if not os.access(self._root, os.X_OK):
            raise ConfigError(f"the folder to serve cannot be searched: {self.path}")
        if isinstance(index, str):
            raise ConfigError(f"index must be a sequence of names, not {index!r}")
        for name in index:
            if not name or "/" in name or "\0" in name or name in {".", ".."}:
                raise ConfigError(f"not a name for an index file: {name!r}")
        for what, value in (("cache_control", cache_control), ("charset", charset)):
            if value and _FIELD_VALUE(value) is None:
                raise ConfigError(f"{what} must be printable ASCII text, not {value!r}")
        for what, number in (("recheck", recheck), ("keep_open", keep_open or 0)):
            if not number >= 0:
                raise ConfigError(f"{what} must be 0 or more, not {number!r}")
        if not mimetypes.inited:
            mimetypes.init()  # reads files of the host: now, and not in several threads at once
        self.index = tuple(os.fsencode(name) for name in index)
        self.listing = listing
        self.dot_files = dot_files
        self.symlinks = symlinks
        self.precompressed = precompressed
        self.charset = charset
        self._cache_control = f"Cache-Control: {cache_control}\r\n" if cache_control else ""
        self._recheck = recheck
        self._keep_open = _keep_open() if keep_open is None else keep_open
        # By target, in the order of their `expires`. Looked into by any thread: a get is atomic.
        self._kept: dict[str, Resource] = {}
        self._opened = 0  # files in there; guarded by the lock
        self._lock = threading.Lock()  # for all changes of _kept

    def __repr__(self) -> str:
        return f"<Folder {self.path}>"

    # ------------------------------------------------------------------ to find

    def find(self, target: str) -> Found:
        """Return what the request target names. Raises FileNotFoundError and other OSErrors, BadRequest."""
        kept = self._kept.get(target)
        if kept is not None and time.monotonic() < kept.expires and kept.plain.unchanged:
            return kept
        path = split_path(target)
        if path is None:
            raise FileNotFoundError(errno.ENOENT, "no path", target)
        try:
            found = self._find(path)
        except OSError as exc:
            if exc.errno in _MISSING:
                raise FileNotFoundError(*exc.args) from None
            if exc.errno not in _SHORTAGE or not self._forget():
                raise
            found = self._find(path)
        if type(found) is Resource:
            self._keep(target, found)
        return found

    def _find(self, path: Path) -> Found:
        opened = self._open(path.names)
        try:
            if stat.S_ISREG(opened.status.st_mode):
                if path.is_folder:
                    raise FileNotFoundError(errno.ENOTDIR, "a file is no folder")
                return self._resource(opened)
        finally:
            opened.close()
        index = self._find_index(path.names)
        if index is not None:
            if path.is_folder:
                return index
        elif not self.listing:
            raise FileNotFoundError(errno.ENOENT, "neither an index file nor a listing")
        return self._list(path.names) if path.is_folder else Redirect(path.folder_url)

    def _open(self, names: Sequence[bytes]) -> Opened:
        return open_beneath(self._root, names, symlinks=self.symlinks, dot_files=self.dot_files)

    def _find_index(self, names: Sequence[bytes]) -> Optional[Resource]:
        for name in self.index:
            try:
                opened = self._open([*names, name])
            except OSError as exc:
                if exc.errno in _MISSING:
                    continue
                raise
            try:
                if stat.S_ISREG(opened.status.st_mode):
                    return self._resource(opened)
            finally:
                opened.close()
        return None

    def _resource(self, opened: Opened) -> Resource:
        """Return what is at hand of the file *opened*, which the caller closes."""
        expires = time.monotonic() + self._recheck  # as of before we look
        now = int(time.time())  # to compare with the time of a file, which is by this clock, too
        kind = content_type(opened.name, self.charset)
        beside = self._beside(opened) if self.precompressed else {}
        more = self._cache_control + ("Vary: Accept-Encoding\r\n" if beside else "")
        try:
            packed = {}
            for coding in sorted(beside, key=lambda coding: beside[coding][1].st_size):
                fd, status = beside.pop(coding)
                packed[coding] = File(fd, status, kind=kind, coding=coding, now=now, more=more)
            plain = File(os.dup(opened.fd), opened.status, kind=kind, coding="", now=now, more=more)
        finally:
            for fd, _ in beside.values():
                os.close(fd)
        return Resource(plain, packed, more, expires)

    @staticmethod
    def _beside(opened: Opened) -> dict[str, tuple[int, os.stat_result]]:
        """Open the packed forms of a file that are up to date, and smaller than it is."""
        found = {}
        for coding, ending in CODINGS.items():
            try:
                status = os.stat(opened.name + ending, dir_fd=opened.parent, follow_symlinks=False)
                # Whole seconds: not all that copy a file's time copy more of it.
                if not stat.S_ISREG(status.st_mode) or int(status.st_mtime) < int(opened.status.st_mtime):
                    continue
                fd = os.open(opened.name + ending, FILE, dir_fd=opened.parent)
            except OSError:  # not there, or not to be read: there is the plain one
                continue
            status = os.fstat(fd)
            if stat.S_ISREG(status.st_mode) and status.st_size < opened.status.st_size:
                found[coding] = fd, status
            else:
                os.close(fd)
        return found

    # ------------------------------------------------------------------ to list

    def _list(self, names: Sequence[bytes]) -> Page:
        opened = self._open(names)
        try:
            if not stat.S_ISDIR(opened.status.st_mode):
                raise FileNotFoundError(errno.ENOTDIR, "it was a folder a moment ago")
            # To read it, this time. It is the folder that we have open: its name is not looked up again.
            fd = os.open(b".", FOLDER & ~getattr(os, "O_PATH", 0), dir_fd=opened.fd)
        finally:
            opened.close()
        try:
            entries: list[pages.Entry] = []
            left_out = 0
            with os.scandir(fd) as found:
                for each in found:
                    if len(entries) >= pages.MOST:
                        left_out += 1
                    elif (shown := self._entry(names, each)) is not None:
                        entries.append(shown)
        finally:
            os.close(fd)
        return Page(pages.render(names, entries, left_out))

    def _entry(self, names: Sequence[bytes], found: os.DirEntry[str]) -> Optional[pages.Entry]:
        """Return what is shown of *found*; None if it would not be served."""
        name = os.fsencode(found.name)
        if name[:1] == b"." and not self.dot_files:
            return None
        try:
            if not found.is_symlink():
                status = found.stat(follow_symlinks=False)
                served = stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)
                return pages.entry(name, status) if served else None
            opened = self._open([*names, name])
        except OSError:
            return None  # it has gone, or leads nowhere
        opened.close()
        return pages.entry(name, opened.status)

    # ------------------------------------------------------------------ files that are kept open

    def _keep(self, target: str, found: Resource) -> None:
        """Keep *found* until it expires, or until too many others have come."""
        now = time.monotonic()
        gone = []  # closed outside of the lock
        with self._lock:
            gone.append(self._drop_locked(target))
            self._opened += 1 + len(found.packed)
            self._kept[target] = found
            while self._kept:
                oldest = next(iter(self._kept))
                if self._opened <= self._keep_open and self._kept[oldest].expires > now:
                    break
                gone.append(self._drop_locked(oldest))

    def _forget(self) -> bool:
        """Close what is kept open, as descriptors are short. Return whether there was anything."""
        with self._lock:
            gone = [self._drop_locked(target) for target in list(self._kept)]
        return bool(gone)

    def _drop_locked(self, target: str) -> Optional[Resource]:
        gone = self._kept.pop(target, None)
        if gone is not None:
            self._opened -= 1 + len(gone.packed)
        return gone


def _keep_open() -> int:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    # Of 1024: 64, which is what the server leaves free for the application.
    return 1024 if soft == resource.RLIM_INFINITY else max(16, min(soft // 16, 1024))
