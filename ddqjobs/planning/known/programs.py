"""Messages of shells, loaders of libraries, modules, conda, containers and compilers.

Programs: bash's and glibc's messages (elf/dl-*.c), Lmod and Environment Modules, conda, Apptainer, Enroot and
Pyxis, runc and Docker, PyTorch's builder of extensions, Triton.
"""

from __future__ import annotations

from ddqjobs.planning.known.cause import Cause, Weight, cause
from ddqjobs.spec.model import FailureClass as F

NO_NETWORK = "no network on the node, bring weights before (`ddqjobs data weights`)"

# Before the errors of files, whose words they share.
PROGRAMS: tuple[Cause, ...] = (
    cause(
        F.ENVIRONMENT,
        "",
        # the loader of libraries
        r"cannot open shared object|undefined symbol|symbol lookup error|relocation error|wrong ELF class|"
        r"invalid ELF header|ELF (?:file|load)\b.*(?:invalid|not properly)|"
        r"failed to map segment from shared object|"
        r"in static TLS block|version `?(?:GLIBC|GLIBCXX|CXXABI|OPENSSL|CURL|GCC|GOMP|"
        r"OMP)\w*[\d.]+'? not found|"
        r"no version information available|[Cc]annot load lib\w+|[Cc]ould not load (?:dynamic )?library|"
        r"Error loading \S+\.so|"
        r"FATAL: kernel too old|cannot enable executable stack|file too short|OMP: Error #15\b|"
        r"MKL FATAL ERROR|"
        r"[Ll]ibrary not loaded|libmkl|Intel oneMKL (?:FATAL )?ERROR",
        # shells
        r": command not found|: not found$|bad interpreter|cannot execute(?: binary file|"
        r": required file not found)|"
        r"(?:bash|sh|zsh|line \d+): .*(?:/bin/|python|conda|activate|setup|profile|"
        r"\.bashrc)\S*: No such file or directory|"
        r"(?:env|nice|time|timeout|srun|sudo|exec|nohup): .*: No such file or directory|Illegal instruction|"
        r"execvp?(?:\(\))?: .*No such file|[Ff]ailed to (?:exec|run|find) .*(?:executable|python)|"
        r"executable file not found|"
        r"an executable for the specified executable|binary .*not found in (?:\$)?PATH",
        r"No such file or directory: '(?:nvcc|gcc|g\+\+|c\+\+|cc|ninja|git|ffmpeg|make|cmake|ldconfig|"
        r"which|nvidia-smi|"
        r"srun|scontrol|mpirun|wget|curl|unzip|tar)'",
        # modules, conda, virtual environments, pip
        r"Lmod has detected the following error|module\(s\) are unknown|[Uu]nable to locate a modulefile|"
        r"ModuleCmd_\w+\.c|The following module|(?:ERROR|error): .*modulefile|CondaError|CondaHTTPError|"
        r"[Ee]nvironmentNameNotFound|EnvironmentLocationNotFound|Could not find conda environment|"
        r"NoBaseEnvironmentError|"
        r"conda init|critical libmamba|spack.*(?:Error|error)|Spec .* matches no installed|"
        r"No matching distribution found|Could not find a version that satisfies|ResolutionImpossible|"
        r"DistributionNotFound|VersionConflict|ContextualVersionConflict|PackageNotFoundError|"
        r"externally-managed|"
        r"No Python at|[Pp]ython(?:3)?(?: home)? .*not found|init_fs_encoding|"
        r"Could not find platform independent",
        # containers
        r"FATAL: +(?:container creation failed|could not open image|[Uu]nable to (?:handle|build|pull|open)|"
        r"[Ww]hile (?:making|extracting|loading|handling|performing|pulling)|"
        r"\"?\S+\"?: executable file not found)|"
        r"[Uu]nknown image format|FATAL: +image|image .*(?:not found|does not exist|is not in an allowed)|"
        r"manifest (?:unknown|for)|pull access denied|[Uu]nable to find image|toomanyrequests|"
        r"ImagePullBackOff|ErrImagePull|"
        r"OCI runtime (?:create|exec)|CreateContainerError|failed to (?:import|pull|load) (?:docker |"
        r"container )?image|"
        r"invalid reference format|enroot-?\w*: .*(?:failed|No such|not)|"
        r"\[ERROR\] (?:No such file or directory|Could not|File)\b.*sqsh",
        # compilers
        r"Error building extension|[Nn]inja is required|CUDA_HOME environment variable is not set|"
        r"[Ff]ailed to find (?:C|CUDA) compiler|Cannot find (?:a working triton|CUDA|nvcc|CUDNN)|"
        r"CppCompileError|"
        r"unsupported GNU version|fatal error: \S+\.h(?:pp)?: No such file|\bcollect2: error|"
        r"ld: cannot find|"
        r"unable to execute '?\S*(?:gcc|g\+\+|nvcc|cc|x86_64)|error: command '\S*(?:gcc|g\+\+|nvcc|"
        r"cc)\S*' failed|"
        r"No CUDA toolset found|Torch not compiled|c\+\+: error|nvcc\S*: (?:No such|not found)|"
        r"InvalidCxxCompiler|"
        r"Python\.h",
    ),
    cause(
        F.NODE,
        "",
        r"[Cc]annot connect to the Docker daemon|no loop devices available|"
        r"could not attach image file to loop|"
        r"[Ff]ailed to (?:mount|create) (?:squashfs|overlay|user namespace|image driver)|"
        r"squashfuse\w* .*(?:failed|error)|"
        r"user namespace(?:s)? (?:disabled|are not)|containerd.*(?:deadline|unavailable)",
    ),
    cause(
        F.STORAGE,
        "no room on a disk, free some",
        # torch.save's, cut short; HDF5's, SQLite's, lmdb's.
        r"unexpected pos \d+ vs \d+|\d+ requested and \d+ written|PytorchStreamWriter failed|"
        r"write\(\): fd \d+ failed|"
        r"MapFullError|MDB_MAP_FULL|database or disk is full|"
        r"(?:not enough|insufficient|no|out of)(?: free)? (?:disk )?space|inode.*(?:exhaust|full|limit)|"
        r"disk (?:is )?full",
        weight=Weight.FIRM,
    ),
    cause(
        F.STORAGE,
        "a file system failed",
        r"disk I/O error|database is locked|[Uu]nable to (?:create|lock) file|unable to flush file|"
        r"file write failed|"
        r"[Uu]nable to synchronously create file|sqlite3\.(?:Operational|Database)Error|lmdb\.(?:Lock|"
        r"Disk|ReadonlyE)\w*|"
        r"EnforceNotMet.*write|Parent directory \S* (?:does not exist|is not writ)|not writ(?:e?able)|"
        r"cannot create (?:directory|regular file|temp)|"
        r"(?:failed|unable|cannot|could not) to (?:write|save) (?:checkpoint|model|file|state)",
    ),
)

