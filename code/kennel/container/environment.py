"""What SageMaker gives to a container: folders, configuration files and variables, read once into one object."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sagemaker_inference import parameters

from kennel.channels import check_channel
from kennel.errors import ContractError

BASE_DIR = parameters.BASE_PATH_ENV  # /opt/ml unless set
TRAINING_MODULE = "SAGEMAKER_TRAINING_MODULE"  # the toolkit's variable for a framework hook (contract A5.7)
LOG_LEVEL = parameters.LOG_LEVEL_ENV  # a number; the training toolkit fails on anything else (contract A5.3)
BIND_TO_PORT = parameters.BIND_TO_PORT_ENV  # contract C1.3, C3.4
DEFAULT_ACCEPT = parameters.DEFAULT_INVOCATIONS_ACCEPT_ENV  # contract C2.1
MAX_PAYLOAD = parameters.MAX_REQUEST_SIZE  # megabytes (contract C2.1)
BATCH = "SAGEMAKER_BATCH"  # "true" in batch transform (contract C4.1)
BATCH_STRATEGY = "SAGEMAKER_BATCH_STRATEGY"  # as the job asks for it, if it does (contract C4.1)
MAX_TRANSFORMS = "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS"  # likewise
PROGRAM = parameters.USER_PROGRAM_ENV  # the user's own file below `code` in the model folder (contract C2.4)
SUBMIT_DIRECTORY = "SAGEMAKER_SUBMIT_DIRECTORY"  # where the SDK has put the user's code (contract C2.3)
CODE_ARTIFACT = "CA_REPOSITORY_ARN"  # of the repository that packages come from (contract C2.4)
URL_HOSTS = "KENNEL_URL_HOSTS"  # from which a server fetches images, with commas between; none unless set
# seconds; the first that is set counts (contract C2.1, C2.2)
SERVER_TIMEOUTS = (
    parameters.MODEL_SERVER_TIMEOUT_SECONDS_ENV,
    parameters.MODEL_SERVER_TIMEOUT_ENV,
    "MODEL_SERVER_TIMEOUT",
)
SERVER_WORKERS = (parameters.MODEL_SERVER_WORKERS_ENV, "MODEL_SERVER_WORKERS")  # processes (contract C2.1, C2.2)
MULTI_MODEL = parameters.MULTI_MODEL_ENV  # "true" where models are loaded and unloaded as they are asked for (C3.1)
MODEL_MEMORY = "KENNEL_MODEL_MEMORY_IN_MB"  # that all loaded models may take; unless set, what the container has
SERVER_FOLDER = "KENNEL_SERVER_FOLDER"  # where the processes of one server meet; `serve` makes it, and sets this
BIND_HOST = "KENNEL_BIND_HOST"  # the address that a server listens on; all of them unless set, as a container must
ENGINE = "KENNEL_ENGINE"  # what runs a served model; chosen by the machine and by what was measured unless set
EXPLAIN = "KENNEL_EXPLAIN"  # "true" where a server should answer with heat maps too; false unless set
REQUEST_LOG = "KENNEL_REQUEST_LOG"  # the share of good requests that a server logs, from 0 to 1; all unless set
METRICS_NAMESPACE = "KENNEL_METRICS_NAMESPACE"  # of CloudWatch, for a server's figures every minute; none unless set
WEIGHTS_DIR = "KENNEL_WEIGHTS"  # pretrained weights that the image brings, one file a backbone
INSTANCE_PRICE = "KENNEL_INSTANCE_PRICE"  # dollars an hour, for the report's estimate of what the job has cost
DEBUG_CONFIG = "SMDEBUG_CONFIG_FILE_PATH"  # smdebug's own variable (contract D2.1)
JOB_NAME = "TRAINING_JOB_NAME"  # set by SageMaker (contract A3.1)
REGION = "AWS_REGION"  # set by SageMaker, or by Kennel's player of it to LOCAL_REGION
LOCAL_REGION = "local"
CACHE_DIR = "KENNEL_CACHE"  # packed images and features; the job's scratch space unless set
IN_CONTAINER = "KENNEL_IN_CONTAINER"  # set in the image: what is installed there is nobody's but the job's
BASE = Path("/opt/ml")  # what SageMaker's own paths begin with, wherever the tree is
TENSORBOARD_CONFIG = "TENSORBOARD_CONFIG_FILE_PATH"  # smdebug's own variable (contract A6.5, D2.6)
CHARTS = "/opt/ml/output/tensorboard"  # where TensorBoard's files go unless the configuration says so (contract A6.5)
TENSORS = "/opt/ml/output/tensors"  # where saved tensors go unless the configuration says so (contract D2.1)


@dataclass(frozen=True)
class Folders:
    """The `/opt/ml` tree (contract A2)."""

    base: Path

    @property
    def config(self) -> Path:
        """Where SageMaker puts its configuration files."""
        return self.base / "input" / "config"

    @property
    def data(self) -> Path:
        """Where each channel is a folder."""
        return self.base / "input" / "data"

    @property
    def model(self) -> Path:
        """What becomes `model.tar.gz`, and where a served model lies."""
        return self.base / "model"

    @property
    def output(self) -> Path:
        """Where the failure file goes."""
        return self.base / "output"

    @property
    def output_data(self) -> Path:
        """What becomes `output.tar.gz`."""
        return self.output / "data"

    @property
    def failure(self) -> Path:
        """The file whose first 1024 characters become the job's FailureReason (contract A1.5)."""
        return self.output / "failure"

    @property
    def debug_config(self) -> Path:
        """The file that says which tensors should be saved; it need not be there (contract D2.1)."""
        return self.config / "debughookconfig.json"

    def place(self, named: str) -> Path:
        """Return where a path lies that SageMaker names, as it does below `/opt/ml`."""
        path = Path(named)
        return self.base / path.relative_to(BASE) if path.is_relative_to(BASE) else path


