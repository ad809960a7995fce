"""The errors of GPUs, their drivers and libraries, each with its class.

Programs: CUDA runtime's cudaError_t and driver's CUresult, cuBLAS's and cuDNN's status types, NVML's
nvmlReturn_t, NVIDIA's list of Xid errors, ROCm's hipError_t, CANN's error codes. What is not listed is the
program's fault, and fails alike on every node: an invalid argument, an illegal address, a device that it was
not given.
"""

from __future__ import annotations

from ddqjobs.planning.known.cause import Cause, Weight, cause, phrases
from ddqjobs.spec.model import FailureClass as F

# cudaError_t: names, and texts of cudaGetErrorString. Of a value both forms are written by programs.
_MEMORY = r"cudaErrorMemoryAllocation\b|CUDA_ERROR_OUT_OF_MEMORY|hipErrorOutOfMemory"
_UNFIT = phrases("""
    cudaErrorInsufficientDriver
    cudaErrorStubLibrary
    cudaErrorCallRequiresNewerDriver
    cudaErrorInvalidDeviceFunction
    cudaErrorInvalidKernelImage
    cudaErrorNoKernelImageForDevice
    cudaErrorInvalidPtx
    cudaErrorUnsupportedPtxVersion
    cudaErrorJitCompil
    cudaErrorSharedObject
    cudaErrorSymbolNotFound
    cudaErrorCompatNotSupportedOnDevice
    cudaErrorCdpVersionMismatch
    cudaErrorUnsupportedDevSideSync
    CUDA_ERROR_NO_BINARY_FOR_GPU
    CUDA_ERROR_INVALID_IMAGE
    CUDA_ERROR_INVALID_PTX
    CUDA_ERROR_UNSUPPORTED_PTX_VERSION
    CUDA_ERROR_JIT_COMPILER_NOT_FOUND
    CUDA_ERROR_SHARED_OBJECT
    CUDA_ERROR_STUB_LIBRARY
    CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE
    hipErrorNoBinaryForGpu
    hipErrorInvalidDeviceFunction
    hipErrorSharedObject
    hipErrorInsufficientDriver
    driver version is insufficient
    CUDA driver is a stub library
    requires newer version driver
    requires a newer version
    CUDA error: invalid device function
    HIP error: invalid device function
    HIP error: shared object initialization failed
    kernel image is invalid
    no kernel image is available
    a PTX JIT compilation failed
    PTX was compiled with an unsupported
    PTX JIT compiler library not found
    PTX JIT compilation was disabled
    shared object symbol not found
    shared object initialization failed
    CUDA error: named symbol not found
    forward compatibility was attempted
    compiled with different CUDA
    NVIDIA driver on your system is too old
    Please update your GPU driver
    please update your driver
    not compiled with CUDA
    not compiled with GPU
    CUDA Driver version found is
    is not compatible with the current PyTorch installation
    CUDA driver version is
    detected CUDA version
    """) + (
    r"|(?:CUBLAS|CUDNN|CUSPARSE|CUSOLVER)_STATUS_(?:ARCH_MISMATCH|LICENSE_ERROR|\w*VERSION_MISMATCH|"
    r"SUBLIBRARY_\w+|RUNTIME_PREREQUISITE_MISSING)|CUDNN_STATUS_NOT_INITIALIZED|"
    r"(?:version incompatib|incompatib\w+ version)\w*.*cuDNN|cuDNN version incompatib|"
    r"[Cc]u[Dd][Nn][Nn]\w*: .*version"
    r"|nvrtc: error|NVRTC_ERROR|ptxas (?:fatal|error)|PTXASError|nvJitLink error|nvcc fatal|"
    r"requirement error: unsatisfied condition: "
)
_LOST = phrases("""
    cudaErrorNoDevice
    cudaErrorDevicesUnavailable
    cudaErrorDeviceNotLicensed
    cudaErrorECCUncorrectable
    cudaErrorNvlinkUncorrectable
    cudaErrorHardwareStackError
    cudaErrorLaunchFailure
    cudaErrorLaunchTimeout
    cudaErrorSystemNotReady
    cudaErrorSystemDriverMismatch
    cudaErrorOperatingSystem
    cudaErrorMps
    cudaErrorExternalDevice
    cudaErrorContained
    cudaErrorUnknown
    CUDA_ERROR_NO_DEVICE
    CUDA_ERROR_DEVICE_UNAVAILABLE
    CUDA_ERROR_ECC_UNCORRECTABLE
    CUDA_ERROR_NVLINK_UNCORRECTABLE
    CUDA_ERROR_HARDWARE_STACK_ERROR
    CUDA_ERROR_LAUNCH_FAILED
    CUDA_ERROR_LAUNCH_TIMEOUT
    CUDA_ERROR_SYSTEM_NOT_READY
    CUDA_ERROR_SYSTEM_DRIVER_MISMATCH
    CUDA_ERROR_OPERATING_SYSTEM
    CUDA_ERROR_MPS
    CUDA_ERROR_EXTERNAL_DEVICE
    CUDA_ERROR_CONTAINED
    CUDA_ERROR_UNKNOWN
    no CUDA-capable device
    busy or unavailable
    device doesn't have valid Grid license
    uncorrectable ECC
    uncorrectable NVLink
    hardware stack error
    or a hardware error
    unspecified launch failure
    the launch timed out and was terminated
    system not yet initialized
    system has unsupported display driver
    OS call failed or operation not supported
    the MPS server
    the MPS client
    MPS control daemon
    or MPS
    entity outside of CUDA
    needs a reset
    peer access is not supported
    CUDA error: unknown error
    CUDA unknown error
    unknown CUDA error
    CUDA driver initialization failed
    hipErrorNoDevice
    hipErrorECCNotCorrectable
    hipErrorLaunchFailure
    hipErrorUnknown
    no ROCm-capable device
    HIP error: unspecified launch failure
    HSA_STATUS_ERROR_HARDWARE
    HW Exception by GPU
    """)

