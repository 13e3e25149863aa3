"""`kennel bench-endpoint` against a real server."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kennel_cli import cli
from kennel_cli.platforms.local import LocalSageMaker

KENNEL = str(Path(sys.executable).with_name("kennel"))


@pytest.fixture(scope="module")
def served(tmp_path_factory, random_model):
    """An endpoint called `shown`, as the environment of the commands that ask it."""
    environment = {**os.environ, "KENNEL_HOME": str(tmp_path_factory.mktemp("bench") / "home"), "COLUMNS": "160"}
    deploy = (KENNEL, "deploy", "--model", str(random_model), "--name", "shown")
    done = subprocess.run(deploy, check=False, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    yield environment
    subprocess.run((KENNEL, "delete", "shown", "-y"), env=environment, check=True, capture_output=True, timeout=200)


@pytest.fixture
def bench(served, tmp_path, monkeypatch, capsys):
    """Run the command in this process, with short loads; its output goes to `tmp_path / "out"`."""
    monkeypatch.setenv("KENNEL_HOME", served["KENNEL_HOME"])
    monkeypatch.setenv("COLUMNS", served["COLUMNS"])

    def run(*arguments, output=True):
        short = ("--duration", "2", "--warm-up", "0.2", *(("--output", tmp_path / "out") if output else ()))
        monkeypatch.setattr(sys, "argv", ["kennel", "bench-endpoint", *map(str, (*short, *arguments))])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        written = capsys.readouterr()
        return subprocess.CompletedProcess(sys.argv, ended.value.code or 0, written.out, written.err)

    return run


def record(folder):
    return json.loads((folder / "load.json").read_text())


def test_an_endpoint_is_measured_by_clients_and_by_rate(bench, tmp_path):
    done = bench("shown", "--clients", "1,4", "--rate", "10")
    assert done.returncode == 0, done.stderr
    assert "10 a second" in done.stdout
    test = record(tmp_path / "out")
    assert (test["target"], test["content_types"], test["bodies"]) == ("shown", ["image/jpeg"], 1)
    assert [(step["connections"], step["rate"]) for step in test["steps"][:2]] == [(1, None), (4, None)]
    for step in test["steps"]:
        assert step["answered"] > 0
        assert step["errors"] == {}
        assert 0 < step["p50"] <= step["p90"] <= step["p99"] <= step["longest"]
        assert set(step["phases"]) >= {"decode", "queue", "forward", "encode"}  # the server's own header
        assert sum(step["phases"].values()) < step["longest"]
    assert "Latency over clients" in (tmp_path / "out" / "load.html").read_text()


def test_without_a_folder_the_picture_is_kept_in_kennels(bench, served):
    done = bench("shown", "--clients", "1", output=False)
    assert done.returncode == 0, done.stderr
    [folder] = (Path(served["KENNEL_HOME"]) / "load-tests").iterdir()
    assert folder.name.startswith("shown-")
    assert str(folder / "load.html") in done.stdout


def test_pictures_of_the_users_are_sent_to_an_address(bench, served, colour_images, tmp_path):
    listed = subprocess.run((KENNEL, "jobs"), env=served, check=True, capture_output=True, text=True).stdout
    [address] = [word for word in listed.split() if word.startswith("http://")]
    pictures = colour_images / "test"
    done = bench(address, "--clients", "2", "--pictures", pictures, "--accept", "application/json;verbose")
    assert done.returncode == 0, done.stderr
    test = record(tmp_path / "out")
    assert (test["bodies"], test["content_types"]) == (9, ["image/png"])
    assert test["target"] == address


def test_ctrl_c_ends_with_what_was_measured(served, tmp_path):
    command = (KENNEL, "bench-endpoint", "shown", "--clients", "2,3", "--duration", "120", "--warm-up", "0")
    log = LocalSageMaker(Path(served["KENNEL_HOME"])).endpoint_log("shown")
    before = requests_in(log)
    running = subprocess.Popen(
        (*command, "--output", str(tmp_path)), env=served, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while requests_in(log) < before + 20:
        assert running.poll() is None, running.communicate()
        time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    stdout, stderr = running.communicate(timeout=60)
    assert running.returncode == 130, stderr
    [step] = record(tmp_path)["steps"]
    assert step["answered"] > 0
    assert step["seconds"] < 120
    assert "2 clients" in stdout
    assert "Traceback" not in stderr


def requests_in(log):
    return log.read_text().count('"event": "request"')


def test_a_place_that_cannot_be_written_to_is_said_before_the_load(bench, served, tmp_path):
    (tmp_path / "out").write_text("a file")
    log = LocalSageMaker(Path(served["KENNEL_HOME"])).endpoint_log("shown")
    before = requests_in(log)
    ended = bench("shown")
    assert (ended.returncode, "out cannot be written to: File exists" in ended.stderr) == (1, True)
    assert requests_in(log) <= before + 1


def test_no_more_is_sent_in_all_than_may_be_and_a_long_address_is_no_name_of_a_file(bench, served):
    listed = subprocess.run((KENNEL, "jobs"), env=served, check=True, capture_output=True, text=True).stdout
    [address] = [word for word in listed.split() if word.startswith("http://")]
    log = LocalSageMaker(Path(served["KENNEL_HOME"])).endpoint_log("shown")
    before, few = requests_in(log), ("--clients", "1", "--warm-up", "0", "--max-requests", "3")
    done = bench(f"{address}?secret={'x' * 300}", *few, output=False)
    assert done.returncode == 0, done.stderr
    assert requests_in(log) == before + 3
    made = [folder.name for folder in (Path(served["KENNEL_HOME"]) / "load-tests").iterdir()]
    assert any(name.startswith("http-127-0-0-1") for name in made)
    assert not any("secret" in name for name in made)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("nobody",), "Could not find endpoint"),
        (("http://127.0.0.1:1",), "http://127.0.0.1:1 does not answer"),
        (("localhost:8080",), "is no address"),
        (("shown", "--content-type", "text/plain"), "shown answers 415: Content-Type text/plain is not supported"),
        (("shown", "--clients", "0"), "--clients has '0'; give numbers up to 512"),
        (("shown", "--rate", "50,fast"), "--rate has 'fast'; give numbers up to 10,000"),
        (("shown", "--rate", "nan"), "--rate has 'nan'"),
        (("shown", "--clients", ","), "there is no number in --clients or --rate"),
        (("shown", "--pictures", "/no/such/folder"), "there is no picture or folder /no/such/folder"),
        (("http://127.0.0.1:1", "--on", "aws"), "is no name of an endpoint on AWS"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_1(bench, arguments, sentence, tmp_path):
    ended = bench(*arguments)
    assert ended.returncode == 1
    assert sentence in ended.stderr
    assert ended.stderr.startswith("kennel: ")
    assert not (tmp_path / "out").exists()
