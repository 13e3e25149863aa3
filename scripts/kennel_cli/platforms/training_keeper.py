"""The background process that runs one local training job."""

import logging
import time
from pathlib import Path
from typing import Any

from kennel.errors import KennelError
from kennel.metrics import final_metrics
from kennel_cli.platforms.choice import choose_runner
from kennel_cli.platforms.opt_ml import LayoutError, lay_out_training, read_failure
from kennel_cli.platforms.records import Record, last_lines, now
from kennel_cli.platforms.runners import Program
from kennel_cli.platforms.store import LocalStore

STOP_GRACE = 120  # seconds between SIGTERM and SIGKILL (contract A1.9)
POLL = 0.05  # seconds between two looks at the program


def keep(record: Record, home: Path) -> None:
    """Run the job to its end, and write its status as it goes (contract A1.11)."""
    request = record.request()
    store = LocalStore(home / "s3")
    runner = choose_runner(record.runner(), request["AlgorithmSpecification"]["TrainingImage"])
    try:
        record.update(SecondaryStatus="Downloading", TrainingStartTime=now())
        lay_out_training(record.tree, request, store, runner.host)
    except LayoutError as error:
        _fail(record, error)
        return
    variables = {
        "TRAINING_JOB_NAME": record.name,
        "TRAINING_JOB_ARN": record.status()["TrainingJobArn"],
        "AWS_REGION": "local",
        "KENNEL_CACHE": str(home / "cache"),
        **request.get("Environment", {}),
    }
    record.update(SecondaryStatus="Training")
    started = time.monotonic()
    try:
        program = runner.start("train", record.tree, variables, record.log)
    except KennelError as error:
        _fail(record, error)
        return
    code, ended_by = _wait(record, program, started + request["StoppingCondition"]["MaxRuntimeInSeconds"])
    _finish(record, request, store, code, ended_by, int(time.monotonic() - started))


def _fail(record: Record, error: Exception) -> None:
    """Write that the program was never started."""
    record.update(TrainingJobStatus="Failed", SecondaryStatus="Failed", FailureReason=f"ClientError: {error}"[:1024])


def _wait(record: Record, program: Program, deadline: float) -> tuple[int, str]:
    """Wait for the program to end; return its exit code and the secondary status of who ended it, if anybody."""
    ended_by, kill_at = "", float("inf")
    while (code := program.poll()) is None:
        if not ended_by and (record.is_asked_to_stop() or time.monotonic() > deadline):
            ended_by = "Stopped" if record.is_asked_to_stop() else "MaxRuntimeExceeded"
            kill_at = time.monotonic() + STOP_GRACE
            record.update(TrainingJobStatus="Stopping", SecondaryStatus="Stopping")
            program.terminate()
        if time.monotonic() > kill_at:
            program.kill()
        time.sleep(POLL)
    return code, ended_by


def _finish(record: Record, request: dict[str, Any], store: LocalStore, code: int, ended_by: str, seconds: int) -> None:
    """Upload what the program left and write the final status (contract A1.4, A1.5, A1.9)."""
    status = "Stopped" if ended_by else "Completed" if code == 0 else "Failed"
    result: dict[str, Any] = {
        "TrainingEndTime": now(),
        "TrainingTimeInSeconds": seconds,
        "BillableTimeInSeconds": seconds,
    }
    if status != "Completed":
        reason = read_failure(record.tree)
        if status == "Failed":
            reason = reason or f"AlgorithmError: exit code {code}: {last_lines(record.log, 5)}"
        elif not any((record.tree / "model").iterdir()):
            reason = reason or "Stopped before there was a model"  # the program had not yet set up its signal handlers
        if reason:
            result["FailureReason"] = reason[:1024]
    if not ended_by:
        record.update(SecondaryStatus="Uploading")
    target = f"{request['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{record.name}/output"
    if status != "Failed" and any((record.tree / "model").iterdir()):
        if request["OutputDataConfig"].get("CompressionType") == "NONE":
            uri = f"{target}/model"
            store.put_folder(record.tree / "model", uri)
        else:
            uri = f"{target}/model.tar.gz"
            store.put_tarball(record.tree / "model", uri)
        result["ModelArtifacts"] = {"S3ModelArtifacts": uri}
    if any((record.tree / "output" / "data").iterdir()):
        store.put_tarball(record.tree / "output" / "data", f"{target}/output.tar.gz")
    result["FinalMetricDataList"] = _final_metrics(record, request)
    record.update(TrainingJobStatus=status, SecondaryStatus=ended_by or status, **result)


def _final_metrics(record: Record, request: dict[str, Any]) -> list[dict[str, Any]]:
    definitions = request["AlgorithmSpecification"].get("MetricDefinitions", [])
    with record.log.open(encoding="utf-8", errors="replace") as lines:
        values = final_metrics(lines, definitions)
    return [{"MetricName": name, "Value": value, "Timestamp": now()} for name, value in values.items()]


def main(folder: Path) -> None:
    """Keep the job in `folder`; whatever happens, its status says how it ended."""
    record = Record(folder)
    try:
        keep(record, record.home)
    except Exception as error:
        logging.exception("the keeper failed")
        reason = f"InternalServerError: {type(error).__name__}: {error}; see {record.folder / 'keeper.log'}"
        record.update(TrainingJobStatus="Failed", SecondaryStatus="Failed", FailureReason=reason[:1024])