DOWNLOADS: tuple[Cause, ...] = (
    # Before the processes that do not meet, whose words they share.
    cause(
        F.DATA,
        NO_NETWORK,
        r"LocalEntryNotFoundError|OfflineModeIsEnabled|HfHubHTTPError|RepositoryNotFoundError|"
        r"GatedRepoError|"
        r"huggingface_hub\.\S*[Ee]rror|botocore\.exceptions|boto3\.exceptions|EndpointConnectionError|"
        r"NoCredentialsError|"
        r"requests\.exceptions|urllib3\.exceptions|http\.client\.|httpx\.|httpcore\.|aiohttp\.|gcsfs\.|"
        r"URLError|HTTPError|urlopen error|Max retries exceeded|[Cc]ouldn't connect to 'https?:|"
        r"ssl\.SSL\w*|SSLError|CERTIFICATE_VERIFY_FAILED|wandb\.\S*(?:CommError|Error)|"
        r"HTTPSConnectionPool|ProxyError|"
        r"(?:curl|wget): .*|ClientError: An error occurred|IncompleteRead|RemoteDisconnected|"
        r"NewConnectionError|"
        r"ConnectTimeout|ReadTimeout|[Cc]ould not resolve host:|unable to resolve host address|"
        r"[Uu]nable to (?:access|download|reach|connect to) '?https?:|(?:[Ff]ailed|"
        r"[Ee]rror)\w* (?:to )?(?:connect\w*|download\w*|reach\w*)\b.*https?:|"
        r"HTTP (?:Error|error|status)?:? ?\(?[45]\d\d|[45]\d\d (?:Client|Server) Error|invalid hash value|"
        r"We couldn't connect to",
    ),
)
NAMES: tuple[Cause, ...] = (
    # A server's name that is not known: of other ranks' it has been said before.
    cause(F.DATA, NO_NETWORK, r"name resolution|Name or service not known|nodename nor servname|gaierror"),
)
