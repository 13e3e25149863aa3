"""Start a search: as a tuning job, or inside one training job."""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kennel.errors import DataError, SearchError
from kennel.hyperparameters import SEARCH, parse_hyperparameters
from kennel.images.index import index_images
from kennel_cli.jobs import JobInputs, training_request
from kennel_cli.platforms.platform import S3, Platform
from kennel_cli.platforms.tuning_validation import validate_tuning
from kennel_cli.requests import JobOptions, tuning_job
from kennel_cli.tune.plan import EARLY_METRICS, MAX_NAME, Plan, tuning_config

if TYPE_CHECKING:
    from mypy_boto3_sagemaker.type_defs import (
        CreateHyperParameterTuningJobRequestTypeDef,
        CreateTrainingJobRequestTypeDef,
    )

MAX_VALUE = 2500  # characters of a hyperparameter (contract A2.1)
_LARGEST_MODEL = 115 * 2**20  # bytes, of a model whose weights file is not here to be looked at
_SPARE = 500 * 2**20  # bytes that a search should leave free


def search_request(
    platform: Platform, inputs: JobInputs, plan: Plan, name: str, options: JobOptions
) -> CreateHyperParameterTuningJobRequestTypeDef:
    """Return a valid CreateHyperParameterTuningJob request; nothing is linked, uploaded or started."""
    if len(name) > MAX_NAME:
        raise SearchError(f"the name {name} has {len(name)} characters; the name of a search has {MAX_NAME} at most")
    channels = {channel: platform.channel_uri(source) for channel, source in inputs.sources.items()}
    config, static = tuning_config(plan), inputs.hyperparameters
    request = tuning_job(name, config, channels, static, platform.settings, options, plan.warm_start)
    validate_tuning(request)
    return request


def one_job_request(
    platform: Platform, inputs: JobInputs, plan: Plan, name: str, options: JobOptions
) -> CreateTrainingJobRequestTypeDef:
    """Return a valid CreateTrainingJob request for the whole search in one job."""
    if plan.objective not in EARLY_METRICS:
        metrics = ", ".join(EARLY_METRICS)
        raise SearchError(f"in one job the objective is a metric of every epoch ({metrics}), not {plan.objective}")
    if plan.warm_start or plan.target is not None or plan.patience is not None:
        raise SearchError("a search in one job has no --warm-start, --target or --patience; leave them out")
    config = search_request(platform, inputs, plan, name[:MAX_NAME].strip("-"), options)[
        "HyperParameterTuningJobConfig"
    ]
    text = json.dumps(config, separators=(",", ":"))
    if len(text) > MAX_VALUE:
        raise SearchError(
            f"the search takes {len(text)} characters; in one job {MAX_VALUE} are the most, give less ranges"
        )
    values = {**inputs.hyperparameters, SEARCH: text}
    return training_request(platform, JobInputs(inputs.sources, values, inputs.backbone), name, options)


def new_search_name(stem: str) -> str:
    """Return a name that no search has had, short enough for one."""
    return f"{stem}-{time.strftime('%y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def require_space(home: Path, inputs: JobInputs, jobs: int) -> None:
    """Raise DataError when this machine's disk cannot hold what the search will write below `home`.

    That is the decoded images, and for each of its training `jobs` the model twice: as a folder, and packed.
    """
    images, model = 0, _LARGEST_MODEL
    if not inputs.sources["training"].startswith(S3):
        index = index_images({"training": Path(inputs.sources["training"])})
        images = len(index.train) + len(index.valid) + len(index.test)
    if (weights := inputs.sources.get("pretrained", S3)) and not weights.startswith(S3):
        model = Path(weights).stat().st_size
    size = parse_hyperparameters(inputs.hyperparameters).image_size
    needed = images * size * size * 3 + jobs * 2 * model + _SPARE
    home.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(home).free
    if free < needed:
        raise DataError(
            f"the disk of {home} has {free / 2**30:.1f} GB free, and the search needs {needed / 2**30:.1f} GB; "
            "make room, or let KENNEL_HOME name a folder on another disk"
        )


def send(platform: Platform, inputs: JobInputs, request: Mapping[str, Any]) -> None:
    """Make the inputs reachable and start what `request` asks for, a tuning job or a training job."""
    for source in inputs.sources.values():
        platform.channel(source)
    if "HyperParameterTuningJobName" in request:
        platform.sagemaker.create_hyper_parameter_tuning_job(**request)
    else:
        platform.sagemaker.create_training_job(**request)
