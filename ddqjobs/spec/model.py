"""The words of the project as frozen data. Nothing here reads, writes or decides anything.

Experiment and site files have their own types in :mod:`ddqjobs.spec.experiment` and :mod:`ddqjobs.spec.site`;
what is here is what they become and what the ledger, the evidence and the plan speak of.
"""

from __future__ import annotations

from enum import Enum

import msgspec

from ddqjobs.base.frozen import Frozen
from ddqjobs.spec.sections import Section

SEEDS_APART = 1000  # seeds nearer to each other than this may share the streams of their workers
SEEDS_OF_TEST = 3  # on each side: with fewer a variance says next to nothing, and equivalence is not tested


class TaskKind(str, Enum):
    """The kinds of work of a run; the kind decides which product it must leave."""

    PREPARE = "prepare"  # makes inputs of the experiment: a data set, a released checkpoint, an initial state
    CONVERT = "convert"  # checkpoint of one code -> checkpoint of another, every key accounted for
    TEST = "test"  # checkpoint -> metrics and predictions
    TRAIN = "train"  # data -> checkpoint, metrics of its last validation, loss curve
    ALIGN = "align"  # two artifacts -> their differences
    UNITTEST = "unittest"  # the code's own tests -> counts
    SMOKE = "smoke"  # anything that must merely run


class Status(str, Enum):
    """A run's place in the plan."""

    DONE = "done"
    ACTIVE = "active"
    ELIGIBLE = "eligible"
    WAITING = "waiting"
    FAILED = "failed"


class JobState(str, Enum):
    """The states of a job, in our words. ``UNKNOWN`` is an answer too, and changes nothing."""

    QUEUED = "queued"
    RUNNING = "running"
    HELD = "held"  # in the queue, and not to be started until it is released
    STOPPED = "stopped"  # suspended: alive, not advancing
    ENDED = "ended"  # over, however it went: evidence decides how
    UNKNOWN = "unknown"


IN_QUEUE = (JobState.QUEUED, JobState.HELD, JobState.RUNNING, JobState.STOPPED)  # the scheduler has it


class FailureClass(str, Enum):
    """The causes of a run's failure. Each class has its own retry budget
    (:data:`ddqjobs.planning.retries.BUDGETS`)."""

    PREEMPTED = "preempted"
    TIMEOUT = "timeout"
    NODE = "node"
    NETWORK = "network"  # processes that do not meet: a port that is taken, a rendezvous
    LIMIT = "limit"  # of a node or user: shared memory, open files, a loader's worker
    STORAGE = "storage"  # the disk of the results: no room, no right to write, a stale handle
    OUT_OF_MEMORY = "out-of-memory"
    ENVIRONMENT = "environment"
    DATA = "data"
    CODE = "code"
    HANG = "hang"
    DIVERGED = "diverged"
    DEPENDENCY = "dependency"
    CANCELLED = "cancelled"
    NO_PRODUCT = "no product"
    UNKNOWN = "unknown"


