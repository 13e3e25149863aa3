"""A box to run the real `train` and `serve` in, with an `/opt/ml` that each test fills as it likes."""

import http.client
import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import urllib3
from prometheus_client.parser import text_string_to_metric_families

from kennel_cli.platforms.ports import free_port
from kennel_cli.platforms.runners import Program
from tests.samples import SMALL_BACKBONE

TRAINING_LIMIT = 120  # seconds that any job of these tests may take
SMALL_JOB = {"backbone": SMALL_BACKBONE, "image_size": "32", "epochs": "1", "batch_size": "8"}
SCRATCH = {**SMALL_JOB, "weights": "none"}


@dataclass
class Box:
    """One container's `/opt/ml`, and the program in it."""

    runner: Any
    folder: Path
    variables: dict[str, str] = field(default_factory=dict)
    program: Program | None = None

    @property
    def tree(self) -> Path:
        return self.folder / "ml"

    @property
    def log(self) -> str:
        file = self.folder / "log.txt"
        return file.read_text(errors="replace") if file.exists() else ""

    @property
    def failure(self) -> str:
        file = self.tree / "output" / "failure"
        return file.read_text() if file.exists() else ""

    def config(self, name: str, value: Any) -> None:
        """Write a file of /opt/ml/input/config: JSON, or a text as it is."""
        file = self.tree / "input" / "config" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(value if isinstance(value, str) else json.dumps(value))

    def prepare(self, hyperparameters: Mapping[str, str], **channels: Path) -> None:
        """Write what SageMaker writes before it starts a training container."""
        self.config("hyperparameters.json", hyperparameters)
        host = self.runner.host
        group = {"instance_group_name": "homogeneousCluster", "instance_type": "ml.m5.large", "hosts": [host]}
        self.config(
            "resourceconfig.json",
            {
                "current_host": host,
                "current_instance_type": "ml.m5.large",
                "current_group_name": "homogeneousCluster",
                "hosts": [host],
                "instance_groups": [group],
                "network_interface_name": "eth0",
            },
        )
        channel = {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
        self.config("inputdataconfig.json", dict.fromkeys(channels, channel))
        self.link(**channels)

    def link(self, **channels: Path) -> None:
        for name, source in channels.items():
            place = self.tree / "input" / "data" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                place.symlink_to(source)
            else:
                place.mkdir()
                (place / source.name).symlink_to(source)

    def submit(self, script: str, name: str = "script.py", **hyperparameters: str) -> None:
        """Prepare a job that runs a script of the user's, as the SDK submits one."""
        source = self.tree / "input" / "data" / "code"
        source.mkdir(parents=True)
        (source / name).write_text(script)
        directory = "/opt/ml/input/data/code" if self.runner.host != "localhost" else str(source)
        submitted = {"sagemaker_program": name, "sagemaker_submit_directory": directory}
        self.prepare({**submitted, **hyperparameters})

    def start(self, program: str) -> None:
        self.tree.mkdir(parents=True, exist_ok=True)
        self.program = self.runner.start(program, self.tree, self.variables, self.folder / "log.txt")

    def train(self) -> int:
        """Run `train` to its end and return its exit code."""
        self.start("train")
        return self.wait(TRAINING_LIMIT)

    def wait(self, limit: float) -> int:
        """Wait for the end of the program and return its exit code; fails the test when it takes longer."""
        assert self.program is not None
        deadline = time.monotonic() + limit
        while (code := self.program.poll()) is None:
            if time.monotonic() > deadline:
                pytest.fail(f"still running after {limit} s; its log:\n{self.log}")
            time.sleep(0.02)
        return code

    def wait_for(self, text: str, limit: float = TRAINING_LIMIT, since: int = 0) -> None:
        """Wait until the log holds `text`, after its first `since` characters."""
        deadline = time.monotonic() + limit
        while text not in self.log[since:]:
            assert self.program is not None
            if self.program.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"never saw {text!r} in the log:\n{self.log}")
            time.sleep(0.02)

    def wait_for_handler(self, limit: float = 30) -> None:
        """Wait until the program catches SIGTERM: what is sent to process 1 before that, the kernel drops."""
        assert self.program is not None
        deadline = time.monotonic() + limit
        while not _catches(self._process(), signal.SIGTERM):
            if self.program.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"never caught SIGTERM; its log:\n{self.log}")
            time.sleep(0.02)

    def _process(self) -> int:
        """Return the id of the program's first process on this machine; 0 where a container has not begun."""
        if isinstance(self.program, subprocess.Popen):
            return self.program.pid
        command = ["docker", "inspect", "--format", "{{.State.Pid}}", self.program._name]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    def kill(self) -> None:
        """End everything at once, as when the machine is taken away."""
        assert self.program is not None
        if isinstance(self.program, subprocess.Popen):  # a container takes all of its processes with it
            for process in psutil.Process(self.program.pid).children(recursive=True):
                process.kill()
        self.program.kill()
        self.wait(30)

    def stop(self, limit: float) -> int:
        """Send SIGTERM, as SageMaker stops a job, and return the exit code."""
        assert self.program is not None
        self.program.terminate()
        return self.wait(limit)


