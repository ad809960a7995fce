"""Whatever of a script only its owner may read: it goes into the submission's private files.

One has the site's setup lines as they are, if any of them shows a secret. The other has shell functions: for
each run its secret variables, and its command and options if they show one. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ddqjobs.base.secrets import masked

# Of its first line on, the file's lines count as the script's own; see the template setup_lines.sh.j2.
_LEVEL = 'setup_level="${BASH_SOURCE[*]} $BASH_SUBSHELL" setup_line=$LINENO'

# The file is removed when the submission's runs have ended. A scheduler may start the job once more all the
# same: claim and product then decide what it is, and until they have, no module is looked for.
_LOAD = """\
if [ -r "$submission/secret_setup.sh" ]; then
  # shellcheck source=/dev/null  # a line of the site shows a secret
  . "$submission/secret_setup.sh"
else
  setup_gone=1
  # shellcheck disable=SC2329  # called where there are modules
  module() { :; }
fi"""


def shows_secret(text: str) -> bool:
    """Return whether a text shows a secret."""
    return masked(text) != text


def setup(lines: Sequence[str]) -> tuple[Sequence[str], str]:
    """Return the site's setup lines as a job script has them, and the private file that they read; without a
    secret the lines themselves, and nothing. They are no function: ``declare -x`` would be local to it."""
    if not any(map(shows_secret, lines)):
        return lines, ""
    return [_LOAD], "".join(f"{line}\n" for line in (_LEVEL, *lines))


def element(index: int, variables: Mapping[str, str], command: str, check: str) -> str:
    """Return the functions of the private file for one run: ``secrets_<index>`` exports its secret variables
    and their names, ``work_<index>`` and ``check_<index>`` are there if its command shows a secret."""
    exports = [f"export {name}={value}" for name, value in variables.items()]
    exports += [f"export DDQJOBS_SECRETS='{' '.join(variables)}'"] * bool(variables)
    text = _function(f"secrets_{index}", exports or [":"])
    if command:
        text += _function(f"work_{index}", [f"exec {command}"])
        text += _function(f"check_{index}", [f'"$@" {check}'])
    return text if variables or command else ""


def _function(name: str, lines: Sequence[str]) -> str:
    body = "".join(f"  {line}\n" for line in lines)
    return f"{name}() {{\n{body}}}\n"