class Resources(Frozen, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The resources that one run asks of its nodes."""

    nodes: int = 1
    gpus: int = 0  # per node
    cpus: int = 0  # per node; 0 leaves it to the site
    memory_mb: int = 0  # per node; 0 leaves it to the site
    time_s: int = 3600  # wall clock
    # Scheduler -> what it is told beyond that, as its section says it.
    sections: dict[str, Section] = msgspec.field(default_factory=dict)

    def __hash__(self) -> int:  # a dictionary has none; what is equal has equal numbers
        return hash((self.nodes, self.gpus, self.cpus, self.memory_mb, self.time_s))


class Input(Frozen, frozen=True, kw_only=True):
    """An artifact that a run reads: of an upstream run, or a path that the experiment names."""

    artifact: str
    run: str = ""  # name of the upstream run; empty for a path
    stage: bool = False  # copied to the node's own disk first, where the site says where
    path: str = ""  # may begin with ~ and hold $VARIABLES of the job; otherwise data, never shell
    sha256: str = ""  # of a path's content when the plan was made; empty for a folder and what is not here
    size: int = 0  # of that content
    changed_ns: int = 0  # st_ctime_ns before it was read; 0: it does not tell that content from a later one


class Run(Frozen, frozen=True, kw_only=True):
    """One cell of the matrix. ``name`` is readable and unique in the experiment; ``digest`` covers
    everything that decides the result."""

    name: str
    experiment: str
    task: str  # the task's name in the experiment file
    kind: TaskKind
    phase: str = ""
    model: str = ""
    implementation: str = ""
    variant: str = "default"
    seed: int | None = None
    deterministic: bool = False
    code: str = ""
    environment: str = ""
    command: tuple[str, ...] = ()
    options: tuple[str, ...] = ()  # key=value words for the code's option flag
    config: str = ""
    workdir: str = ""  # where the command runs; empty means the code snapshot
    launcher: str = "plain"
    variables: tuple[tuple[str, str], ...] = ()
    inputs: tuple[tuple[str, Input], ...] = ()
    products: tuple[tuple[str, str], ...] = ()  # artifact -> glob below the work_dir
    tolerances: tuple[tuple[str, float], ...] = ()
    resources: Resources = Resources()
    optional: bool = False
    metric: str = ""  # the figure of its log that its model is judged by, where that is not box AP
    comparable: bool = True  # whether the model's reference AP holds for this variant
    grid: tuple[tuple[str, bool | int | float | str | None], ...] = ()  # parameters: short key -> value
    hours: float | None = None  # declared wall-clock estimate
    digest: str = ""

    @property
    def upstream(self) -> tuple[str, ...]:
        """Names of the runs whose products this one reads, without repeats, in order."""
        return tuple(dict.fromkeys(i.run for _, i in self.inputs if i.run)) if self.inputs else ()

    @property
    def gpu_hours(self) -> float | None:
        """Declared cost in GPU hours; None if the experiment declares no duration."""
        if self.hours is None:
            return None
        return self.hours * self.resources.gpus * self.resources.nodes


WAITS = "waits for a run that it needs"  # begins the detail of a job in the queue; plans know which run


class Observation(Frozen, frozen=True, kw_only=True):
    """The words of the scheduler about one ticket now."""

    state: JobState
    detail: str = ""
    node: str = ""
    failure: FailureClass | None = None  # why it ended, where the scheduler is sure of it
    exit_code: int | None = None  # of the script, where the scheduler knows it
    forgotten: bool = False  # UNKNOWN, and the scheduler did answer: it has no such job
    marks: tuple[str, ...] = ()  # words one of which is its submission's token; none where it shows no words

    twins: tuple[str, ...] = ()  # further jobs that the same submission made for the same element

    def may_be_of(self, token: str) -> bool:
        """Return whether the job may be of that submission. (A controller that has lost its state gives
        numbers a second time.)"""
        return not self.marks or token in self.marks


class Ran(Frozen, frozen=True, kw_only=True):
    """The versions and machine that a finished attempt ran with, as its ``proof.json`` says
    (:mod:`ddqjobs.detect.proof`)."""

    environment: str = ""
    locked: bool = False  # False: no lock to compare with
    python: str = ""
    packages: dict[str, str] = msgspec.field(default_factory=dict)  # those that detectors compute with
    cuda: str = ""  # that torch was built for
    processor: str = ""
    instructions: tuple[str, ...] = ()
    threads: str = ""
    gpus: tuple[str, ...] = ()
    driver: str = ""
    code: str = ""  # the snapshot of the task code
    files: int = 0  # from which its programs had loaded modules at their end; 0: not recorded
    foreign: tuple[str, ...] = ()  # the first of those outside of the environment and the code
    instead: tuple[str, ...] = ()  # the first of those of which the environment has its own
    hidden: tuple[str, ...] = ()  # packages of its code tree of which an installed copy was loaded instead
    # Split (train, val, test) -> digest of the contents of its annotations; empty: not recorded.
    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    changed: tuple[str, ...] = ()  # the first loaded files of its environment that were not what was built
    differs: tuple[str, ...] = ()  # places in which attempts of one digest had other configurations
    earlier: tuple[Ran, ...] = ()  # attempts on other machines or versions that a training went on from
    resolved: str = ""  # the digest of its resolved configuration; empty: not recorded


class Adoption(Frozen, frozen=True, kw_only=True):
    """The findings of the examination of an adopted result, and who took it in although something differs."""

    differences: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()  # what could not be compared
    because: str = ""
    by: str = ""
    at: float = 0.0


class Product(Frozen, frozen=True, kw_only=True):
    """The files and figures that a finished attempt left, as its ``product.json`` says. Paths are below the
    run's folder."""

    run: str
    digest: str
    kind: TaskKind
    attempt: int
    ticket: str = ""
    finished_at: float = 0.0  # seconds since the epoch
    # The detector's own keys and scale (bbox_mAP 0.513), or differences.
    metrics: dict[str, float | None] = msgspec.field(default_factory=dict)
    artifacts: dict[str, str] = msgspec.field(default_factory=dict)  # artifact -> path below the run's folder
    sha256: dict[str, str] = msgspec.field(default_factory=dict)  # artifact -> sha256, for single files
    # Findings of the task, shown and never computed with.
    report: dict[str, object] = msgspec.field(default_factory=dict)
    adopted_from: str = ""  # set for results that came from elsewhere
    adoption: Adoption | None = None  # None: not adopted, or by a ddqjobs that did not examine
    ran: Ran | None = None  # None: adopted, or made by a ddqjobs that did not record it


class Attempt(Frozen, frozen=True, kw_only=True):
    """One start of a job on nodes, from ``attempts/<n>/``."""

    number: int
    ticket: str = ""
    host: str = ""
    started_at: float | None = None
    ended_at: float | None = None
    exit_code: int | None = None
    stopped: bool = False  # a stop was asked for: time limit or preemption
    failure: FailureClass | None = None
    marker: FailureClass | None = None  # why it was stopped, where its script expects to be started once more
    note: str = ""


class PlannedRun(Frozen, frozen=True, kw_only=True):
    """A run with its status **and the reason**, in words a user can act on."""

    run: Run
    status: Status
    reason: str
    ticket: str = ""
    job: str = ""
    state: JobState | None = None
    node: str = ""
    attempts: int = 0
    submissions: int = 0  # how often it was submitted
    failure: FailureClass | None = None
    changed: tuple[str, ...] = ()  # parts of the digest that changed since it failed for good
    owner: str = ""  # whose it is, where the view from here proves nothing of its job
    blocked: bool = False  # waits for something that no run of this plan brings
    gone: bool = False  # recorded done, but its product is no longer on disk
    stale: str = ""  # why the done result is no longer of this digest; empty if it is
    # Who declared the done result valid although it is stale or differs from its run, when, and why.
    accepted: str = ""
    notes: tuple[str, ...] = ()
    since: float | None = None

    @property
    def cancelled(self) -> bool:
        """Tell whether the user ended it: it is over without a product, and did not fail."""
        return self.status is Status.FAILED and self.failure is FailureClass.CANCELLED

    @property
    def again(self) -> bool:
        """Tell whether it failed and may be tried again as it is: its class has retries left."""
        return self.status is Status.ELIGIBLE and self.failure is not None

    @property
    def word(self) -> str:
        """Its status as people say it: ``cancelled`` is not ``failed``."""
        return FailureClass.CANCELLED.value if self.cancelled else self.status.value


class Plan(Frozen, frozen=True, kw_only=True):
    """Every run of an experiment, upstream first."""

    experiment: str
    site: str
    runs: tuple[PlannedRun, ...]

    def _repr_html_(self) -> str:
        """Return a table for a notebook."""
        from ddqjobs.base import html  # with what masks secrets, which takes longer than all of this module

        rows = [(planned.run.name, planned.word, planned.reason) for planned in self.runs]
        return html.table(f"{self.experiment} on {self.site}", ("run", "status", "reason"), rows)
