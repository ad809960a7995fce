"""A shell whose variables steer whatever reads them, and a clean one."""

from __future__ import annotations

CLEAN = {"PATH": "/usr/bin:/bin", "HOME": "/root", "LANG": "C.UTF-8", "MODULEPATH": "/modules", "MINE": "a b"}
# What CPython, the loader, torch, NCCL, Slurm, uv, conda, OpenMP and MKL read. Values that ddqjobs itself
# survives: it is started by such a shell too.
HOSTILE = {
    "PATH": "/poison/venv/bin:/poison/conda/bin:/usr/bin:/bin",
    "PYTHONPATH": "/poison", "PYTHONUSERBASE": "/poison/user", "PYTHONSTARTUP": "/poison/start.py",
    "PYTHONOPTIMIZE": "2", "PYTHONHASHSEED": "7", "PYTHONWARNINGS": "error::ImportWarning",
    "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": "/tmp/poison", "PYTHONNODEBUGRANGES": "1",
    "PYTHONDEVMODE": "", "PYTHONINSPECT": "", "PYTHONUTF8": "1", "PYTHONINTMAXSTRDIGITS": "0",
    "PYTHONMALLOC": "malloc", "PYTHONPLATLIBDIR": "lib", "PYTHONBREAKPOINT": "0", "PYTHON_GIL": "",
    "EBPYTHONPREFIXES": "/poison",
    "VIRTUAL_ENV": "/poison/venv", "VIRTUAL_ENV_PROMPT": "poison", "CONDA_PREFIX": "/poison/conda",
    "CONDA_DEFAULT_ENV": "poison", "CONDA_EXE": "/poison/conda/bin/conda", "CONDA_SHLVL": "2",
    "_CE_CONDA": "x",
    "MAMBA_ROOT_PREFIX": "/poison", "PYENV_VERSION": "2.7", "PIPENV_ACTIVE": "1",
    "UV_PYTHON": "/poison/python", "UV_PROJECT_ENVIRONMENT": "/poison", "UV_SYSTEM_PYTHON": "1",
    "RANK": "3", "LOCAL_RANK": "3", "GROUP_RANK": "1", "ROLE_RANK": "1", "WORLD_SIZE": "8",
    "LOCAL_WORLD_SIZE": "8", "NODE_RANK": "1", "MASTER_ADDR": "poison", "MASTER_PORT": "1", "NNODES": "4",
    "TORCHELASTIC_RUN_ID": "x", "TORCHELASTIC_USE_AGENT_STORE": "True", "PET_NNODES": "4",
    "PET_MAX_RESTARTS": "9", "OMPI_COMM_WORLD_RANK": "3", "PMI_RANK": "3", "PMIX_RANK": "3",
    "LD_PRELOAD": "", "LD_AUDIT": "", "LD_LIBRARY_PATH": "/poison", "LD_BIND_NOW": "1", "GLIBC_TUNABLES": "",
    "MALLOC_ARENA_MAX": "1", "APPTAINERENV_PYTHONPATH": "/poison", "SINGULARITYENV_LD_PRELOAD": "/poison.so",
    "LOADEDMODULES": "poison/1", "_LMFILES_": "/poison/1", "__LMOD_REF_COUNT_PATH": "/poison:1",
    "TORCH_HOME": "/poison", "TORCH_LOGS": "all", "TORCH_NUM_THREADS": "9",
    "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1", "PYTORCH_JIT": "0", "PYTORCH_CUDA_ALLOC_CONF": "x:1",
    "TRITON_INTERPRET": "1", "ATEN_CPU_CAPABILITY": "default", "NCCL_ALGO": "Tree",
    "NCCL_COMM_ID": "poison:1",
    "GLOO_SOCKET_IFNAME": "poison0", "CUBLAS_WORKSPACE_CONFIG": ":0:0", "NVIDIA_TF32_OVERRIDE": "1",
    "CUDA_LAUNCH_BLOCKING": "1", "CUDA_INJECTION64_PATH": "/poison.so", "CUDA_VISIBLE_DEVICES": "7",
    "OMP_NUM_THREADS": "9", "OMP_SCHEDULE": "dynamic", "OMP_PROC_BIND": "true", "GOMP_CPU_AFFINITY": "0",
    "KMP_AFFINITY": "compact", "MKL_NUM_THREADS": "9", "MKL_CBWR": "COMPATIBLE",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "DNNL_MAX_CPU_ISA": "SSE41", "ONEDNN_VERBOSE": "1",
    "OPENBLAS_NUM_THREADS": "9", "OPENBLAS_CORETYPE": "Prescott", "NPY_DISABLE_CPU_FEATURES": "AVX2",
    "NUMEXPR_MAX_THREADS": "1", "CDPATH": "/poison", "GLOBIGNORE": "*", "FLEXIBLAS": "poison",
    "DISABLE_ADDMM_CUDA_LT": "1", "MMDET_DATASETS": "/poison", "MMENGINE_HOME": "/poison",
    "BASH_FUNC_python%%": "() { false; }", "BASH_FUNC_srun%%": "() { false; }",
    # Of a job that the shell is part of.
    "SLURM_JOB_ID": "999999", "SLURM_JOB_NODELIST": "poison", "SLURM_PROCID": "3", "SLURM_LOCALID": "3",
    "SLURM_NTASKS": "8", "SLURM_NPROCS": "8", "SLURM_NNODES": "4", "SLURM_NODEID": "77",
    "SLURM_STEP_ID": "77", "SLURM_TASKS_PER_NODE": "8", "SLURM_CPU_BIND": "mask_cpu:0x1",
    "SLURM_CPUS_PER_TASK": "99", "SLURM_EXPORT_ENV": "poison", "SRUN_CPUS_PER_TASK": "99",
}  # fmt: skip
# What commands of Slurm read, and jobs do not.
COMMANDS = {
    "SBATCH_PARTITION": "poison", "SBATCH_TIMELIMIT": "1", "SBATCH_EXPORT": "NONE", "SBATCH_WAIT": "1",
    "SBATCH_QOS": "poison", "SBATCH_IMMEDIATE": "1", "SBATCH_NO_REQUEUE": "1", "SQUEUE_FORMAT": "%i",
    "SQUEUE_STATES": "COMPLETED", "SQUEUE_USERS": "poison", "SACCT_FORMAT": "JobID",
    "SLURM_CLUSTERS": "poison", "SLURM_TIME_FORMAT": "relative", "SCANCEL_STATE": "PENDING",
}  # fmt: skip