def _catches(process: int, number: signal.Signals) -> bool:
    """Return whether a program of Kennel's runs as this process and catches a signal."""
    place = Path(f"/proc/{process}")
    if not place.exists():
        return process > 0  # the engine runs elsewhere: nothing is known of it
    caught = re.search(r"^SigCgt:\s*(\w+)$", (place / "status").read_text(), re.MULTILINE)
    is_ours = b"kennel.container" in (place / "cmdline").read_bytes()  # else what starts it, which catches others
    return is_ours and caught is not None and bool(int(caught[1], 16) >> (number - 1) & 1)


class Server:
    """A running `serve`, over HTTP."""

    def __init__(self, box: Box, port: int) -> None:
        self.box = box
        self.port = port
        self.address = f"http://127.0.0.1:{port}"
        self._pool = urllib3.PoolManager(maxsize=200, retries=False, timeout=120)

    def ping(self, timeout: float = 2.0) -> urllib3.BaseHTTPResponse:
        return self._pool.request("GET", f"{self.address}/ping", timeout=timeout)

    def post(
        self,
        body: Any,
        content_type: str | None = None,
        accept: str | None = None,
        path: str = "/invocations",
        **headers: str,
    ) -> Any:
        given = {"Content-Type": content_type, "Accept": accept, **headers}
        sent = {name.replace("_", "-"): value for name, value in given.items() if value is not None}
        return self._pool.request("POST", self.address + path, body=body, headers=sent)

    def stream(self, body: Any, content_type: str, accept: str, **headers: str) -> http.client.HTTPResponse:
        """Post, and return the answer when it begins; closed early, its connection is too."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        sent |= {"Content-Type": content_type, "Accept": accept, "Connection": "close"}
        connection.request("POST", "/invocations", body, sent)
        return connection.getresponse()

    def get(self, path: str, method: str = "GET") -> Any:
        return self._pool.request(method, self.address + path)

    def send(self, *parts: bytes) -> socket.socket:
        """Open a connection and send what may be a part of a request, or of several."""
        client = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        for part in parts:
            client.sendall(part)
        return client

    def hang_up(self) -> None:
        """Close the connections that are kept: a server that ends waits two seconds for a last request on them."""
        for key in self._pool.pools.keys():  # noqa: SIM118 - it cannot be iterated over
            self._pool.pools[key].close()

    def metrics(self) -> dict[tuple[str, ...], float]:
        """Return what was counted: the name of each sample with its labels' values, and its value."""
        families = text_string_to_metric_families(self.get("/metrics").data.decode())
        samples = [sample for family in families for sample in family.samples]
        return {(sample.name, *sorted(sample.labels.values())): sample.value for sample in samples}

    def wait_until_ready(self, limit: float = 180) -> "Server":
        deadline = time.monotonic() + limit
        while True:
            try:
                if self.ping().status == 200:
                    return self
            except urllib3.exceptions.HTTPError:
                pass
            if self.box.program is None or self.box.program.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the server is not up:\n{self.box.log}")
            time.sleep(0.05)


def start_server(runner: Any, folder: Path, model: Path, **variables: str) -> Server:
    """Start `serve` on a model folder; wait for it with `wait_until_ready`."""
    return _serve(runner, folder, {"model": model}, variables)


def start_multi_model_server(runner: Any, folder: Path, models: Mapping[str, Path], **variables: str) -> Server:
    """Start `serve` beside the folders `/opt/ml/models/NAME/model` (contract C3.1)."""
    links = {f"models/{name}/model": model for name, model in models.items()}
    return _serve(runner, folder, links, {"SAGEMAKER_MULTI_MODEL": "true", **variables})


def _serve(runner: Any, folder: Path, links: Mapping[str, Path], variables: Mapping[str, str]) -> Server:
    box = Box(runner, folder)
    for link, target in links.items():
        (box.tree / link).parent.mkdir(parents=True, exist_ok=True)
        (box.tree / link).symlink_to(target)
    port = free_port()
    box.variables = {"SAGEMAKER_BIND_TO_PORT": str(port), **variables}
    box.start("serve")
    return Server(box, port)


def end(server: Server) -> None:
    program = server.box.program
    assert program is not None
    if program.poll() is None:
        server.hang_up()
        program.terminate()
        server.box.wait(40)


SIGTERM_WITHOUT_MODEL = 128 + signal.SIGTERM
