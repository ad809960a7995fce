"""The channels of a site and of a user, and the secrets that they refer to."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from ddqjobs.base import files, secrets
from ddqjobs.base.errors import DdqjobsError, InputError, MissingError, Problem
from ddqjobs.spec import reader
from ddqjobs.spec.check import notify as check
from ddqjobs.spec.notify import Channel, Secret, User
from ddqjobs.spec.reader import Document
from ddqjobs.spec.site import Site

GROUP = "group"  # the scope of a site's channels: whoever submits, each event is sent once
_LIMIT = 4096  # bytes of a secret

Channels = Mapping[str, Mapping[str, Channel]]  # scope -> name -> channel


class SecretError(DdqjobsError):
    """A secret cannot be had; the message does not show it."""


def user_file() -> Path:
    """Return the path of the user's own configuration, whether or not it exists."""
    above = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(above).expanduser() / "ddqjobs/config.yaml"


def user() -> User:
    """Read the user's own configuration; an absent one says nothing. Raise InputError."""
    path = user_file()
    return reader.load(path, User, _no_base, _problems).value if path.is_file() else User()


def of(site: Site) -> Channels:
    """Return the channels of a site and of the user. Raise InputError for a broken user file."""
    scopes = {GROUP: site.notify, f"user-{os.getuid()}": user().notify}
    return {scope: channels for scope, channels in scopes.items() if channels}


def secret(reference: Secret) -> str:
    """Return a secret, which is masked from now on wherever it would be shown. Raise SecretError."""
    value = os.environ.get(reference.variable, "") if reference.variable else _of_file(reference)
    value = value.strip()
    if not value:
        raise SecretError(f"{reference} is empty or not set")
    secrets.remember({"secret": value}, marked=["secret"])
    return value


def mask(site: Site) -> None:
    """Have the secrets of all channels masked from now on; those that cannot be had are nobody's to show."""
    for named in (site.notify, *_own()):
        for channel in named.values():
            for reference in filter(None, (channel.url, channel.token, channel.sign, channel.password)):
                with contextlib.suppress(SecretError):
                    secret(reference)


def _own() -> Iterator[Mapping[str, Channel]]:
    with contextlib.suppress(DdqjobsError):  # a broken file is told by who uses it
        yield user().notify


def _of_file(reference: Secret) -> str:
    path = Path(os.path.expandvars(reference.file)).expanduser()
    try:
        status = path.stat()
        if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
            raise SecretError(f"{reference} must be yours alone: `chmod 600 {reference}`")
        return files.read(path, _LIMIT).decode()
    except OSError as error:
        raise SecretError(f"{reference} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise SecretError(f"{reference} is not UTF-8 text") from None


def _problems(read: Document[User]) -> list[Problem]:
    return sorted(Problem(*read.line_of(path), message) for path, message in check.check(read.value.notify))


def _no_base(base: str, _named_by: Path) -> Path:
    raise MissingError(f"a user file has no base: '{base}'")


def one(channels: Channels, name: str) -> Channels:
    """Return the channels of one name. Raise InputError if there is none."""
    chosen = {scope: {name: named[name]} for scope, named in channels.items() if name in named}
    if not chosen:
        known = sorted({other for named in channels.values() for other in named})
        raise InputError(f"there is no channel {name}; there are: {', '.join(known) or 'none'}")
    return chosen
