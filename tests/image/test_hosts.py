"""Two containers on a network of their own train one network, as two hosts of a job do (contract A5.8, A6.9)."""

import json
import re
import time
import uuid

import pytest

from kennel_cli.settings import LOCAL
from tests.contract.box import SMALL_JOB
from tests.engine import needs_image

pytestmark = [pytest.mark.docker, needs_image]

HOSTS = ("algo-1", "algo-2")


@pytest.fixture
def network(docker):
    name = f"kennel-test-{uuid.uuid4().hex[:8]}"
    made = docker("network", "create", "--internal", name)
    assert made.returncode == 0, made.stderr
    yield name
    docker("rm", "--force", *(f"{name}-{host}" for host in HOSTS))
    docker("network", "rm", name)


@pytest.fixture
def start(docker, network, colour_images, tmp_path):
    """Start a host of a job with these hyperparameters; returns its folder `/opt/ml`."""

    def run(host, hyperparameters):
        tree = tmp_path / host
        config = tree / "input" / "config"
        config.mkdir(parents=True)
        group = {"instance_group_name": "all", "instance_type": "ml.m5.large", "hosts": HOSTS}
        resources = {"current_host": host, "hosts": HOSTS, "network_interface_name": "eth0", "instance_groups": [group]}
        (config / "resourceconfig.json").write_text(json.dumps({**resources, "current_group_name": "all"}))
        (config / "hyperparameters.json").write_text(json.dumps(hyperparameters))
        (config / "inputdataconfig.json").write_text(json.dumps({"training": {"TrainingInputMode": "File"}}))
        volumes = ("-v", f"{tree}:/opt/ml", "-v", f"{colour_images}:/opt/ml/input/data/training:ro")
        place = ("--network", network, "--network-alias", host, "--hostname", host)
        made = docker("run", "-d", "--name", f"{network}-{host}", *place, *volumes, LOCAL.image, "train")
        assert made.returncode == 0, made.stderr
        return tree

    return run


@pytest.fixture
def end(docker, network):
    """Wait for a host's container, and return its exit code and its log."""

    def wait(host):
        code = docker("wait", f"{network}-{host}").stdout.strip()
        logs = docker("logs", f"{network}-{host}")
        return int(code), logs.stdout + logs.stderr

    return wait


def test_two_containers_train_one_network_which_the_first_one_writes_a2_2_a5_8_a6_9_b6(start, end):
    hyperparameters = {**SMALL_JOB, "weights": "none", "epochs": "2"}
    second = start("algo-2", hyperparameters)
    first = start("algo-1", hyperparameters)
    (code, log), (other_code, other_log) = end("algo-1"), end("algo-2")
    assert (code, other_code) == (0, 0), log + other_log
    assert re.findall(r"^(?:best_)?epoch=(\d)", log, re.MULTILINE)[:2] == ["1", "2"]
    assert "epoch=" not in other_log
    assert (first / "model" / "kennel.json").exists()
    assert list((second / "model").iterdir()) == []


def test_a_container_that_is_killed_ends_the_other_with_a_reason_a1_4_a6_9(start, end, docker, network):
    hyperparameters = {**SMALL_JOB, "weights": "none", "epochs": "1000"}
    first = start("algo-1", hyperparameters)
    start("algo-2", hyperparameters)
    deadline = time.monotonic() + 100
    while "epoch=1 " not in docker("logs", f"{network}-algo-1").stdout:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    docker("kill", f"{network}-algo-2")
    killed = time.monotonic()
    code, log = end("algo-1")
    assert code == 1, log
    assert time.monotonic() - killed < 30
    assert (first / "output" / "failure").read_text().startswith("lost the connection to the processes")
