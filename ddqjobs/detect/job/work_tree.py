"""Read what a git working tree holds that its commit does not, without executing anything of the tree.

A tree's own configuration may name commands: a file system monitor, filters, text converters, hooks, aliases,
transports. So git is asked only for what stands in its index and its commit; the files are read and hashed
here. Standard library only.
"""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from pathlib import Path
from typing import Iterator, NamedTuple

_GIT_S = 60.0  # the index of a whole mmdetection on a slow file server
# Larger tracked files count by their size.
_LIMIT = 256 << 20
_SUBMODULE = "160000"
_SYMLINK = "120000"
_DEPTH = 10  # of submodules in submodules
# Configuration that would start a command, write, or read elsewhere; the command line overrides the tree's.
_SAFE = (
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.attributesFile=/dev/null",
    "core.untrackedCache=false",
    "core.sshCommand=false",
    "credential.helper=",
    "protocol.allow=never",
    "diff.external=",
)
_LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n"


class GitError(Exception):
    """Git cannot say what a tree holds; the message is one line."""


class Entry(NamedTuple):
    """A tracked file: its mode and object, as git writes them."""

    mode: str
    oid: str


class WorkTree:
    """The working tree of a repository whose ``.git`` is in ``folder``."""

    def __init__(self, folder: Path, depth: int = 0) -> None:
        self._folder = folder
        self._depth = depth
        self._user = _user_settings()
        self._plain: dict[str, bool] = {}  # folder -> whether no part of its path is a link

    def head(self) -> bytes:
        """Return the commit, as git prints it. Raise GitError."""
        return self._ask("rev-parse", "--verify", "HEAD")

    def commit(self, revision: str) -> bytes:
        """Return the commit that a commit, tag or branch names, as git prints it. Raise GitError."""
        if revision.startswith("-"):
            raise GitError(f"{revision!r} is no revision")
        return self._ask("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")

    def untracked(self) -> list[str]:
        """Return the paths of files that git neither tracks nor ignores, sorted. Raise GitError."""
        names = self._ask("ls-files", "--others", "--exclude-standard", "-z")
        return sorted(os.fsdecode(name) for name in names.split(b"\0") if name)

    def changes(self) -> Iterator[bytes]:
        """Yield one record for each tracked path whose state in the folder is not the commit's, sorted by
        path: the path, then its mode and the digest of its content, or that it is gone. Raise GitError.

        Content counts as unchanged that git would store as it is in the commit: line endings where the
        attributes or core.autocrlf say that it is text, and files behind a pointer of Git LFS.
        """
        index, absent = self._index()
        head = self._head_tree()
        settings = self._settings()
        modes = settings.get("core.filemode", "true") != "false"
        states: dict[str, bytes] = {}
        for path in sorted({*index, *head}):
            want = head.get(path)
            if path in absent and not os.path.lexists(str(self._folder / path)):
                continue  # a sparse checkout
            state = b"not tracked" if path not in index else self._state(path, index[path], want, modes)
            if state:
                states[path] = state
        for path in self._stored_alike(states, head, settings.get("core.autocrlf", "")):
            del states[path]
        for path, state in sorted(states.items()):
            yield os.fsencode(path) + b"\0" + state

    # -- what git says ----------------------------------------------------------------------------------

    def _index(self) -> tuple[dict[str, Entry], set[str]]:
        """Return the tracked files, and which of them a sparse checkout leaves out."""
        entries: dict[str, Entry] = {}
        absent: set[str] = set()
        for line in self._ask("ls-files", "-s", "-t", "-z").split(b"\0"):
            facts, tab, name = line.partition(b"\t")
            if tab:
                tag, mode, oid = facts.decode("ascii").split()[:3]
                path = os.fsdecode(name)
                entries[path] = Entry(mode, oid)
                if tag.upper() == "S":
                    absent.add(path)
        return entries, absent

    def _head_tree(self) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        for line in self._ask("ls-tree", "-r", "-z", "--full-tree", "HEAD").split(b"\0"):
            facts, tab, name = line.partition(b"\t")
            if tab:
                mode, _, oid = facts.decode("ascii").split()
                entries[os.fsdecode(name)] = Entry(mode, oid)
        return entries

    def _settings(self) -> dict[str, str]:
        """Return the tree's own settings that decide what counts as a change, the user's below them."""
        text = self._ask("config", "-z", "--get-regexp", r"^core\.(filemode|autocrlf)$", fails=1)
        return {**self._user, **_pairs(text)}

    def _attributes(self, paths: list[str]) -> dict[str, dict[str, str]]:
        names = b"".join(os.fsencode(path) + b"\0" for path in paths)
        fields = self._ask("check-attr", "-z", "--stdin", "text", "eol", "filter", stdin=names).split(b"\0")
        attributes: dict[str, dict[str, str]] = {}
        for path, name, value in zip(fields[::3], fields[1::3], fields[2::3]):
            attributes.setdefault(os.fsdecode(path), {})[name.decode()] = value.decode(errors="replace")
        return attributes

    def _ask(self, *arguments: str, stdin: bytes = b"", fails: int = 0) -> bytes:
        """Return what git prints; nothing where it ends with code ``fails``. Raise GitError."""
        excludes = f"core.excludesFile={self._user.get('core.excludesfile') or _default_excludes()}"
        argv = ["git", "--no-pager"]
        for setting in (*_SAFE, excludes):
            argv += ["-c", setting]
        variables = {
            **_no_git_variables(),
            # Named, not searched for: so neither the tree's core.worktree nor the owner of its folder counts.
            "GIT_DIR": str(self._folder.absolute() / ".git"),
            "GIT_WORK_TREE": str(self._folder.absolute()),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_OPTIONAL_LOCKS": "0",  # somebody may be working in the tree
            "GIT_ALLOW_PROTOCOL": "none",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "LC_ALL": "C",
        }
        return _run([*argv, *arguments], variables, str(self._folder), stdin, fails)

    # -- what the folder holds --------------------------------------------------------------------------

    def _state(self, path: str, tracked: Entry, want: Entry | None, modes: bool) -> bytes:
        """Return mode and content of a tracked path; nothing if they are the commit's."""
        place = self._folder / path
        if tracked.mode == _SUBMODULE:
            return self._submodule(place, want)
        if not self._without_links(place.parent):
            return b"gone"
        try:
            mode, oid = _object(place, len(tracked.oid))
        except FileNotFoundError:
            return b"gone"
        except OSError as error:
            return (error.strerror or "unreadable").encode()
        if want is not None and oid == want.oid:
            alike = mode == want.mode or (not modes and mode != _SYMLINK != want.mode)
            return b"" if alike else mode.encode()
        return f"{mode} {oid}".encode()

    def _without_links(self, folder: Path) -> bool:
        """Return whether no folder between the tree's and this one is a link, which git does not follow."""
        key = str(folder)
        if key not in self._plain:
            inside = os.path.realpath(str(self._folder)) + key[len(str(self._folder)) :]
            self._plain[key] = os.path.realpath(key) == inside
        return self._plain[key]

    def _submodule(self, place: Path, want: Entry | None) -> bytes:
        """Return the state of a submodule; nothing if it is the commit's, or was not fetched."""
        if not (place / ".git").exists() or not self._without_links(place):
            return b""
        if self._depth >= _DEPTH:
            raise GitError(f"submodules deeper than {_DEPTH} levels")
        inner = WorkTree(place, self._depth + 1)
        head = inner.head().strip()
        parts = [*inner.changes(), *(os.fsencode(name) for name in inner.untracked())]
        if want is not None and head == want.oid.encode() and not parts:
            return b""
        digest = hashlib.sha256(b"".join(b"%d\0%s" % (len(part), part) for part in parts)).hexdigest()
        return head + b" " + digest.encode()

    def _stored_alike(self, states: dict[str, bytes], head: dict[str, Entry], autocrlf: str) -> list[str]:
        """Return those of the changed paths whose content git would store as it is in the commit."""
        candidates = [
            path
            for path in states
            if path in head and states[path].startswith(head[path].mode.encode() + b" ")
            if head[path].mode not in (_SYMLINK, _SUBMODULE)
        ]
        if not candidates:
            return []
        attributes = self._attributes(candidates)
        return [
            path
            for path in candidates
            if _stored(self._folder / path, attributes.get(path, {}), autocrlf, head[path].oid)
        ]


