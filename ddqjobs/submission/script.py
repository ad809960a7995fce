"""Runs and a site become script text. The disk is touched only to read templates.

Two kinds of places need two kinds of care. Shell words are quoted (:func:`quote`) or, where they come from
the job, double-quoted variables; whatever the experiment says is data there, never code. Directive lines
(``#SBATCH``, ``#DSUB``) are no shell and cannot be quoted: what goes there matches an allow-list, else
it is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import field

from ddqjobs.base.errors import InputError
from ddqjobs.base.frozen import Frozen
from ddqjobs.base.secrets import is_secret
from ddqjobs.base.units import seconds
from ddqjobs.environments.environment import Locked
from ddqjobs.planning.changes import without_secrets
from ddqjobs.schedulers.backend import Job, sections
from ddqjobs.schedulers.backend import directives as checked_directives
from ddqjobs.schedulers.registry import backend
from ddqjobs.spec.code import Code, variable
from ddqjobs.spec.model import Input, Resources, Run, TaskKind
from ddqjobs.spec.site import Site
from ddqjobs.store.layout import Layout, SubmissionFolder
from ddqjobs.store.ledger import ticket_of
from ddqjobs.submission import configurations, hiding, templates
from ddqjobs.submission.job_names import job_name, with_token
from ddqjobs.submission.words import command, entered_python, known_values, node_path, quote, shell_path, word

DOCTOR, ENV, CHECK = "ddqjobs.doctor", "ddqjobs.env", "ddqjobs.check"  # names of the jobs that are no runs
_CHECKED = (TaskKind.TRAIN, TaskKind.TEST)
# What an environment must be able to do on a node: load the largest of what it has.
_LOOK_AROUND = (
    "import importlib.util as u, sys; "
    "found = [n for n in ('torch', 'mmengine', 'mmcv') if u.find_spec(n)]; "
    "mods = [__import__(n) for n in found]; "
    "gpu = 'torch' in found and mods[0].cuda.is_available() and mods[0].cuda.device_count() or 0; "
    "print('Python %d.%d' % sys.version_info[:2], "
    "*('%s %s' % (m.__name__, m.__version__) for m in mods), '%d GPUs' % gpu)"
)
# The elements of an array are sourced by the job script, which sets and reads their variables.
_SOURCED = "# shellcheck shell=bash disable=SC2034,SC2153,SC2154\n"
_DIRECTIVE_PATH = re.compile(r"[A-Za-z0-9@._=,/+-]*")


class Context(Frozen, frozen=True, kw_only=True):
    """The facts that rendering needs besides the runs and the site."""

    results: str  # absolute results folder of the experiment
    project: str  # absolute project folder; relative paths of the experiment are below it
    code: str  # name of the code snapshot
    token: str
    user: str = ""
    pythons: dict[str, str] = field(default_factory=dict)  # environment -> its interpreter
    activate: dict[str, str] = field(default_factory=dict)  # environment -> script that enters it
    variables: dict[str, dict[str, str]] = field(default_factory=dict)  # environment -> its variables
    modules: dict[str, tuple[str, ...]] = field(default_factory=dict)  # environment -> modules it needs
    option_flags: dict[str, str] = field(default_factory=dict)  # code -> flag before options
    weights: str = ""  # TORCH_HOME of the jobs; empty: not said
    locks: dict[str, Locked] = field(default_factory=dict)  # environment -> its lock
    trees: dict[str, str] = field(default_factory=dict)  # code -> state of its tree, which the job compares
    first: int = 0  # index of the first element
    unchecked: frozenset[str] = frozenset()  # runs whose configuration is not to be checked

    @property
    def submission(self) -> SubmissionFolder:
        """The folder of the submission."""
        return Layout(Path(self.results)).submission(self.token)


class Scripts(Frozen, frozen=True, kw_only=True):
    """The files of one submission."""

    job: str
    elements: str  # empty when the only element stands in the job script itself
    manifest: str
    setup: str = ""  # the site's setup lines, if they show a secret
    secrets: str = ""  # shell functions of each element: its secret variables, its command if it shows one
    locks: str = ""  # environment -> what its lock says, for those that are ours


def on_site(resources: Resources, site: Site) -> Resources:
    """Resources with the site's defaults filled in: CPUs and memory per GPU, its longest time, what its
    scheduler is told."""
    gpus = max(1, resources.gpus)
    time_s = min(resources.time_s, seconds(site.limits.time)) if site.limits.time else resources.time_s
    return msgspec.structs.replace(
        resources,
        cpus=resources.cpus or gpus * site.cpus_per_gpu or 1,
        memory_mb=resources.memory_mb or gpus * site.memory_mb_per_gpu,
        time_s=time_s,
        sections=sections(backend(site), site, resources),
    )


def _threads(declared: Resources) -> int:
    """Threads of each process: of the experiment's CPUs, never of the site's. The count changes the eighth
    digit, so it belongs to the run's definition. 1 if none are declared, as mmengine's own default."""
    return max(1, declared.cpus // max(1, declared.gpus))


def _input_path(value: Input, context: Context) -> str:
    if value.run:
        return f'"$results"/runs/{quote(value.run)}/artifacts/{quote(value.artifact)}'
    return shell_path(value.path, context.project)


def _python(run: Run, site: Site, context: Context, activate: str) -> str:
    """The interpreter as a shell word: of the environment that the site enters, ours, or the site's own."""
    if activate:
        return entered_python(activate, context.project)
    return quote(context.pythons.get(run.environment, site.python))


