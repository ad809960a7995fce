"""The ways of telling: a command, posts as each service wants them, mail. Standard library only.

What goes wrong is raised as :class:`UndeliveredError`, whose message never shows an address or a secret.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import os
import smtplib
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from email.header import Header
from email.message import EmailMessage
from email.utils import formatdate
from typing import Any
from urllib.parse import quote_plus, urlsplit

from ddqjobs.base import process
from ddqjobs.base.errors import DdqjobsError
from ddqjobs.base.units import seconds
from ddqjobs.base.version import VERSION
from ddqjobs.notify.channels import SecretError, secret
from ddqjobs.notify.outbox import Event
from ddqjobs.spec.notify import Channel, Secret

_ANSWER = 64 << 10  # bytes of an answer that are read


# The message itself is refused, whoever asks and whenever: a bad request, too large, of a form not known.
_FOR_GOOD = (400, 413, 414, 415, 422)


class UndeliveredError(DdqjobsError):
    """A channel did not take an event. ``for_good``: nor will it later."""

    exit_code = 1

    def __init__(self, message: str, *, for_good: bool = False) -> None:
        super().__init__(message)
        self.for_good = for_good


class _Stay(urllib.request.HTTPRedirectHandler):
    """A redirection would carry the message, and a token, to somebody else."""

    def redirect_request(self, *_arguments: Any, **_named: Any) -> None:
        return None


def send(event: Event, channel: Channel) -> None:
    """Send an event. Raise UndeliveredError."""
    limit_s = seconds(channel.timeout)
    try:
        if channel.by == "command":
            _command(event, channel, limit_s)
        elif channel.by == "mail":
            _mail(event, channel, limit_s)
        else:
            _post(event, channel, limit_s)
    except SecretError as error:
        raise UndeliveredError(str(error)) from None
    except (TimeoutError, urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        for_good = isinstance(error, urllib.error.HTTPError) and error.code in _FOR_GOOD
        raise UndeliveredError(_why(error, limit_s), for_good=for_good) from None


def _why(error: Exception, limit_s: float) -> str:
    """Return what went wrong, without what the error may quote: an address, an answer."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        return f"the server answered with status {error.code}"
    if isinstance(cause, TimeoutError):
        return f"no answer within {limit_s:.0f} s"
    if isinstance(cause, smtplib.SMTPResponseException):
        return f"the mail server answered with status {cause.smtp_code}"
    if isinstance(cause, ssl.SSLError):
        return f"no safe connection: {cause.reason or 'certificate'}"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return f"{type(cause).__name__}"


# -- a command -------------------------------------------------------------------------------------------


def _command(event: Event, channel: Channel, limit_s: float) -> None:
    variables = {
        "DDQJOBS_ID": event.id,
        "DDQJOBS_EVENT": event.kind,
        "DDQJOBS_EXPERIMENT": event.experiment,
        "DDQJOBS_TITLE": event.title,
        "DDQJOBS_TEXT": event.text,
    }
    done = process.run(
        channel.command, timeout=limit_s, stdin=json.dumps(document(event)), env={**os.environ, **variables}
    )
    if done.timed_out:
        raise TimeoutError
    if done.code == process.NOT_STARTED:
        raise UndeliveredError(f"{channel.command[0]} cannot be started")
    if done.code:
        raise UndeliveredError(f"{channel.command[0]} ended with exit code {done.code}")


def document(event: Event) -> dict[str, Any]:
    """Return an event as webhooks and commands get it."""
    names = ("id", "kind", "experiment", "site", "at", "title", "text")
    return {"version": 1, **{name: getattr(event, name) for name in names}}


# -- posts -----------------------------------------------------------------------------------------------