def _stored(place: Path, attributes: dict[str, str], autocrlf: str, oid: str) -> bool:
    """Return whether git would store a file as this object: without CR at line ends, or as a pointer."""
    try:
        content = _read(place)
    except OSError:
        return False
    if content is None:
        return False
    if attributes.get("filter") == "lfs":
        pointer = _LFS % (hashlib.sha256(content).hexdigest().encode(), len(content))
        return _oid(pointer, len(oid)) == oid
    text, eol = attributes.get("text", "unspecified"), attributes.get("eol", "unspecified")
    converted = text in ("set", "auto") or (
        text == "unspecified" and (eol in ("lf", "crlf") or autocrlf in ("true", "input"))
    )
    return converted and b"\0" not in content and _oid(content.replace(b"\r\n", b"\n"), len(oid)) == oid


def _object(place: Path, digits: int) -> tuple[str, str]:
    """Return mode and object of what lies there, as git would store it without any conversion; of a large
    file its size. Raise OSError."""
    at = os.lstat(str(place))
    if stat.S_ISLNK(at.st_mode):
        return _SYMLINK, _oid(os.fsencode(os.readlink(str(place))), digits)
    if not stat.S_ISREG(at.st_mode):
        return "other", f"{stat.S_IFMT(at.st_mode):o}"
    mode = "100755" if at.st_mode & 0o100 else "100644"
    content = _read(place)
    return mode, f"{at.st_size} bytes" if content is None else _oid(content, digits)