class Renderer:
    """Renders with the templates of a project (overriding) and those that ship."""

    def __init__(self, template_roots: Sequence[Path]) -> None:
        self._jinja = templates.environment(template_roots)

    def render(self, runs: Sequence[Run], site: Site, context: Context) -> Scripts:
        """The scripts of one submission; all runs ask for the same resources.

        Raises InputError if a value cannot stand in a directive line.
        """
        functions = [self.element(i, run, site, context) for i, run in enumerate(runs, context.first)]
        elements = "".join(functions)
        resources = on_site(runs[0].resources, site)
        setup, hidden_setup = hiding.setup(site.setup)
        job = self._fill(
            [f"{site.name}/job.sh.j2", f"{site.scheduler}.sh.j2"],
            title=runs[0].name if len(runs) == 1 else f"{runs[0].name} and {len(runs) - 1} more",
            site=site.name,
            token=context.token,
            count=len(runs),
            first=context.first,
            results=context.results,
            code=context.code,
            setup=setup,
            private_setup=bool(hidden_setup),
            modules=site.modules,
            umask=site.umask,
            elements=elements if len(runs) == 1 else "",
            nodes=resources.nodes,
            hang_s=seconds(site.hang),
            directives=directives(site, resources, job_name(runs), len(runs), context),
            stop_after_s=max(resources.time_s - seconds(site.warning), resources.time_s // 2, 1),
            **backend(site).values(site),
        )
        return Scripts(
            job=job,
            elements="" if len(runs) == 1 else _SOURCED + elements,
            manifest="".join(
                manifest_line(run, script, unchecked=run.name in context.unchecked)
                for run, script in zip(runs, functions, strict=True)
            ),
            setup=hidden_setup,
            secrets="".join(_hidden(i, run, site, context) for i, run in enumerate(runs, context.first)),
            locks=_locks(runs, context),
        )

    def shell(self, run: Run, site: Site, context: Context, typed: str) -> str:
        """A script that enters a run's environment: for ``typed`` shell text, or a terminal without any."""
        argv = ("bash", "-c", "{env.DDQJOBS_TYPED}") if typed else ("bash", "--noprofile", "--norc", "-i")
        alone = msgspec.structs.replace(run, command=argv, launcher="plain")  # one process, of no launcher
        return self._fill(
            ["shell.sh.j2"],
            run=run.name,
            site=site.name,
            results=context.results,
            code=context.code,
            setup=site.setup,
            private_setup=any(map(hiding.shows_secret, site.setup)),
            modules=site.modules,
            umask=site.umask,
            element=_hidden(0, run, site, context) + self.element(0, alone, site, context, inline=True),
            command=command(run, context.option_flags.get(run.code, "")),
            typed=typed,
        )

    def doctor(
        self,
        site: Site,
        context: Context,
        resources: Resources,
        environments: Sequence[str],
        paths: Sequence[str],
    ) -> str:
        """Return the script of a node job that looks around: shared folder, clock, modules, environments,
        paths."""
        return self._fill(
            ["doctor.sh.j2"],
            **_node_job(site, context, resources, DOCTOR),
            title="doctor",
            program=_LOOK_AROUND,
            environments=[
                (
                    name,
                    entered_python(activate, context.project) if activate else quote(context.pythons[name]),
                    shell_path(activate, context.project) if activate else "",
                )
                for name in environments
                for activate in (context.activate.get(name, ""),)
            ],
            paths=[(path, shell_path(path, context.project)) for path in paths],
        )

    def node_command(
        self,
        site: Site,
        context: Context,
        resources: Resources,
        title: str,
        argv: Sequence[str],
        name: str = ENV,
    ) -> str:
        """Return the script of a node job that runs one command; ``name`` is the job's in the queue."""
        return self._fill(
            ["node_job.sh.j2"],
            **_node_job(site, context, resources, name),
            title=title,
            project=context.project,
            command=" ".join(quote(word) for word in argv),
        )

    def _fill(self, names: Sequence[str], **values: object) -> str:
        return templates.fill(self._jinja, names, values)

    def element(self, index: int, run: Run, site: Site, context: Context, *, inline: bool = False) -> str:
        """The shell function that says what one run does."""
        resources = on_site(run.resources, site)
        variables = _variables(run, site, context)
        if context.weights and "TORCH_HOME" not in dict(variables):
            variables.insert(0, ("TORCH_HOME", shell_path(context.weights, context.project)))
        hidden = _secret_names(run, site, context)
        work, check = _words(run, context)
        private = hiding.shows_secret(f"{work} {check}")
        activate = context.activate.get(run.environment, "")
        return self._fill(
            ["element.sh.j2"],
            index=index,
            run=run.name,
            kind=run.kind.value,
            model=run.model,
            seed="" if run.seed is None else run.seed,
            deterministic=int(run.deterministic),
            gpus=resources.gpus,
            nodes=resources.nodes,
            environment=run.environment,
            modules=context.modules.get(run.environment, ()),
            python=_python(run, site, context, activate),
            threads=_threads(run.resources),
            variables=[(k, v) for k, v in variables if k not in hidden],
            secrets=private or bool(hidden),
            inline=inline,
            inputs=[(variable(name), _input_path(value, context)) for name, value in run.inputs],
            input_names=" ".join(variable(name) for name, _ in run.inputs),
            staged=[variable(name) for name, value in run.inputs if value.stage and site.stage_to],
            stage_to=node_path(site.stage_to),
            tree=context.trees.get(run.code, "") if run.workdir else "",
            workdir=shell_path(run.workdir, context.project) if run.workdir else '"$DDQJOBS_CODE"',
            activate=shell_path(activate, context.project) if activate else "",
            config=_config(run),
            check="" if private else check,
            check_by=f"check_{index}" if private and check else "",
            work=f"work_{index}" if private else f"exec {work}",
        )


def _words(run: Run, context: Context) -> tuple[str, str]:
    """Return a run's command and its check as shell words."""
    option_flag = context.option_flags.get(run.code, "")
    return command(run, option_flag), _check(run, option_flag)


def _check(run: Run, option_flag: str) -> str:
    """Return the words of the check before the work of a code tree's own program; empty for programs of ours,
    which check by themselves, and for what loads no configuration."""
    loads = configurations.loads(run, option_flag)
    if loads is None or configurations.is_ours(run) or not run.environment or run.kind not in _CHECKED:
        return ""
    values = known_values(run)
    options = (word(o, values) if open_ else quote(o.removeprefix("+")) for o, open_ in loads.options)
    return " ".join([word(loads.config, values), *options])


def _node_job(site: Site, context: Context, resources: Resources, name: str) -> dict[str, object]:
    """Return what every node job's script is filled with."""
    return {
        "site": site.name,
        "directive": backend(site).directive,
        "directives": directives(site, on_site(resources, site), name, 1, context),
        "folder": str(context.submission.path),
        "ticket": ticket_of(context.token, 0),
        "job_id": backend(site).job_id(site),
        "setup": site.setup,
        "private_setup": any(map(hiding.shows_secret, site.setup)),
        "modules": site.modules,
        "umask": site.umask,
    }


def _config(run: Run) -> str:
    """Return the run's configuration as a shell word, absolute where it is a file; empty if it has none."""
    if not run.config:
        return ""
    known = "::" in run.config or run.config.startswith("/")  # mmdet::... is found by mmengine
    return quote(run.config) if known else f'"$PWD"/{quote(run.config)}'


def _variables(run: Run, site: Site, context: Context) -> list[tuple[str, str]]:
    """Return the variables of a run as shell words, to be exported in this order: the site's, its
    environment's, its own. Of one that is declared twice the last counts; the first stays for it to read."""
    above = {
        **{k: quote(v) for k, v in site.exported.items()},
        **{k: _exported(k, v) for k, v in context.variables.get(run.environment, {}).items()},
    }
    own = dict(run.variables)
    return [
        *((k, v) for k, v in above.items() if k not in own or f"{{env.{k}}}" in own[k]),
        *((k, word(v, known_values(run))) for k, v in own.items()),
    ]


def _secret_names(run: Run, site: Site, context: Context) -> frozenset[str]:
    """Return the names of the variables that no script shows."""
    of_environment = context.variables.get(run.environment, {})
    return site.secrets | {k for k, v in (*of_environment.items(), *run.variables) if is_secret(k, v)}


def _hidden(index: int, run: Run, site: Site, context: Context) -> str:
    """Return what the private file holds for a run; empty where nothing is secret."""
    names = _secret_names(run, site, context)
    variables = {k: v for k, v in _variables(run, site, context) if k in names}
    work, check = _words(run, context)
    if not hiding.shows_secret(f"{work} {check}"):
        work = ""
    return hiding.element(index, variables, work, check)


def manifest_line(run: Run, script: str, *, unchecked: bool = False) -> str:
    """Return a run as the manifest lists it: frozen, with what it adds to the job's script, and whether the
    job is not to check its configuration."""
    line = {**msgspec.to_builtins(without_secrets(run)), "script": script}
    if unchecked:
        line["unchecked"] = True
    return msgspec.json.encode(line).decode() + "\n"


def _exported(name: str, value: str) -> str:
    """A variable of an environment as a shell word. Its PYTHONPATH goes before that of the task's code."""
    return quote(value) + ('"${PYTHONPATH:+:$PYTHONPATH}"' if name == "PYTHONPATH" else "")


def _locks(runs: Sequence[Run], context: Context) -> str:
    """Return what the locks of the runs' environments say; empty where none has a lock."""
    known = {r.environment: context.locks[r.environment] for r in runs if r.environment in context.locks}
    return msgspec.json.encode(known).decode() if known else ""


def directives(site: Site, resources: Resources, name: str, count: int, context: Context) -> list[str]:
    """The options of the script's directive lines. Raises InputError for what must not stand there."""
    if backend(site).directive and not _DIRECTIVE_PATH.fullmatch(context.results):
        raise InputError(
            f"site {site.name}: results folder {context.results!r} is not allowed in a directive line, which "
            "has no quoting; use letters, digits and @._=,/+- (site key `results:` moves it)"
        )
    return checked_directives(backend(site), site, described(resources, name, count, context))


def described(resources: Resources, name: str, count: int, context: Context) -> Job:
    """Return a submission as its directive lines describe it. ``resources`` are those on the site."""
    return Job(
        name=with_token(name, context.token),
        token=context.token,
        resources=resources,
        out=str(context.submission.out),
        count=count,
        first=context.first,
        user=context.user,
    )


def option_flags(codes: dict[str, Code]) -> dict[str, str]:
    """code -> the flag that comes before its options."""
    return {name: code.option_flag for name, code in codes.items()}
