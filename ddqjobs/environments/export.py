"""A build as text to run elsewhere: one bash script, or an Apptainer definition around it. Pure.

Both do what :mod:`ddqjobs.environments.steps` does, in the same order, with uv, git and bash alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from shlex import quote

from ddqjobs.environments import environment as environments
from ddqjobs.environments.environment import TREES, Environment
from ddqjobs.environments.steps import only_binary, part
from ddqjobs.spec.environment import Declaration, Step

BASE_IMAGE = "ubuntu:jammy-20240808"  # a dated tag: what it names does not move
_PLACEHOLDER = re.compile(r"\{(environment|trees|cpus|env\.[A-Za-z_][A-Za-z0-9_]*)\}")
_SHELL = {"environment": "${environment}", "trees": f"${{environment}}/{TREES}", "cpus": "${cpus}"}
_SPECIAL, _ESCAPED = re.compile(r'[\\"$`]'), r"\\\g<0>"  # within double quotes
_END = "END_OF_LOCK"

# The tree at its revision; by the branch, or all there is, where a server gives no single commits.
_CHECKOUT = """
checkout() {  # checkout NAME URL REVISION BRANCH
  local target="$environment/trees/$1"
  [ "$(git -C "$target" rev-parse HEAD 2> /dev/null)" != "$3" ] || return 0
  say "checking out $1"
  rm -rf -- "$target" && mkdir -p -- "$target"
  git -C "$target" init --quiet .
  git -C "$target" fetch --quiet --no-tags "$2" "$3" \\
    || git -C "$target" fetch --quiet --no-tags "$2" "+refs/heads/${4:-*}:refs/remotes/origin/${4:-*}"
  git -C "$target" remote add origin "$2"
  git -C "$target" checkout --quiet --detach "$3"
  [ "$(git -C "$target" rev-parse HEAD)" = "$3" ]
}
"""
_PRODUCED = """
produced() {  # produced STEP PATTERN
  compgen -G "$2" > /dev/null || { say "step $1 left no $2"; exit 70; }
}
"""

# Folders of a job that an image cannot know of; Apptainer itself binds the home, /tmp and the current folder.
_ENTER = """#!/usr/bin/env bash
# python inside the image; written by `ddqjobs env export NAME --apptainer`. APPTAINER_BIND adds folders.
set -u
here=$(readlink -f -- "${BASH_SOURCE[0]}")
image=${here%/*/*/*}/NAME.sif
run=$(command -v apptainer || command -v singularity) \\
  || { echo "ddqjobs: neither apptainer nor singularity is on PATH; load its module" >&2; exit 69; }
[ -e "$image" ] \\
  || { echo "ddqjobs: $image is missing; apptainer build $image ${image%.sif}.def" >&2; exit 69; }
options=()
[ ! -e /dev/nvidiactl ] || options+=(--nv)
bind() { [ ! -e "$1" ] || options+=(--bind "$1"); }
[ -z "${DDQJOBS_RUN_DIR:-}" ] || bind "${DDQJOBS_RUN_DIR%/runs/*}"
for name in TORCH_HOME DDQJOBS_TREE DDQJOBS_CODE "${!DDQJOBS_INPUT_@}"; do
  [ -z "${!name:-}" ] || bind "${!name}"