def _read(place: Path) -> bytes | None:
    """Return the content of a regular file; None of a large one. Raise OSError."""
    descriptor = os.open(str(place), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        at = os.fstat(descriptor)
        if not stat.S_ISREG(at.st_mode) or at.st_size > _LIMIT:
            return None
        return file.read(_LIMIT)


def _oid(content: bytes, digits: int) -> str:
    kind = hashlib.sha1 if digits == 40 else hashlib.sha256
    return kind(b"blob %d\0" % len(content) + content).hexdigest()


def _user_settings() -> dict[str, str]:
    """Return what the user's own configuration says of ignored files and line ends."""
    arguments = ["config", "--global", "--includes", "-z", "--get-regexp", r"^core\.(excludesfile|autocrlf)$"]
    settings = _pairs(_run(["git", *arguments], _no_git_variables(), "/", b"", fails=1))
    if settings.get("core.excludesfile"):
        settings["core.excludesfile"] = str(Path(settings["core.excludesfile"]).expanduser())
    return settings


def _default_excludes() -> str:
    above = os.environ.get("XDG_CONFIG_HOME") or str(Path("~/.config").expanduser())
    return f"{above}/git/ignore"


def _pairs(text: bytes) -> dict[str, str]:
    """Return settings as ``git config -z`` prints them; one without a value is true."""
    settings = {}
    for line in filter(None, text.decode(errors="replace").split("\0")):
        name, newline, value = line.partition("\n")
        settings[name.lower()] = value if newline else "true"
    return settings


def _no_git_variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}


def _run(argv: list[str], variables: dict[str, str], folder: str, stdin: bytes, fails: int) -> bytes:
    command = next(word for word in argv[1:] if word in _COMMANDS)
    try:
        done = subprocess.run(
            argv, env=variables, cwd=folder, input=stdin, capture_output=True, timeout=_GIT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GitError(f"git cannot be asked: {error}") from error
    if fails and done.returncode == fails and not done.stderr:
        return b""
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise GitError(f"git {command}: {lines[0] if lines else f'exit code {done.returncode}'}")
    return done.stdout


_COMMANDS = ("rev-parse", "ls-files", "ls-tree", "config", "check-attr")
