"""Messages of Python's libraries, and the meaning of their exceptions' types without words.

Programs: the exceptions of builtins, pickle, json, zipfile, tarfile, zlib, lzma, xml, h5py, lmdb, numpy,
SciPy, Pillow, OpenCV, PyTorch, safetensors, mmengine, mmcv, pycocotools, detectron2, DeepSpeed.
"""

from __future__ import annotations

import re

from ddqjobs.planning.known.cause import Cause, Weight, cause
from ddqjobs.planning.known.errnos import SHARED_MEMORY
from ddqjobs.planning.known.programs import NO_NETWORK
from ddqjobs.spec.model import FailureClass as F

_KEYS = (
    "area|iscrowd|bbox|segmentation|category_id|image_id|file_name|categories|images|annotations|width|height|"
    "img_path|coco_url|supercategory|keypoints|num_keypoints|info|instances|img_id|ann_id|data_list|metainfo"
)

LIBRARIES: tuple[Cause, ...] = (
    cause(
        F.OUT_OF_MEMORY,
        "host memory",
        r"MemoryError\b|Out Of Memory|can't allocate memory|std::bad_alloc|DefaultCPUAllocator|"
        r"not enough memory|"
        r"Unable to allocate [\d.]+ \w?i?B|Failed to allocate \d+ bytes|Insufficient memory|alloc_cpu\.cpp|"
        r"[Cc]ould not allocate (?:bytes|memory)|malloc of size \d+ failed|CPU out of memory|bad alloc",
    ),
    cause(
        F.DIVERGED,
        "",
        r"(?i:\bloss(?:es|_\w+)?\b.{0,60}\b(?:nan|inf|infinite|infinity|not finite|non-?finite|"
        r"diverge\w*)\b)",
        r"(?i:\b(?:nan|inf|infinite|non-?finite)\b.{0,30}\b(?:loss|losses|gradients?|grad|weights?|"
        r"parameters?|logits|activations)\b)",
        r"(?i:gradients?\b.{0,40}\b(?:nan|inf|non-?finite|not finite|overflow))",
        r"is non-finite|FloatingPointError|(?i:\bNaN or Inf|\binfs? or NaNs?|NaN, infinity|contains NaN|"
        r"NaN values?|returned nan)",
        r"non-?finite (?:values|entries|loss)|float (?:NaN|infinity) to integer|found invalid values:|"
        # SciPy, asked to match queries and objects by costs that are no numbers: before there is a loss.
        r"matrix contains invalid numeric entries|cost matrix is infeasible|"
        r"contains either `inf`, `nan`|[Mm]inimum loss scale|loss scale already at minimum|"
        r"loss scale.*too (?:low|small)|"
        r"boxes1\[:, 2:\] >= boxes1|[Tt]raining (?:has )?diverged|[Mm]odel diverged|[Ll]oss explo",
    ),
    cause(
        F.ENVIRONMENT,
        "",
        r"ModuleNotFoundError|ImportError|\bpkg_resources\.|module '(?:numpy|np|scipy|torch\w*|PIL|cv2|"
        r"mm\w+|distutils|collections|"
        r"pkg_resources|setuptools|inspect|typing|yapf|matplotlib|pycocotools|"
        r"importlib)[\w.]*' has no attribute|"
        r"is used but incompatible|binary incompatibility|Numpy is not available|compiled using NumPy 1|"
        r"numpy\.core\.multiarray failed|module compiled against (?:ABI|API) version|"
        r"was removed in (?:the )?NumPy|np\.\w+` was a deprecated|"
        r"[Ww]eights ?[Oo]nly load failed|WeightsUnpickler error|Unsupported global|"
        r"Couldn't load custom C\+\+ ops|"
        r"incompatible (?:with|versions?|library)|operator torchvision::\w+ does not exist|torchvision::nms|"
        r"requires (?:Python|torch|mm\w+|numpy) ?[<>=~!]|(?:mm\w+|torch\w*|numpy|"
        r"transformers)[<>=~!]=?[\d.]+ is required|"
        r"Please (?:install|upgrade|reinstall|update) |pip install |needs? to be installed|is not installed|"
        r"unsupported pickle protocol|bad magic number in|has not been compiled|'(?:ascii|"
        r"latin-1)' codec can't encode|FormatCode\(\) got an unexpected|MMDetection requires|"
        r"[Nn]ot compiled with|"
        r"EnsureABI|compiled with (?:a )?different|Unsupported operand.*python version|Could not (?:run|"
        r"find) '\S+' with arguments from the '\w+' backend|"
        r"implementation for device \S+ not found|"
        r"Tried to instantiate class .* but it does not exist|[Ll]ocale\.Error|unsupported locale",
    ),
)

