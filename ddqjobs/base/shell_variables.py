"""Variables of the submitting shell that never reach a job, by kind; all others pass.

The list is here and nowhere else: commands filter by it what they start, and scripts unset by it what reached
them another way (a login shell on the node, a scheduler's own export). ``docs/reference/job-contract.md`` has
it as a table, which a test compares. A name that ends with ``*`` is a prefix.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping

from ddqjobs.base.frozen import Frozen


class Kind(Frozen, frozen=True, kw_only=True):
    """Variables that steer one thing.

    ``site``: those that the site's modules and setup lines export pass. ``node``: a scheduler sets them for a
    job on its node, so a script leaves them alone.
    """

    title: str
    names: tuple[str, ...]
    site: bool = True
    node: bool = False


def _kind(title: str, names: str, *, site: bool = True, node: bool = False) -> Kind:
    return Kind(title=title, names=tuple(names.split()), site=site, node=node)


KINDS = (
    _kind(
        "Python's paths and options",
        "PYTHON* __PYVENV_LAUNCHER__ EBPYTHONPREFIXES",
        site=False,
    ),
    _kind(
        "virtual environments",
        "VIRTUAL_ENV* CONDA_* _CONDA_* _CE_CONDA _CE_M MAMBA_* MICROMAMBA_* PYENV_* PIPENV_* PIXI_* "
        "UV_PYTHON UV_PROJECT UV_PROJECT_ENVIRONMENT UV_SYSTEM_PYTHON UV_WORKING_DIRECTORY",
        site=False,
    ),
    _kind(
        "ranks and process groups",
        "RANK LOCAL_RANK GROUP_RANK ROLE_RANK ROLE_NAME NODE_RANK WORLD_SIZE LOCAL_WORLD_SIZE "
        "GROUP_WORLD_SIZE ROLE_WORLD_SIZE MASTER_ADDR MASTER_PORT NNODES NPROC_PER_NODE "
        "TORCHELASTIC_* PET_* NCCL_COMM_ID "
        "OMPI_COMM_WORLD_* OMPI_UNIVERSE_SIZE PMI_* PMIX_* MPI_LOCALRANKID MPI_LOCALNRANKS MV2_COMM_WORLD_*",
        site=False,
    ),
    _kind(
        "the loader",
        "LD_* GLIBC_TUNABLES GCONV_PATH LOCPATH MALLOC_* APPTAINERENV_* SINGULARITYENV_* "
        "CUDA_INJECTION32_PATH CUDA_INJECTION64_PATH NVTX_INJECTION32_PATH NVTX_INJECTION64_PATH",
    ),
    _kind(
        "modules loaded already",
        "LOADEDMODULES _LMFILES_* _ModuleTable* __LMOD_* __MODULES_*",
    ),
    _kind(
        "torch and communication",
        "TORCH_* PYTORCH_* TORCHINDUCTOR_* TORCHDYNAMO_* TRITON_* ATEN_* NCCL_* GLOO_* UCX_* UCC_* "
        "TP_SOCKET_IFNAME DISABLE_ADDMM_CUDA_LT DISABLE_ADDMM_HIP_LT NVFUSER_*",
    ),
    _kind(
        "CUDA's libraries",
        "CUBLAS_* CUBLASLT_* CUDNN_* NVIDIA_TF32_OVERRIDE CUDA_LAUNCH_BLOCKING CUDA_MODULE_LOADING "
        "CUDA_CACHE_* CUDA_FORCE_PTX_JIT CUDA_DISABLE_PTX_JIT CUDA_DEVICE_MAX_CONNECTIONS",
    ),
    _kind(
        "threads and instruction sets",
        "OMP_* GOMP_* KMP_* MKL_* DNNL_* ONEDNN_* OPENBLAS_* GOTO_* BLIS_* VECLIB_* NUMEXPR_* NUMBA_* NPY_* "
        "OPENCV_* TBB_* FLEXIBLAS*",
    ),
    _kind("detectors' data and weights", "MMDET_DATASETS MMENGINE_HOME MMCV_HOME"),
    _kind("the shell", "CDPATH GLOBIGNORE EXECIGNORE POSIXLY_CORRECT BASH_COMPAT"),
    _kind(
        "what a scheduler sets itself",
        "CUDA_VISIBLE_DEVICES CUDA_DEVICE_ORDER CUDA_MPS_* NVIDIA_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES "
        "HIP_VISIBLE_DEVICES GPU_DEVICE_ORDINAL ZE_AFFINITY_MASK "
        "SLURM_PROCID SLURM_LOCALID SLURM_NODEID SLURM_NNODES SLURM_NPROCS SLURM_NTASKS* SLURM_TASK* "
        "SLURM_JOB* SLURM_STEP* SLURM_ARRAY_* SLURM_CPU* SLURM_GPU* SLURM_MEM_* SLURM_DISTRIBUTION "
        "SLURM_EXPORT_ENV SRUN_* "
        "SHELLOPTS BASHOPTS BASH_XTRACEFD BASH_FUNC_*",
        node=True,
    ),
)
# Commands of a cluster, exported as functions of the shell: scripts need them.
_FUNCTIONS = ("module", "ml", "_module_raw", "switchml", "scl", "_mlshdbg")
# Folders whose `bin` an activated environment puts on PATH.
_ACTIVATED = ("VIRTUAL_ENV", "CONDA_PREFIX")
# A client of a scheduler may be linked to libraries that only this finds; the script unsets it.
_OF_CLIENTS = "LD_LIBRARY_PATH"
# No variable that a file declares may be one of these: what is imported, loaded or counted is said elsewhere.
_REFUSED = (
    "PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "PYTHONNOUSERSITE", "PYTHONSTARTUP", "PYTHONPLATLIBDIR",
    "PYTHONEXECUTABLE", "PYTHONPYCACHEPREFIX", "PYTHONSAFEPATH", "__PYVENV_LAUNCHER__", "EBPYTHONPREFIXES",
    "VIRTUAL_ENV*", "CONDA_*", "LD_PRELOAD", "LD_AUDIT", "RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK",
    "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "ROLE_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
    "TORCHELASTIC_*", "OMPI_COMM_WORLD_*", "PMI_*", "PMIX_*",
)  # fmt: skip


# Of the variables that do not reach jobs, those by which somebody may have meant to bring code of his own.
_TOLD = ("PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "LD_PRELOAD", "LD_AUDIT")
_LEAVE_OUT = """left_out=''
leave_out() {  # values may be secret: all are kept back but those of two paths
  local name
  for name in "$@"; do
    case $name=${!name:-} in
      "$name=" | PYTHONNOUSERSITE=1) ;;  # not set, or set below, too
      PYTHONPATH=* | PYTHONHOME=*) left_out+=" $name=${!name}" ;;
      *) left_out+=" $name" ;;
    esac
    unset -v "$name"
  done
}"""


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what a job may have of a shell's variables; an activated environment leaves ``PATH``."""
    names = [name for kind in KINDS for name in kind.names]
    kept = {name: value for name, value in environ.items() if _is_module(name) or not _among(name, names)}
    folders = [f"{environ[name]}/bin" for name in _ACTIVATED if environ.get(name)]
    if folders and "PATH" in kept:
        kept["PATH"] = ":".join(folder for folder in kept["PATH"].split(":") if folder not in folders)
    return kept