def _post(event: Event, channel: Channel, limit_s: float) -> None:
    assert channel.url is not None
    address = secret(channel.url)
    if urlsplit(address).scheme not in ("http", "https") or not address.isprintable():
        raise UndeliveredError(f"{channel.url} contains no http(s) URL")
    key = secret(channel.sign) if channel.sign else ""
    address, body, headers = _FORMS[channel.by](event, address, key)
    headers = {"Content-Type": "application/json; charset=utf-8", **headers, **_authorization(channel.token)}
    headers |= {"User-Agent": f"ddqjobs/{VERSION}", "Idempotency-Key": event.id}
    request = urllib.request.Request(address, body, headers, method="POST")
    with urllib.request.build_opener(_Stay).open(request, timeout=limit_s) as answer:
        _accepted(channel.by, answer.read(_ANSWER))


def _authorization(token: Secret | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret(token)}"} if token else {}


def _accepted(by: str, answer: bytes) -> None:
    """Raise UndeliveredError if a service says with status 200 that it did not take it."""
    if by not in ("feishu", "dingtalk"):
        return
    try:
        said = json.loads(answer)
        code = next(said[name] for name in ("errcode", "code", "StatusCode") if name in said)
    except (ValueError, TypeError, StopIteration):
        raise UndeliveredError("the service's answer is invalid") from None
    if code != 0:
        raise UndeliveredError(f"the service refused the message (code {code!s:.20})")


_Form = tuple[str, bytes, dict[str, str]]  # address, body, headers


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _plain(event: Event) -> str:
    return f"{event.title}\n{event.text}".strip()


def _webhook(event: Event, address: str, _key: str) -> _Form:
    return address, _json(document(event)), {}


def _slack(event: Event, address: str, _key: str) -> _Form:
    text = _plain(event).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return address, _json({"text": text}), {}


def _feishu(event: Event, address: str, key: str) -> _Form:
    body: dict[str, Any] = {"msg_type": "text", "content": {"text": _plain(event)}}
    if key:
        at = str(int(time.time()))
        body |= {"timestamp": at, "sign": _signature(f"{at}\n{key}", "")}
    return address, _json(body), {}


def _dingtalk(event: Event, address: str, key: str) -> _Form:
    if key:
        at = str(round(time.time() * 1000))
        both = "&" if "?" in address else "?"
        address += f"{both}timestamp={at}&sign={quote_plus(_signature(key, f'{at}{chr(10)}{key}'))}"
    return address, _json({"msgtype": "text", "text": {"content": _plain(event)}}), {}


def _signature(key: str, text: str) -> str:
    return base64.b64encode(hmac.new(key.encode(), text.encode(), hashlib.sha256).digest()).decode()


def _ntfy(event: Event, address: str, _key: str) -> _Form:
    title = Header(event.title, "ascii" if event.title.isascii() else "utf-8")
    headers = {"Title": title.encode(maxlinelen=0)}  # one line, however long: a folded header may be refused
    return address, event.text.encode(), {"Content-Type": "text/plain; charset=utf-8", **headers}


_FORMS: Mapping[str, Callable[[Event, str, str], _Form]] = {
    "webhook": _webhook,
    "slack": _slack,
    "feishu": _feishu,
    "dingtalk": _dingtalk,
    "ntfy": _ntfy,
}


# -- mail ------------------------------------------------------------------------------------------------


def _mail(event: Event, channel: Channel, limit_s: float) -> None:
    message = EmailMessage()
    message["From"], message["To"] = channel.sender, ", ".join(channel.to)
    message["Subject"], message["Date"] = event.title, formatdate(event.at or None)
    message["Message-ID"] = f"<{event.id}@ddqjobs>"
    message.set_content(f"{event.text}\n\n{event.id}\n")
    password = secret(channel.password) if channel.password else ""
    host, _, port = channel.server.rpartition(":")
    host = host.strip("[]")
    kind = smtplib.SMTP_SSL if channel.security == "tls" else smtplib.SMTP
    safe: dict[str, Any] = {"context": ssl.create_default_context()} if channel.security != "none" else {}
    with kind(host, int(port), timeout=limit_s, **(safe if channel.security == "tls" else {})) as server:
        if channel.security == "starttls":
            server.starttls(**safe)
        if password:
            server.login(channel.user, password)
        server.send_message(message)