DATA: tuple[Cause, ...] = (
    cause(
        F.DATA,
        "an image cannot be decoded (`ddqjobs data verify`)",
        r"libpng error:|Corrupt JPEG data: .*|Premature end of JPEG|libjpeg.*(?:error|corrupt)|"
        r"JPEG datastream contains no image|"
        r"\bimread_\('?.*can't open|imread_: can't open|can't open/read file|Invalid SOS parameters",
        weight=Weight.FIRM,
    ),
    cause(
        F.DATA,
        "an image cannot be read (`ddqjobs data verify`)",
        r"error: \(-215:Assertion failed\) !_?(?:src|img|buf)\.empty\(\)|UnidentifiedImageError|"
        r"cannot identify image file|"
        r"image file is truncated|broken (?:PNG|data stream)|unrecognized data stream|DecompressionBomb|"
        r"truncated (?:jpeg|png|file|image)|"
        r"Decompressed data too large|decoder .* not available|[Ff]ailed to (?:read|load|decode|"
        r"open) (?:the )?image|"
        r"[Ii]mage (?:is )?(?:None|broken|corrupt|not found|missing|empty)|PIL\.\w*Error|imdecode",
    ),
    cause(
        F.DATA,
        "annotations lack a key (`ddqjobs data verify`)",
        rf"^KeyError: (?:.*: )?\W*(?:{_KEYS})\W*$",
    ),
    cause(
        F.DATA,
        "",
        r"JSONDecodeError|Expecting (?:value|property name|',' delimiter|':' delimiter)|Extra data: line|"
        r"Unterminated string|"
        r"UnicodeDecodeError|codec can't decode|BadZipFile|BadGzipFile|tarfile\.\w+Error|zlib\.error|"
        r"LZMAError|zstd\S*Error|"
        r"[Ii]nvalid load key|UnpicklingError|pickle data was truncated|Ran out of input|"
        r"No data left in file|"
        r"Compressed file ended|Not a gzipped file|invalid distance|incorrect (?:header|data) check|"
        r"Bad CRC|CRC (?:check|error)|checksum (?:mismatch|error|failed)|"
        r"PytorchStreamReader failed|failed finding central directory|[Ff]ile might be corrupt|"
        r"corrupt(?:ed)? (?:file|archive|checkpoint|record|data)|"
        r"invalid magic number|unexpected EOF|unexpected end of (?:file|data)|EOF marker|SafetensorError|"
        r"safetensors.*(?:header|[Ii]ncomplete)|HeaderTooLarge|"
        r"Unable to (?:synchronously )?open (?:file|object)|[Cc]an't (?:read data|open file)|"
        r"file signature not found|truncated file|"
        r"lmdb\.\w*Error|MDB_(?:NOTFOUND|CORRUPTED|PAGE_NOTFOUND|INVALID)|ParseError|xml\.\S+Error|"
        r"not well-formed|"
        r"ArrowInvalid|Parquet|csv\.Error|EmptyDataError|ParserError: Error tokenizing|Unknown mat file|"
        r"TFRecord|DataLossError|"
        r"Results do not correspond to|annotation file format|(?:[Aa]nnotations?|[Ll]abels?) .*(?:missing|"
        r"empty|invalid|not found|not exist|corrupt|lack)|"
        r"AssertionError: .*(?:[Aa]nnotation|coco set)|[Ii]nvalid (?:annotation|bbox|box|polygon|"
        r"segmentation|label file)|"
        r"category_id|num_samples should be a positive|(?:[Dd]ata ?set|[Dd]ata loader|"
        r"train_set) (?:.* )?(?:is empty|has no|contains no|not found|does not exist)|"
        r"[Nn]o (?:valid )?(?:images|annotations|samples|labels|data)\b.*(?:found|in)|"
        r"[Ee]mpty (?:data ?set|annotation)|"
        r"[Nn]umber of (?:images|annotations|masks|labels) .*(?:match|differ)|image and (?:mask|label|"
        r"annotation) .*(?:match|differ|size)|"
        r"(?:[Ii]mage|[Mm]ask|[Ii]mg) (?:shape|size) .*(?:match|differ|got)|Expected image shape|"
        r"(?:[Cc]heckpoint|[Ff]ile|[Ii]mage|[Pp]ath|[Ww]eights?|[Dd]irectory|"
        r"[Ff]older) \S*.{0,80}(?:does not exist|doesn't exist|not exist|is not (?:a )?(?:found|"
        r"checkpoint)|not found|cannot be found|could not be found)|"
        r"^(?:Type|Value|Attribute|Assertion)Error: [\"']?\w*Dataset: |"
        r"need at least one array to concatenate|"
        r"[Cc]ould not find (?:file|image|checkpoint|annotation|data)|[Cc]annot find (?:the )?(?:file|"
        r"image|checkpoint|annotation|data)|"
        r"is not a (?:checkpoint|valid (?:zip|image|checkpoint|JSON|file))|InvalidDataError|"
        r"Invalid data found when processing",
    ),
)