def of_client(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables for a scheduler's own commands, which hand them on to the job's script."""
    libraries = {_OF_CLIENTS: environ[_OF_CLIENTS]} if _OF_CLIENTS in environ else {}
    return {**inherited(environ), **libraries}


def after_modules(environ: Mapping[str, str]) -> dict[str, str]:
    """Return variables without those that not even a site's modules may set."""
    names = [name for kind in KINDS if not kind.site for name in kind.names]
    return {name: value for name, value in environ.items() if not _among(name, names)}


def refused(name: str) -> bool:
    """Tell whether no file may declare a variable of this name."""
    return _among(name, _REFUSED)


def unset_shell() -> str:
    """Return shell text that begins a script: it unsets what reached it of the submitting shell."""
    return "\n".join(_lines("unset -v", (name for kind in KINDS if not kind.node for name in kind.names)))


def unset_site() -> str:
    """Return shell text for after the site's setup lines and modules: it unsets what not even they may set,
    and puts the names into ``left_out``, with the values of Python's paths."""
    lines = _lines("leave_out", (name for kind in KINDS if not kind.site for name in kind.names))
    return "\n".join([_LEAVE_OUT, *lines, "export PYTHONNOUSERSITE=1"])


def told(environ: Mapping[str, str]) -> str:
    """Return the variables of a shell that lead to other code and do not reach jobs: ``PYTHONPATH=/x``."""
    return ", ".join(f"{name}={environ[name]}" for name in _TOLD if environ.get(name))


def _lines(command: str, names: Iterable[str]) -> Iterator[str]:
    text = " ".join(f'"${{!{name[:-1]}@}}"' if name.endswith("*") else name for name in names)
    yield from (f"{command} {line}" for line in textwrap.wrap(text, 100, break_long_words=False))


def _is_module(name: str) -> bool:
    return any(name in (f"BASH_FUNC_{word}%%", f"BASH_FUNC_{word}()") for word in _FUNCTIONS)


def _among(name: str, names: Iterable[str]) -> bool:
    return any(name.startswith(n[:-1]) if n.endswith("*") else name == n for n in names)
