"""Tell whether the GPUs that jobs get are those that the environments of their runs can serve."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ddqjobs.base.findings import Line, error, ok, warning
from ddqjobs.doctor.subject import Subject
from ddqjobs.environments import gpus
from ddqjobs.schedulers.registry import backend
from ddqjobs.spec.environment import Gpus
from ddqjobs.submission.script import on_site

_SAY = "name their type as `gpus: {type: ...}` in the site file"


def check_gpus(subject: Subject) -> Iterator[Line]:
    """Yield each environment's GPUs against those of its runs; then what no GPU serves together."""
    served = _served(subject)
    types = _types(subject)
    for name, declared in served.items():
        for kind in sorted(types[name]):
            yield _fits(name, declared, kind)
        driver = subject.site.gpus.driver
        if gpus.older(driver, declared.driver):
            message = f"environment {name} needs driver {declared.driver}, the site has {driver}"
            yield error("GPUs", message, "use nodes with a newer driver, or an environment for an older CUDA")
    together = {name: declared for name, declared in served.items() if "" in types[name]}
    if together and not gpus.common(declared.capabilities for declared in together.values()):
        details = "; ".join(f"{name}: {_words(declared)}" for name, declared in together.items())
        remedy = f"give these runs GPUs of different types (a variant's or a task's options); {_SAY}"
        yield warning("GPUs", f"no GPU serves all environments ({details})", remedy)


def _served(subject: Subject) -> Mapping[str, Gpus]:
    """Return environment -> GPUs that it serves, of those that say so and whose runs ask for GPUs."""
    asking = dict.fromkeys(run.environment for run in subject.runs if run.resources.gpus)
    known = [name for name in asking if name in subject.environments.declared]
    pairs = ((name, subject.environments.load(name).declaration.gpus) for name in known)
    return {name: declared for name, declared in pairs if declared is not None}


def _types(subject: Subject) -> Mapping[str, set[str]]:
    """Return environment -> types of GPUs that its runs get; an empty one where nobody says."""
    types: dict[str, set[str]] = {}
    asked: dict[object, str] = {}
    for run in subject.runs:
        if run.resources.gpus:
            if run.resources not in asked:
                resources = on_site(run.resources, subject.site)
                asked[run.resources] = backend(subject.site).gpu_type(resources) or subject.site.gpus.type
            types.setdefault(run.environment, set()).add(asked[run.resources])
    return types


def _fits(name: str, declared: Gpus, kind: str) -> Line:
    capability = gpus.capability_of(kind)
    if not capability:
        what = f"the GPUs' type '{kind}' is not known" if kind else "the type of the GPUs is not known"
        message = f"{what}; environment {name} serves {_words(declared)}"
        return warning("GPUs", message, _SAY)
    if gpus.serves(declared.capabilities, capability):
        return ok("GPUs", f"environment {name} serves {kind} (compute capability {capability})")
    message = f"environment {name} serves {_words(declared)}; {kind} has compute capability {capability}"
    remedy = "choose other GPUs, or build an environment for these (TORCH_CUDA_ARCH_LIST and torch's CUDA)"
    return error("GPUs", message, remedy)


def _words(declared: Gpus) -> str:
    return f"compute capability {', '.join(declared.capabilities)}"