done
exec "$run" exec "${options[@]}" "$image" /opt/environment/bin/python "$@"
"""
_ACTIVATE = """# Sourced by jobs of a site with `activate: {NAME: THIS FILE}`; its python enters the image.
PATH="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd):$PATH"
"""


def script(environment: Environment, modules: tuple[str, ...] = ()) -> str:
    """One bash script that builds the environment in a folder, the lock in it. It may be run again."""
    declaration = environment.declaration
    lines = [
        "#!/usr/bin/env bash",
        f"# Builds environment {environment.name} in FOLDER, where it must stay: none can be moved.",
        f"# Written by `ddqjobs env export {environment.name} --script`.",
        f"# Identity: {environments.identity(environment)}.",
        "# shellcheck disable=SC2016  # data in single quotes is meant so",
        "set -euo pipefail",
        "environment=${1:?usage: bash build.sh FOLDER}",
        'mkdir -p -- "$environment" && environment=$(cd -- "$environment" && pwd)',
        f"say() {{ printf '%s: %s\\n' {quote(environment.name)} \"$*\" >&2; }}",
        *_modules(modules),
        "command -v uv > /dev/null || { say 'uv is not on PATH'; exit 69; }",
        *_sources(declaration),
        *_packages(environment),
    ]
    for name, value in declaration.variables.items():
        lines.append(f"export {name}={_word(value)}")
    if declaration.trees:
        lines += _CHECKOUT.split("\n")
        for name, tree in declaration.trees.items():
            lines.append(f"checkout {name} {quote(tree.url)} {tree.revision} {quote(tree.branch)}")
    if any(step.produces for step in declaration.steps.values()):
        lines += _PRODUCED.split("\n")
    steps = [line for name, step in declaration.steps.items() for line in _step(environment, name, step)]
    lines += [*(["cpus=$(nproc)"] if any("${cpus}" in line for line in steps) else []), *steps]
    lines.append('say "built: $environment/bin/python"')
    return "\n".join(lines) + "\n"


def apptainer(environment: Environment, uv: str, base: str = "") -> str:
    """A definition file for ``apptainer build NAME.sif NAME.def``, with the script as NAME.sh beside it.

    ``uv`` is the version to build with. Modules stay out of it: what they bring (compilers, CUDA) must be in
    the image that it starts from.
    """
    name = environment.name
    runtime = {
        variable: _word(value).replace("${environment}", "/opt/environment")
        for variable, value in environment.declaration.variables.items()
    }
    if "PYTHONPATH" in runtime:  # a job's own comes from outside, and before
        runtime["PYTHONPATH"] = f'"${{PYTHONPATH:+$PYTHONPATH:}}"{runtime["PYTHONPATH"]}'
    lines = [
        "Bootstrap: docker",
        f"From: {base or BASE_IMAGE}",
        "",
        f"# Written by `ddqjobs env export {name} --apptainer`.",
        "%files",
        f"    {name}.sh /opt/{name}.sh",
        "",
        "%post",
        "    set -eu",
        "    export DEBIAN_FRONTEND=noninteractive UV_CACHE_DIR=/tmp/uv UV_PYTHON_INSTALL_DIR=/opt/python",
        "    apt-get update -qq",
        "    apt-get install -y -qq --no-install-recommends ca-certificates git g++ ninja-build python3-pip",
        f"    python3 -m pip install --quiet uv=={uv}",
        f"    bash /opt/{name}.sh /opt/environment",
        "    rm -rf /tmp/uv /var/lib/apt/lists/*",
        "",
        "%environment",
        "    export PATH=/opt/environment/bin:$PATH",
        *(f"    export {variable}={value}" for variable, value in runtime.items()),
        "",
        "%labels",
        f"    ddqjobs.environment {name}",
        f"    ddqjobs.identity {environments.identity(environment)}",
        "",
        "%runscript",
        '    exec python "$@"',
    ]
    return "\n".join(lines) + "\n"


def entrance(name: str) -> dict[str, str]:
    """Return the files that enter the image NAME.sif from outside: NAME/bin/python, a script to be made
    executable, and NAME/bin/activate, which a site file names under ``activate:``. The image lies beside the
    folder NAME."""
    return {
        f"{name}/bin/python": _ENTER.replace("NAME", quote(name)),
        f"{name}/bin/activate": _ACTIVATE.replace("NAME", name),
    }


def _modules(modules: tuple[str, ...]) -> Iterator[str]:
    if modules:
        yield "set +u  # modules are seldom written for it"
        yield "command -v module > /dev/null || { say 'there is no module command here'; exit 69; }"
        for module in modules:
            yield f"module load {quote(module)} || exit 69"
        yield "set -u"


def _sources(declaration: Declaration) -> Iterator[str]:
    """Yield the places where uv looks, on top of what its user has configured; every file's hash is in the
    lock."""
    indexes = [*declaration.indexes, *declaration.fallback_indexes]
    if declaration.wheels:
        links = quote(",".join(declaration.wheels))
        yield f'export UV_FIND_LINKS="${{UV_FIND_LINKS:+$UV_FIND_LINKS,}}"{links}'
    if indexes:
        yield f'export UV_INDEX="${{UV_INDEX:+$UV_INDEX }}"{quote(" ".join(indexes))}'
        yield "export UV_INDEX_STRATEGY=unsafe-best-match"


def _packages(environment: Environment) -> Iterator[str]:
    declaration = environment.declaration
    later = {package for step in declaration.steps.values() for package in step.packages}
    yield from _here(part(environment.lock, later, inside=False), "lock.txt")
    managed = "--managed-python " if declaration.interpreter.managed else ""
    python = quote(declaration.interpreter.path or declaration.python)
    yield "say 'installing packages'"
    options = f"--allow-existing --prompt {quote(environment.name)} {managed}--python {python}"
    yield f'uv venv --quiet {options} "$environment"'
    yield (
        f"uv pip sync --require-hashes {_options(only_binary(declaration.from_source))} "
        '--allow-empty-requirements --python "$environment/bin/python" "$environment/lock.txt"'
    )
    yield 'export VIRTUAL_ENV="$environment" PATH="$environment/bin:$PATH"'


def _step(environment: Environment, name: str, step: Step) -> Iterator[str]:
    yield ""
    yield f"say {quote(f'step {name}')}"
    if step.packages:
        yield from _here(part(environment.lock, set(step.packages), inside=True), f"step-{name}.txt")
    where = (
        f'"$environment"/{quote(f"{TREES}/{step.tree}/{step.folder}" if step.tree else step.folder or ".")}'
    )
    yield "("
    yield f"  cd -- {where}"
    for variable, value in step.variables.items():
        yield f"  export {variable}={_word(value)}"
    if step.packages:
        chosen = _options([word for package in step.packages for word in ("--no-binary", package)])
        how = f"--no-cache --no-deps --no-build-isolation --require-hashes --reinstall {chosen}"
        target = f'--python "$environment/bin/python" --requirement "$environment/step-{name}.txt"'
        yield f"  uv pip install {how} {target}"
    else:
        yield "  " + " ".join(_word(word) for word in step.command)
    for pattern in step.produces:
        yield f"  produced {quote(name)} {quote(pattern)}"
    yield ")"


def _here(text: str, name: str) -> Iterator[str]:
    yield f"cat > \"$environment\"/{name} << '{_END}'"
    yield from text.splitlines()
    yield _END


def _options(options: list[str]) -> str:
    return " ".join(quote(option) for option in options)


def _word(text: str, shell: Mapping[str, str] = _SHELL) -> str:
    """A word of a command: a literal, or in double quotes, with placeholders as variables."""
    if not _PLACEHOLDER.search(text):
        return quote(text)
    content, at = "", 0
    for placeholder in _PLACEHOLDER.finditer(text):
        name = placeholder[1]
        value = f"${{{name.removeprefix('env.')}:?}}" if name.startswith("env.") else shell[name]
        content += _SPECIAL.sub(_ESCAPED, text[at : placeholder.start()]) + value
        at = placeholder.end()
    content += _SPECIAL.sub(_ESCAPED, text[at:])
    return f'"{content}"'
