"""The servers that are compared: how each is installed, started and asked."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import urllib3

from kennel.machine import available_cores
from kennel_cli.load.bodies import Body
from kennel_cli.platforms.ports import free_port
from kennel_cli.platforms.runners import job_environment
from tests.benchmarks.serving.models import ENGINES, Model
from tests.benchmarks.serving.processes import ProcessTree

ROOT = Path(__file__).parents[3]
ENVIRONMENTS = ROOT / "build" / "peers"  # torch's files are hard links into uv's cache there
PEERS = Path(__file__).parent / "peers"
START_LIMIT = 180.0  # seconds
_STOP_LIMIT = 40.0
_LITSERVE_FIELD = "image_data"
_BOUNDARY = "a-picture-follows"


class ServerFailed(Exception):
    """A server did not come up; the message is the end of its log."""


@dataclass(frozen=True)
class Server:
    """One line of the table."""

    name: str
    title: str
    prepare: Callable[[], list[str]]  # installs what it needs; returns the command
    variables: Mapping[str, str]
    body: Callable[[bytes], Body]
    path: str = "/invocations"
    is_kennel: bool = False


@dataclass
class Running:
    """A server that answers."""

    url: str
    body: Body
    tree: ProcessTree
    seconds_to_ready: float
    log: Path = field(repr=False, default=Path())


def kennel_servers(model: Model) -> list[Server]:
    """Return Kennel's server once an engine."""
    command = [sys.executable, "-P", "-m", "kennel.container.serve"]
    return [
        Server(engine, f"Kennel, {engine}", lambda: command, {"KENNEL_ENGINE": engine}, _jpeg, is_kennel=True)
        for engine in ENGINES
    ]


def peers() -> dict[str, Server]:
    """Return the servers of others by their names."""
    workers = str(available_cores())

    def flask() -> list[str]:
        gunicorn = [str(_environment("flask")), "-m", "gunicorn", "--workers", workers, "--timeout", "120"]
        return [*gunicorn, "--bind", "127.0.0.1:{port}", "flask_app:app"]

    def litserve() -> list[str]:
        return [str(_environment("litserve")), "litserve_app.py"]

    def bentoml() -> list[str]:
        program = str(_environment("bentoml").with_name("bentoml"))
        return [program, "serve", "bentoml_service:ImageClassifier", "--host", "127.0.0.1", "--port", "{port}"]

    def mlserver() -> list[str]:
        return [str(_environment("mlserver").with_name("mlserver")), "start", "{folder}"]

    return {
        "flask": Server("flask", "Flask + gunicorn sync, the usual sample", flask, {}, _jpeg),
        "litserve": Server("litserve", "LitServe, batch 8", litserve, {}, _base64_json, "/predict"),
        "bentoml": Server(
            "bentoml",
            "BentoML, adaptive batches",
            bentoml,
            {"BENTOML_DO_NOT_TRACK": "True"},
            _multipart,
            "/classify",
        ),
        "mlserver": Server(
            "mlserver", "MLServer, adaptive batches", mlserver, {}, _v2_protocol, "/v2/models/classifier/infer"
        ),
    }


@contextmanager
def started(server: Server, model: Model, picture: bytes, folder: Path) -> Iterator[Running]:
    """Start a server and wait until it has answered a picture; end it afterwards. Raises ServerFailed."""
    command = server.prepare()
    port = free_port()
    log = folder / "log.txt"
    variables = _variables(server, model, port, folder)
    began = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [part.format(port=port, folder=folder) for part in command],
            cwd=folder if server.is_kennel else PEERS,
            env=variables,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    tree = ProcessTree(process.pid)
    try:
        url, body = f"http://127.0.0.1:{port}", server.body(picture)
        seconds = _wait_until_ready(server, url, body, process, log, began)
        yield Running(url + server.path, body, tree, seconds, log)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_LIMIT)
        except subprocess.TimeoutExpired:
            print(f"{server.name} did not end by SIGTERM", file=sys.stderr)
        tree.kill()
        process.wait()


