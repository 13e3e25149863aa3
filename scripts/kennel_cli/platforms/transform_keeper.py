"""The background process that runs one local batch transform job."""

import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3

from kennel.atomic import replacing
from kennel.errors import KennelError
from kennel_cli.platforms.endpoint_server import (
    Server,
    end_servers,
    remove_tree,
    start_server,
    wait_until_healthy,
    why_it_failed,
)
from kennel_cli.platforms.opt_ml import LayoutError
from kennel_cli.platforms.records import Record, now
from kennel_cli.platforms.store import LocalStore

TIMEOUT = 600  # seconds that a model has to answer, unless the request says otherwise (contract C4.5)
RETRIES = 3  # after an answer that is the model's own fault, unless the request says otherwise (contract C4.5)
MEGABYTE = 2**20
_DEFAULTS = {"MaxConcurrentTransforms": 1, "MaxPayloadInMB": 6}  # where neither says anything (contract C4.2)
_VARIABLES = {  # what the user's request tells the container (contract C4.1)
    "MaxConcurrentTransforms": "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS",
    "MaxPayloadInMB": "SAGEMAKER_MAX_PAYLOAD_IN_MB",
    "BatchStrategy": "SAGEMAKER_BATCH_STRATEGY",
}
_STRATEGIES = {"SingleRecord": "SINGLE_RECORD"}


class NotStarted(Exception):
    """There is no server to ask; the message becomes the FailureReason."""


class NotTransformed(Exception):
    """An object has no answer; the message says why."""


@dataclass(frozen=True)
class Batch:
    """How each object is posted, and where its answer goes."""

    url: str
    headers: Mapping[str, str]
    timeout: float  # seconds
    retries: int
    most: int  # bytes of a body; 0 is any number
    source: str  # URI
    target: str  # URI


def keep(record: Record, home: Path) -> None:
    """Transform all objects, and write the job's status as it goes."""
    request = record.request()
    store = LocalStore(home / "s3")
    record.update(TransformStartTime=now())
    try:
        with _serving(record, request, store) as server:
            reason = _transform_all(record, request, server, store)
    except NotStarted as error:
        reason = str(error)
    if record.is_asked_to_stop():
        record.update(TransformJobStatus="Stopped", TransformEndTime=now())
    elif reason:
        _fail(record, reason)
    else:
        record.update(TransformJobStatus="Completed", TransformEndTime=now())


@contextmanager
def _serving(record: Record, request: Mapping[str, Any], store: LocalStore) -> Iterator[Server]:
    """Yield a healthy server, which ends with the block. Raises NotStarted."""
    said = {variable: _text(request[name]) for name, variable in _VARIABLES.items() if name in request}
    container = request["Container"]
    variables = {
        **container.get("Environment", {}),
        **request.get("Environment", {}),
        "SAGEMAKER_BATCH": "true",
        **said,
    }
    served = {"Container": {**container, "Environment": variables}, "Variant": {}}
    try:
        server = start_server(served, record.tree, record.log, record.runner(), store)
    except (LayoutError, KennelError) as error:
        raise NotStarted(f"ClientError: {error}") from error
    try:
        if not wait_until_healthy(server, record.is_asked_to_stop):
            raise NotStarted(f"AlgorithmError: {why_it_failed(server)}")
        yield server
    finally:
        end_servers(server)
        remove_tree(record.tree)


def _transform_all(record: Record, request: Mapping[str, Any], server: Server, store: LocalStore) -> str:
    """Transform all objects until somebody asks to stop; return what went wrong, or ""."""
    threads, batch = _agree(server, request)
    pool = urllib3.PoolManager(retries=False, maxsize=threads)
    names = store.names(batch.source)
    failed: list[str] = []

    def transform(name: str) -> None:
        if record.is_asked_to_stop():
            return
        try:
            _transform(batch, name, store, pool)
        except (NotTransformed, OSError) as error:
            failed.append(f"{name}: {error}")
            with record.log.open("a", encoding="utf-8") as log:
                log.write(f"not transformed: {name}: {error}\n")

    with ThreadPoolExecutor(threads) as workers:
        list(workers.map(transform, names))
    return f"ClientError: {len(failed)} of {len(names)} objects were not transformed; {failed[0]}" if failed else ""


def _text(value: Any) -> str:
    return _STRATEGIES.get(str(value), str(value))


def _agree(server: Server, request: Mapping[str, Any]) -> tuple[int, Batch]:
    """Return how many objects are posted at once, and how: as the request says, else the container (contract C4.2)."""
    url = f"http://127.0.0.1:{server.port}"
    answer = urllib3.request("GET", f"{url}/execution-parameters", retries=False)
    told = answer.json() if answer.status != 404 else {}
    limits = {**_DEFAULTS, **told, **{name: request[name] for name in _DEFAULTS if name in request}}
    given, output = request["TransformInput"], request["TransformOutput"]
    headers = {"Content-Type": given.get("ContentType"), "Accept": output.get("Accept")}
    client = request.get("ModelClientConfig", {})
    return limits["MaxConcurrentTransforms"], Batch(
        url=f"{url}/invocations",
        headers={name: value for name, value in headers.items() if value},
        timeout=client.get("InvocationsTimeoutInSeconds", TIMEOUT),
        retries=client.get("InvocationsMaxRetries", RETRIES),
        most=limits["MaxPayloadInMB"] * MEGABYTE,
        source=given["DataSource"]["S3DataSource"]["S3Uri"],
        target=output["S3OutputPath"].rstrip("/"),
    )


def _transform(batch: Batch, name: str, store: LocalStore, pool: urllib3.PoolManager) -> None:
    """Write an object's answer. Raises NotTransformed, or OSError where it cannot be read or its answer be written."""
    data = store.object(batch.source, name).read_bytes()
    if batch.most and len(data) > batch.most:
        raise NotTransformed(f"{len(data):,} bytes are more than the {batch.most // MEGABYTE} MB of MaxPayloadInMB")
    answer = _answer(batch, data, pool)
    with replacing(store.path(f"{batch.target}/{name}.out")) as file:
        file.write_bytes(answer)


def _answer(batch: Batch, data: bytes, pool: urllib3.PoolManager) -> bytes:
    """Post a body, again after an error that is not the body's, and return the answer. Raises NotTransformed."""
    reason = ""
    for _ in range(1 + batch.retries):
        try:
            answer = pool.request("POST", batch.url, body=data, headers=batch.headers, timeout=batch.timeout)
        except urllib3.exceptions.HTTPError as error:
            reason = f"no answer: {error}"
            continue
        if answer.status < 300:
            return answer.data
        reason = f"the model answers {answer.status}: {answer.data[:512].decode('utf-8', 'replace')}"
        if answer.status < 500:
            break
    raise NotTransformed(reason)


def _fail(record: Record, reason: str) -> None:
    record.update(TransformJobStatus="Failed", FailureReason=reason[:1024], TransformEndTime=now())


def main(folder: Path) -> None:
    """Keep the job in `folder`; whatever happens, its status says how it ended."""
    record = Record(folder)
    try:
        keep(record, record.home)
    except Exception as error:
        logging.exception("the keeper failed")
        _fail(record, f"InternalServerError: {type(error).__name__}: {error}; see {record.folder / 'keeper.log'}")