# What the program asked for: of these a GPU and its node are not guilty.
_ASKED = phrases("""
    an illegal memory access was encountered
    an illegal instruction was encountered
    device-side assert triggered
    misaligned address
    invalid program counter
    operation not supported on global/shared address space
    too many resources requested for launch
    CUDA error: invalid
    CUDA error: initialization error
    CUDA error: operation not
    CUDA error: peer access has not been enabled
    CUDA error: peer access is already enabled
    CUDA error: dependency created on uncaptured work
    CUDA error: capturing stream
    CUDA error: too many blocks in cooperative launch
    cudaErrorIllegalAddress
    cudaErrorIllegalInstruction
    cudaErrorAssert
    cudaErrorMisalignedAddress
    cudaErrorInvalid
    CUDA_ERROR_ILLEGAL
    CUDA_ERROR_ASSERT
    CUDA_ERROR_INVALID
    CUDA_ERROR_MISALIGNED_ADDRESS
    CUBLAS_STATUS_INVALID_VALUE
    CUBLAS_STATUS_EXECUTION_FAILED
    CUBLAS_STATUS_INTERNAL_ERROR
    CUBLAS_STATUS_NOT_SUPPORTED
    CUDNN_STATUS_BAD_PARAM
    CUDNN_STATUS_NOT_SUPPORTED
    CUDNN_STATUS_EXECUTION_FAILED
    HIP error: invalid
    HIP error: an illegal
    Memory access fault by GPU
    """)

GPUS: tuple[Cause, ...] = (
    cause(
        F.OUT_OF_MEMORY,
        "GPU memory",
        # PyTorch's allocators name the kind of device: CUDA, HIP, NPU, MLU, XPU, MPS backend.
        r"\b(?!CPU )[A-Z]{2,4}(?: backend)? out of memory|(?:CUDA|HIP|driver|runtime) error: out of memory",
        r"[Cc]uda (?:failure|error|Error) ?\d* ?[:\"']+ ?out of memory|\bOutOfMemoryError\b|" + _MEMORY,
        r"STATUS_(?:\w+_)?ALLOC(?:ATION)?_FAILED|CUBLAS_STATUS_NOT_INITIALIZED|Unable to find a valid cuDNN",
        r"[Ff]ailed to CUDA (?:calloc|malloc)|GET was unable to find an engine|cuda runtime error \(2\)",
        r"HSA_STATUS_ERROR_OUT_OF_RESOURCES|EL0004|MPS backend out of memory|RESOURCE_EXHAUSTED|\b207001\b",
        r"CUFFT_ALLOC_FAILED|[Cc]ould not allocate .*\bGPU memory|GPU memory (?:is )?(?:full|exhausted)",
    ),
    cause(F.ENVIRONMENT, "the driver or the GPU does not fit the environment", _UNFIT),
    # A GPU or its driver tells of itself.
    cause(
        F.NODE,
        "",
        r"fallen off the bus|GPU is lost|GPU requires reset|[Uu]nable to determine the device handle|"
        r"Driver/library version mismatch|driver/library version mismatch|"
        r"nvml error|NVML (?:Shared Library Not Found|error)|NVMLError|"
        r"Failed to initialize NVML|Failed to open libnvidia-ml|"
        r"nvidia-container-cli: (?:initialization|device|mount|detection) error|"
        # Xid: those that a program causes (13, 31, 43, 45, 68, 69) tell nothing of the node.
        r"\bXid\b(?! ?\([^)]*\): (?:13|31|43|45|68|69)\b)(?! (?:13|31|43|45|68|69)\b)|SXid|"
        r"row.?remapp\w+ (?:failure|failed)|(?:double|multi)[- ]bit ECC|NVSwitch fatal|"
        r"fabric ?manager.*(?:error|fail)",
        weight=Weight.SURE,
    ),
    cause(F.NODE, "", _LOST),
    cause(F.CODE, "", _ASKED),
    cause(
        F.NODE,
        "no GPU on the node",
        r"Found no NVIDIA driver|No CUDA GPUs are available|CUDA is not available|No devices were found|"
        r"couldn't communicate with the NVIDIA driver|No HIP GPUs|no (?:usable )?GPUs? (?:is |are |were )?"
        r"(?:found|available|detected|visible)|torch\.cuda\.is_available\(\) is False|"
        r"No supported gpu backend found|no NVIDIA GPU device is present|No visible GPU|"
        r"could not select device driver|Could not find any nv files|libcuda\.so(?:\.1)?: cannot open|"
        r"CUDA (?:device|GPU)s? (?:not|unavailable)|requires a (?:CUDA|GPU)",
    ),
    # Ascend: device, driver or HBM.
    cause(
        F.NODE,
        "",
        r"\b(?:507(?:010|011|012|013|014|016|017|021|022|023|024|027|053|054)|107019|ERR99999 .*device)\b|"
        r"dcmi (?:model|module) initialized failed|drv(?:Ret|Init) ?(?:error|fail)|E39999|HBM.*(?:ECC|"
        r"error)|"
        r"device task abort|\bUCE\b",
    ),
)