def folders() -> Folders:
    """Return the tree below `SAGEMAKERBASE_DIR`, or below `/opt/ml`."""
    return Folders(Path(variable(BASE_DIR, "/opt/ml")))


def variable(name: str, default: str) -> str:
    """Return an environment variable; the empty string counts as unset, as SDKs send it so (contract C2.3)."""
    return os.environ.get(name, "").strip() or default


def number_variable(name: str, default: int) -> int:
    """Return an environment variable that should hold a whole number. Raises ContractError when it does not."""
    text = variable(name, str(default))
    try:
        return int(text)
    except ValueError:
        raise ContractError(f"the variable {name} is {text!r}; it should be a whole number") from None


def flag_variable(name: str) -> bool:
    """Return whether an environment variable is `true`; not unless set. Raises ContractError for any other word."""
    text = variable(name, "false")
    if text.lower() not in ("true", "false"):
        raise ContractError(f"the variable {name} is {text!r}; it should be true or false")
    return text.lower() == "true"


def first_number(names: Sequence[str], default: int, least: int) -> int:
    """Return the first of some variables that is set, a whole number. Raises ContractError when it is below `least`."""
    name = next((name for name in names if variable(name, "")), names[0])
    number = number_variable(name, default)
    if number < least:
        raise ContractError(f"the variable {name} is {number}; it should be at least {least}")
    return number


def payload_limit() -> int:
    """Return how many bytes the largest body may have (contract C1.8).

    0 megabytes are batch transform's word for bodies of any size (C4.3); those of asynchronous endpoints, a gigabyte,
    are the largest that there are (C5.1).
    """
    return (number_variable(MAX_PAYLOAD, 100) or 1024) * 2**20


def list_variable(name: str) -> tuple[str, ...]:
    """Return the parts of an environment variable, which has commas between them."""
    return tuple(part.strip() for part in variable(name, "").split(",") if part.strip())


