"""Find channels of notifications that cannot work: keys that their way needs or has no use for, secrets that
the file itself shows. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import msgspec

from ddqjobs.base import secrets
from ddqjobs.base.units import seconds
from ddqjobs.spec.notify import Channel, Secret
from ddqjobs.spec.table import Place

_ALWAYS = {"by", "events", "timeout"}
# Way -> the keys that it needs, and those that it may have.
_KEYS: Mapping[str, tuple[set[str], set[str]]] = {
    "command": ({"command"}, set()),
    "webhook": ({"url"}, {"token"}),
    "slack": ({"url"}, set()),
    "feishu": ({"url"}, {"sign"}),
    "dingtalk": ({"url"}, {"sign"}),
    "ntfy": ({"url"}, {"token"}),
    "mail": ({"server", "sender", "to"}, {"security", "user", "password"}),
}
_SERVER = re.compile(r"[A-Za-z0-9.-]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}")
_ADDRESS = re.compile(r"[^\s@<>,;:\"]+@[^\s@<>,;:\"]+")
_HERE = ("localhost:", "127.0.0.1:", "[::1]:")

Found = Iterator[tuple[Place, str]]


def check(channels: Mapping[str, Channel]) -> Found:
    """Yield (place, message) of each problem."""
    for name, channel in channels.items():
        for place, message in (*_keys(channel), *_references(channel), *_mail(channel), *_rest(channel)):
            yield ("notify", name, *place), message


def _keys(channel: Channel) -> Found:
    needed, allowed = _KEYS[channel.by]
    for field in msgspec.structs.fields(channel):
        name = field.name
        said = getattr(channel, name) not in (None, "", [])
        if name in needed and not said:
            yield (), f"a channel by {channel.by} needs '{name}'"
        if name not in needed | allowed | _ALWAYS and said and name != "security":
            yield (name,), f"a channel by {channel.by} has no use for '{name}'"


def _references(channel: Channel) -> Found:
    for name in ("url", "token", "sign", "password"):
        secret: Secret | None = getattr(channel, name)
        if secret is not None and bool(secret.variable) == bool(secret.file):
            yield (name,), f"{name} needs either 'variable' or 'file', which hold the secret"
        if secret is not None and secret.file and secret.file[0] not in "/~$":
            yield (name, "file"), "a file that holds a secret begins with /, ~ or a $VARIABLE"


def _mail(channel: Channel) -> Found:
    if channel.server and not _SERVER.fullmatch(channel.server):
        yield ("server",), "the mail server needs its port, for example smtp.example.org:587"
    for key, addresses in (("sender", [channel.sender]), ("to", channel.to)):
        if any(address and not _ADDRESS.fullmatch(address) for address in addresses):
            yield (key,), f"{key} needs plain mail addresses, for example alice@example.org"
    if (channel.user == "") != (channel.password is None):
        yield (), "'user' and 'password' go together"
    if channel.security == "none" and channel.password and not channel.server.startswith(_HERE):
        yield ("security",), "without encryption the password would be read on its way; use starttls or tls"


def _rest(channel: Channel) -> Found:
    command = channel.command
    if secrets.told(command) or any(secrets.masked(word) != word for word in command):
        yield ("command",), "a secret is written here; let the command read a file or a variable"
    try:
        too_long = not 0 < seconds(channel.timeout) <= 120
    except ValueError as error:
        yield ("timeout",), str(error)
    else:
        if too_long:
            yield ("timeout",), "a timeout is more than 0s and at most 120s"