def _variables(server: Server, model: Model, port: int, folder: Path) -> dict[str, str]:
    """Lay out what a server reads, and return its environment."""
    if server.is_kennel:
        tree = folder / "ml"
        tree.mkdir(exist_ok=True)
        (tree / "model").unlink(missing_ok=True)
        (tree / "model").symlink_to(model.folder)
        return job_environment(tree, {"SAGEMAKER_BIND_TO_PORT": str(port), **server.variables})
    if server.name == "mlserver":
        settings = {"host": "127.0.0.1", "http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
        settings |= {"parallel_workers": available_cores(), "debug": False}
        runtime = {"name": "classifier", "implementation": "mlserver_runtime.ImageClassifier"}
        runtime |= {"max_batch_size": 8, "max_batch_time": 0.01}
        (folder / "settings.json").write_text(json.dumps(settings))
        (folder / "model-settings.json").write_text(json.dumps(runtime))
    given = {
        "BENCH_NETWORK": model.network,
        "BENCH_WEIGHTS": str(model.weights),
        "BENCH_PORT": str(port),
        "BENCH_WORKERS": str(available_cores()),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(PEERS),
        "PYTHONUNBUFFERED": "1",
    }
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return {**inherited, **given, **server.variables}


def _wait_until_ready(
    server: Server, url: str, body: Body, process: subprocess.Popen[bytes], log: Path, began: float
) -> float:
    """Return the seconds to the first 200: of `/ping` where it says that the model is loaded, else of a picture."""
    pool = urllib3.PoolManager(retries=False)
    seconds, last = 0.0, "nothing"
    while True:
        if process.poll() is not None or time.perf_counter() > began + START_LIMIT:
            raise ServerFailed(
                f"{server.name} did not come up; it answers {last}; the end of its log:\n{log.read_text()[-3000:]}"
            )
        try:
            if server.is_kennel and not seconds:
                if pool.request("GET", f"{url}/ping", timeout=2).status == 200:
                    seconds = time.perf_counter() - began
                    continue
            else:
                headers = {"Content-Type": body.content_type}
                answer = pool.request("POST", url + server.path, body=body.data, headers=headers, timeout=30)
                if answer.status == 200:
                    return seconds or time.perf_counter() - began
                last = f"{answer.status}: {answer.data[:500]!r}"
        except urllib3.exceptions.HTTPError:
            pass
        time.sleep(0.02)


def _environment(name: str) -> Path:
    """Return the Python of a peer's own environment, which is made the first time and when its packages change."""
    files = [PEERS / "common.txt", PEERS / f"{name}.txt"]
    wanted = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    folder = ENVIRONMENTS / name
    stamp, python = folder / ".made-from", folder / "bin" / "python"
    if not stamp.is_file() or stamp.read_text() != wanted:
        print(f"installing {name} into {folder}", file=sys.stderr, flush=True)
        uv = Path(sys.executable).with_name("uv")
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True)
        install = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python]
        subprocess.run([*install, *(part for file in files for part in ("--requirement", file))], check=True)
        stamp.write_text(wanted)
    return python


def _jpeg(picture: bytes) -> Body:
    return Body(picture, "image/jpeg")


def _base64_json(picture: bytes) -> Body:
    return Body(json.dumps({_LITSERVE_FIELD: base64.b64encode(picture).decode()}).encode(), "application/json")


def _v2_protocol(picture: bytes) -> Body:
    text = base64.b64encode(picture).decode()
    tensor = {"name": "pictures", "shape": [1, 1], "datatype": "BYTES", "data": [text]}
    tensor["parameters"] = {"content_type": "base64"}
    return Body(json.dumps({"inputs": [tensor]}).encode(), "application/json")


def _multipart(picture: bytes) -> Body:
    head = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="photo.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    )
    data = head.encode() + picture + f"\r\n--{_BOUNDARY}--\r\n".encode()
    return Body(data, f"multipart/form-data; boundary={_BOUNDARY}")
