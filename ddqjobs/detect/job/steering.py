"""Tell which variables of an attempt steer its interpreter, loader, libraries and ranks. Standard library
only."""

from __future__ import annotations

from typing import Mapping

# Beginnings of names. A test compares them with what scripts unset (ddqjobs.base.shell_variables).
_TEXT = """
    PATH PYTHON __PYVENV_LAUNCHER__ EBPYTHONPREFIXES
    VIRTUAL_ENV CONDA_ _CONDA_ _CE_CONDA _CE_M MAMBA_ MICROMAMBA_ PYENV_ PIPENV_ PIXI_
    UV_PYTHON UV_PROJECT UV_SYSTEM_PYTHON UV_WORKING_DIRECTORY
    RANK LOCAL_RANK GROUP_RANK ROLE_RANK ROLE_NAME NODE_RANK WORLD_SIZE LOCAL_WORLD_SIZE GROUP_WORLD_SIZE
    ROLE_WORLD_SIZE MASTER_ADDR MASTER_PORT NNODES NPROC_PER_NODE PET_
    OMPI_COMM_WORLD_ OMPI_UNIVERSE_SIZE PMI_ PMIX_ MPI_LOCAL MV2_COMM_WORLD_
    SLURM_PROCID SLURM_LOCALID SLURM_NODEID SLURM_NNODES SLURM_NPROCS SLURM_NTASKS SLURM_TASK SLURM_JOB
    SLURM_STEP SLURM_ARRAY_ SLURM_CPU SLURM_GPU SLURM_MEM_ SLURM_DISTRIBUTION SLURM_EXPORT_ENV SRUN_
    LD_ GLIBC_TUNABLES GCONV_PATH LOCPATH MALLOC_ APPTAINERENV_ SINGULARITYENV_ NVTX_INJECTION
    LOADEDMODULES _LMFILES_
    TORCH PYTORCH_ TRITON_ ATEN_ NCCL_ GLOO_ UCX_ UCC_ TP_SOCKET_IFNAME DISABLE_ADDMM_ NVFUSER_
    CUDA CUBLAS CUDNN NVIDIA_ ROCR_ HIP_ GPU_DEVICE_ORDINAL ZE_AFFINITY_MASK
    OMP_ GOMP_ KMP_ MKL_ DNNL_ ONEDNN_ OPENBLAS_ GOTO_ BLIS_ VECLIB_ NUMEXPR_ NUMBA_ NPY_ OPENCV_ TBB_
    FLEXIBLAS
    MMDET_DATASETS MMENGINE_HOME MMCV_HOME
"""
_NAMES = tuple(_TEXT.split())
_OF_CONTAINERS = ("APPTAINERENV_", "SINGULARITYENV_")  # whatever a container is to have: it may be secret


def recorded(variables: Mapping[str, str]) -> dict[str, str]:
    """Return those variables with their values; of what may be secret the name only."""
    secret = variables.get("DDQJOBS_SECRETS", "").split()
    return {
        name: "***" if name in secret or name.startswith(_OF_CONTAINERS) else value
        for name, value in sorted(variables.items())
        if name.startswith(_NAMES)
    }
