"""Whatever of a script only its owner may read: it goes into the submission's private file.

The file holds shell functions: the site's setup lines if any of them shows a secret, and for each run its
secret variables, and its command and options if they show one. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ddqjobs.base.secrets import masked
from ddqjobs.detect.job import exit_codes


def shows_secret(text: str) -> bool:
    """Return whether a text shows a secret."""
    return masked(text) != text


def setup(lines: Sequence[str]) -> tuple[Sequence[str], str]:
    """Return the site's setup lines as a job script has them, and the function of the private file that they
    call; without a secret the lines themselves, and nothing."""
    if not any(map(shows_secret, lines)):
        return lines, ""
    load = f'. "$submission/secrets.sh" || exit {exit_codes.BROKEN}'
    call = ["# shellcheck source=/dev/null  # a line of the site shows a secret", load, "site_setup"]
    return call, _function("site_setup", lines)


def element(index: int, variables: Mapping[str, str], command: str, check: str) -> str:
    """Return the functions of the private file for one run: ``secrets_<index>`` exports its secret variables,
    ``work_<index>`` and ``check_<index>`` are there if its command shows a secret."""
    exports = [f"export {name}={value}" for name, value in variables.items()]
    text = _function(f"secrets_{index}", exports or [":"])
    if command:
        text += _function(f"work_{index}", [f"exec {command}"])
        text += _function(f"check_{index}", [f'"$@" {check}'])
    return text if variables or command else ""


def _function(name: str, lines: Sequence[str]) -> str:
    body = "".join(f"  {line}\n" for line in lines)
    return f"{name}() {{\n{body}}}\n"