# What a program does wrong by itself: before the words that data and environments share with it.
CODE: tuple[Cause, ...] = (
    cause(
        F.CODE,
        "",
        r"is not in the \S+ registry|must contain the key|"
        r"(?<!FormatCode\(\) got an )unexpected keyword argument|"
        r"required positional argument|"
        r"ConfigParsingError|size mismatch for|Missing key\(s\) in state_dict|[Uu]nexpected key\(s\)|"
        r"num_classes|"
        r"^(?:NameError|IndexError|SyntaxError|IndentationError|TabError|UnboundLocalError|RecursionError|"
        r"ZeroDivisionError|argparse\.\w+)\b(?!: (?:broken|not a TIFF))|"
        r"error: (?:unrecognized arguments|argument |the following arguments)|can't open file '[^']*\.py'|"
        r"unbound variable|"
        r"syntax error|out of resource: shared memory|No such file or directory: '?[^']*\.(?:py|sh)'?$|"
        r"[Uu]nknown (?:option|argument|optimizer|key)|yaml\.\S+Error|omegaconf\.\S+|hydra\.errors",
    ),
)

# What a type means by where it was raised: type and words, lines of the traceback, meaning.
PLACES: tuple[tuple[re.Pattern[str], re.Pattern[str], Cause], ...] = (
    (
        re.compile(r"^(?:AttributeError|TypeError|ValueError): .*NoneType"),
        re.compile(r"imread|imfrombytes|LoadImage|loading\.py|Image\.open|cvtColor"),
        cause(F.DATA, "an image cannot be read (`ddqjobs data verify`)", ""),
    ),
    (
        re.compile(r"^(?:FileNotFound|Permission|NotADirectory)Error|^OSError: \[Errno 8\]"),
        re.compile(r"_execute_child|subprocess\.py"),
        cause(F.ENVIRONMENT, "", ""),
    ),
    (
        re.compile(r"^(?:KeyError|ValueError: need at least one array)"),
        re.compile(
            r"pycocotools|datasets/(?:coco|lvis|voc|base_\w+|api_wrappers)|parse_data_info|_parse_ann_info"
        ),
        cause(F.DATA, "annotations lack something (`ddqjobs data verify`)", ""),
    ),
    (
        re.compile(
            r"gaierror|^(?:TimeoutError|ConnectionRefusedError|socket\.timeout|OSError: \[Errno 1[01]\d)"
        ),
        re.compile(r"urllib|http/client|requests/|huggingface_hub|load_state_dict_from_url|download|boto"),
        cause(F.DATA, NO_NETWORK, ""),
    ),
    (
        re.compile(r"gaierror"),
        re.compile(r"torch/distributed|rendezvous|TCPStore|init_process_group|init_dist"),
        cause(F.NETWORK, "the processes did not meet", ""),
    ),
    (
        # semaphores and blocks of multiprocessing are files of /dev/shm
        re.compile(r"^\w*Error: \[Errno (?:2|12|17|28)\]|^\w*Error: .*No space left on device"),
        re.compile(
            r"SemLock|_posixshmem|multiprocessing/(?:heap|synchronize|shared_memory)|_share_\w+cpu|"
            r"_new_shared"
        ),
        cause(F.LIMIT, SHARED_MEMORY, ""),
    ),
    (
        re.compile(r"^(?:Connection(?:Reset|Refused)|EOF|FileNotFound)Error"),
        re.compile(r"reductions\.py|rebuild_storage|resource_sharer|_pin_memory_loop"),
        cause(F.LIMIT, "a loader's worker died, perhaps for want of host memory", ""),
    ),
    (re.compile(r"^AssertionError"), re.compile(r"boxes1\[:, 2:\] >= boxes1"), cause(F.DIVERGED, "", "")),
)

# What the type of an exception tells where nothing else does.
KINDS: tuple[Cause, ...] = (
    cause(
        F.NETWORK,
        "the processes lost each other",
        r"^(?:torch\.distributed\.)?Dist(?:Backend|Network|Store)?Error|^Connection(?:Reset|Refused|Aborted)?Error|"
        r"^BrokenPipeError|"
        r"^TimeoutError|^socket\.timeout|^multiprocessing\.\S*AuthenticationError",
        weight=Weight.WEAK,
    ),
    cause(F.HANG, "a process did not answer", r"^subprocess\.TimeoutExpired", weight=Weight.WEAK),
    cause(
        F.DATA,
        "",
        r"^OSError: (?!\[Errno)|^(?:FileNotFound|IsADirectory|NotADirectory|Permission)Error|^EOFError|"
        r"^h5py\.",
        weight=Weight.WEAK,
    ),
)
