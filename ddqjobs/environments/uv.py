"""Call uv: the variables that it gets, and the package that it says nobody has.

uv does not read pip's configuration, but a cluster's mirror, wheel folder and certificate are written down
there and nowhere else. So pip is asked, and its settings are handed to uv, unless the user set uv's own.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ddqjobs.base import process
from ddqjobs.base.shell_variables import after_modules

_NO_SOLUTION = "No solution found"
_LACKING = re.compile(r"no version of (\S+)|Because (\S+) was not found")


def lacking(output: str) -> str:
    """The package that no source has, as uv's output names it; empty if the failure was another."""
    named = _LACKING.search(" ".join(output.split()))
    if named is not None:
        return named[1] or named[2]
    return "a package" if _NO_SOLUTION in output else ""


def uv_environment(base_dir: Path, environ: Mapping[str, str], pip: Mapping[str, str]) -> dict[str, str]:
    """Variables for uv: the user's, pip's settings in uv's words, and a cache beside the environments.

    There, hard links save time and space, and nothing is written to a home with a quota.
    """
    variables = after_modules(environ)
    for name, value in {
        **from_pip(pip),
        "UV_CACHE_DIR": str(base_dir / ".uv-cache"),
        "UV_PYTHON_INSTALL_DIR": str(base_dir / ".uv-python"),
        "UV_PYTHON_PREFERENCE": "system",
        "UV_SYSTEM_CERTS": "true",
        "UV_NO_PROGRESS": "true",
    }.items():
        variables.setdefault(name, value)
    return variables


def offline(base_dir: Path, environ: Mapping[str, str], source: Path) -> dict[str, str]:
    """Variables for uv where only what ``env fetch`` left in ``source`` may be used, whatever was set."""
    kept = {n: v for n, v in environ.items() if not (n.startswith("UV_") and ("INDEX" in n or "LINKS" in n))}
    only = {"UV_FIND_LINKS": str(source / "wheels"), "UV_NO_INDEX": "true", "UV_OFFLINE": "true"}
    only["UV_PYTHON_DOWNLOADS"] = "never"
    return uv_environment(base_dir, {**kept, **only}, {})


def add(variables: dict[str, str], name: str, separator: str, values: Iterable[str]) -> None:
    """Appends values to what a variable holds."""
    joined = separator.join(filter(None, [variables.get(name, ""), *values]))
    if joined:
        variables[name] = joined


def add_indexes(variables: dict[str, str], indexes: Sequence[str]) -> None:
    """Further indexes. The best version of all counts; every file's hash is in the lock, so that is safe."""
    if indexes:
        add(variables, "UV_INDEX", " ", indexes)
        variables["UV_INDEX_STRATEGY"] = "unsafe-best-match"


def from_pip(pip: Mapping[str, str]) -> dict[str, str]:
    """pip's settings in uv's words. Local folders that do not exist are left out: pip passes over them,
    uv would stop."""
    links = ",".join(filter(_exists, re.split(r"[\s,]+", pip.get("find-links", "").strip())))
    extra = " ".join(filter(_exists, pip.get("extra-index-url", "").split()))
    cert = pip.get("cert", "")
    proxy = pip.get("proxy", "")
    truth = pip.get("no-index", "").lower() in ("1", "true", "yes", "on")
    variables = {
        "UV_FIND_LINKS": links,
        "UV_DEFAULT_INDEX": pip.get("index-url", "").strip(),
        "UV_INDEX": extra,
        # pip takes the best version of all indexes; every file's hash is in the lock, so that is safe.
        "UV_INDEX_STRATEGY": "unsafe-best-match" if extra else "",
        "UV_INSECURE_HOST": " ".join(pip.get("trusted-host", "").split()),
        "UV_HTTP_TIMEOUT": pip.get("default-timeout", pip.get("timeout", "")),
        "UV_NO_INDEX": "true" if truth else "",
        "SSL_CERT_FILE": cert if cert and Path(cert).is_file() else "",
        "HTTP_PROXY": proxy,
        "HTTPS_PROXY": proxy,
    }
    return {name: value for name, value in variables.items() if value}


def pip_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """pip's configuration: from our interpreter's pip, else the one on PATH, else ``PIP_*`` alone."""
    for command in _pips(environ):
        answer = process.run([*command, "config", "list"], timeout=60, env=dict(environ))
        if answer.code == 0:
            return parse_pip_config(answer.stdout)
    return {
        name.removeprefix("PIP_").lower().replace("_", "-"): value
        for name, value in environ.items()
        if name.startswith("PIP_") and value
    }


def parse_pip_config(text: str) -> dict[str, str]:
    """Return the settings that ``pip config list`` prints, variables over ``[install]`` over ``[global]``."""
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in text.splitlines():
        match = re.fullmatch(r"(global|install|:env:)\.([\w-]+)=(.*)", line)
        if match:
            section, key, quoted = match.groups()
            try:
                sections[section][key] = str(ast.literal_eval(quoted))
            except (ValueError, SyntaxError):
                sections[section][key] = quoted
    return {**sections["global"], **sections["install"], **sections[":env:"]}


def _pips(environ: Mapping[str, str]) -> Iterator[list[str]]:
    yield [sys.executable, "-m", "pip"]
    on_path = shutil.which("pip", path=environ.get("PATH", os.defpath))
    if on_path:
        yield [on_path]


def _exists(source: str) -> bool:
    """Return whether a folder or URL is worth handing to uv. What is not on this machine's disk counts as
    there."""
    parts = urlsplit(source)
    if parts.scheme == "file":
        return Path(unquote(parts.path)).exists()
    return bool(source) and (parts.scheme != "" or Path(source).exists())