def invocation_seconds() -> int:
    """Return how long a caller waits for an answer at most: nobody is there for a later one.

    A minute (contract C1.7), an hour in batch transform (C4.5); asynchronous endpoints wait as long as their owner says
    (C5.1), who then sets the server's timeout too.
    """
    limit = 3600 if flag_variable(BATCH) else 60
    return max(limit, server_timeout(limit))


def server_timeout(default: int) -> int:
    """Return how many seconds the owner of the endpoint gives an answer."""
    return first_number(SERVER_TIMEOUTS, default, least=1)


def share_variable(name: str, default: float) -> float:
    """Return an environment variable that should hold a share. Raises ContractError when it does not."""
    text = variable(name, str(default))
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ContractError(f"the variable {name} is {text!r}; it should be a number from 0 to 1")
    return share


@dataclass(frozen=True)
class TrainingEnvironment:
    """What a training container is told."""

    folders: Folders
    hyperparameters: Mapping[str, Any]  # as they came: strings, plain or JSON-encoded
    channels: Mapping[str, Path]  # channel name to folder
    cache_dir: Path
    weights_dir: Path  # there or not
    job_name: str  # "" where nobody says
    checkpoint_dir: Path | None  # kept between interruptions (contract A6.1)
    tensorboard_dir: Path | None  # for TensorBoard, where the job asks for it (contract A6.5)
    replicated: frozenset[str]  # the channels that are said to be the same on all hosts (contract A2.7)

    @classmethod
    def read(cls) -> "TrainingEnvironment":
        """Read the configuration files. Raises ContractError for malformed ones, and for channels that are streams."""
        tree = folders()
        channels = read_json_object(tree.config / "inputdataconfig.json")
        for name, channel in channels.items():
            if isinstance(channel, dict):
                check_channel(name, channel)
        return cls(
            folders=tree,
            hyperparameters=read_json_object(tree.config / "hyperparameters.json"),
            channels={name: tree.data / name for name in channels},
            cache_dir=Path(variable(CACHE_DIR, "/tmp/kennel-cache")),
            weights_dir=Path(variable(WEIGHTS_DIR, "/opt/weights")),
            job_name=variable(JOB_NAME, ""),
            checkpoint_dir=_checkpoint_dir(tree),
            tensorboard_dir=_tensorboard_dir(tree),
            replicated=frozenset(
                name
                for name, channel in channels.items()
                if isinstance(channel, dict) and channel.get("S3DistributionType") == "FullyReplicated"
            ),
        )


def _checkpoint_dir(tree: Folders) -> Path | None:
    """Return the folder that SageMaker keeps: the one that its file names, else `checkpoints` where that is there."""
    try:
        named = read_json_object(tree.config / "checkpointconfig.json").get("LocalPath")
    except ContractError:  # no file that a job needs to start (contract A2.4)
        named = None
    if isinstance(named, str) and named:
        return tree.place(named)
    default = tree.base / "checkpoints"
    return default if default.is_dir() else None


def _tensorboard_dir(tree: Folders) -> Path | None:
    """Return the folder whose files SageMaker keeps for TensorBoard, where the job has one."""
    try:
        config = read_json_object(Path(variable(TENSORBOARD_CONFIG, str(tree.config / "tensorboardoutputconfig.json"))))
    except ContractError:  # no file that a job needs to start (contract A2.4)
        return None
    return tree.place(str(config.get("LocalPath") or CHARTS)) if config else None


def read_json_object(file: Path) -> dict[str, Any]:
    """Read a JSON object; a missing or empty file is an empty object. Raises ContractError for anything else."""
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError as error:
        raise ContractError(f"{file} is not UTF-8 text: {error}") from error
    try:
        value = json.loads(text.strip() or "{}")
    except ValueError as error:
        raise ContractError(f"{file} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ContractError(f"{file} holds {type(value).__name__}; it should hold an object of names and values")
    return value
