"""`kennel tune`, as a user types it."""

import csv
import fcntl
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from kennel.errors import KennelError
from kennel_cli.platforms.validation import validate
from tests.player.conftest import holder_of

SMALL = ("--weights", "none", "--backbone", "resnet18", "--static", "image_size=32", "--static", "batch_size=8")
HEAD = ("--static", "unfreeze=all", "--static", "epochs=1")
RATES = ("--range", "learning_rate=1e-4:1e-2:log", "--jobs", "3", "--seed", "1", *SMALL)
FEW = (*RATES, *HEAD)
LONG = (*RATES, "--static", "unfreeze=all", "--static", "epochs=1000")


def command(*arguments):
    return [str(Path(sys.executable).with_name("kennel")), *map(str, arguments)]


@pytest.fixture
def kennel(home):
    """Run the command and return how it ended."""

    def run(*arguments, limit=200):
        return subprocess.run(command(*arguments), check=False, capture_output=True, text=True, timeout=limit)

    return run


def test_a_search_ends_with_a_table_files_and_what_to_do_next(kennel, colour_images, home):
    done = kennel("tune", "--data", colour_images, "--name", "colours", *FEW)
    assert done.returncode == 0, done.stderr
    # its values are said with its first line; a quick trial may have ended before anybody looks
    assert re.search(r"^trial=1; status=(InProgress|Completed); .*learning_rate=0\.0005;", done.stdout, re.MULTILINE)
    assert len(re.findall(r"trial=\d; status=Completed; valid_loss=", done.stdout)) == 3
    table = re.findall(r"^ +(\d) +Completed +1 +(\d+\.\d+) ", done.stdout, re.MULTILINE)
    assert sorted(number for number, _ in table) == ["1", "2", "3"]
    objectives = [float(value) for _, value in table]
    assert objectives == sorted(objectives)

    folder = home / "tuning" / "colours"
    found = json.loads((folder / "tuning.json").read_text())
    assert found["best"]["objective"] == min(objectives)
    with (folder / "tuning.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows] == ["1", "2", "3"]
    assert all(row["test_accuracy"] for row in rows)
    assert "| trial | status |" in (folder / "tuning.md").read_text()
    assert "colours" in (folder / "tuning.html").read_text()
    assert str(folder / "tuning.html") in done.stdout
    assert f"kennel deploy --model {found['best']['job']}" in done.stdout
    assert re.search(r"colours +Completed +Bayesian", kennel("jobs").stdout.replace("│", " "))

    again = kennel("train", "--data", colour_images, "--from-tuning", "colours", "--name", "again")
    assert again.returncode == 0, again.stderr
    request = json.loads((home / "training-jobs" / "again" / "request.json").read_text())
    best = dict(found["best"]["hyperparameters"])
    assert {name: request["HyperParameters"][name] for name in best} == best

    shown = kennel("tune", "--resume", "colours")
    assert shown.returncode == 0
    assert "search colours is Completed" in shown.stdout


def test_a_search_in_one_job_shows_the_same_table(kennel, colour_images, home):
    done = kennel("tune", "--in-one-job", "--data", colour_images, "--name", "one", *FEW)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^ +\d +Completed +1 ", done.stdout, re.MULTILINE)) == 3
    assert "kennel deploy --model one" in done.stdout
    assert (home / "tuning" / "one" / "tuning.html").is_file()
    assert [job.name for job in (home / "training-jobs").iterdir()] == ["one"]
    assert (home / "s3" / "kennel-local" / "training" / "one" / "output" / "model.tar.gz").is_file()


def test_a_dry_run_prints_the_request_and_starts_nothing(kennel, colour_images, home):
    done = kennel("tune", "--dry-run", "--data", colour_images, "--preset", "resnet50-head", "--weights", "none")
    assert done.returncode == 0, done.stderr
    request = json.loads(done.stdout)
    validate("CreateHyperParameterTuningJob", request)
    ranges = request["HyperParameterTuningJobConfig"]["ParameterRanges"]
    assert {entry["Name"] for entry in ranges["CategoricalParameterRanges"]} == {"batch_size", "optimizer", "fc_units"}
    assert request["TrainingJobDefinition"]["StaticHyperParameters"]["backbone"] == "resnet50"
    assert not (home / "tuning-jobs").exists()


def test_ctrl_c_leaves_a_search_running_that_can_be_followed_and_stopped(kennel, colour_images, home):
    arguments = ("tune", "--data", colour_images, "--name", "long", *LONG)
    with subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("trial=1; status=InProgress"):
                break
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert process.returncode == 130
    assert "`kennel tune --resume long` follows it again, `kennel stop long` ends it" in " ".join(rest.split())
    assert (
        json.loads((home / "tuning-jobs" / "long" / "status.json").read_text())["HyperParameterTuningJobStatus"]
        == "InProgress"
    )
    stopped = kennel("stop", "long")
    assert "search long is Stopped" in stopped.stdout, stopped.stderr


def read_until(terminal, text, limit=90):
    """Read what a program writes to its terminal until it has written `text`, and return all of it."""
    seen, deadline = "", time.monotonic() + limit
    while text not in seen:
        ready, _, _ = select.select([terminal], [], [], deadline - time.monotonic())
        assert ready, seen
        seen += os.read(terminal, 65536).decode(errors="replace")
    return seen


def test_ctrl_c_on_a_terminal_asks_and_stops_the_jobs(colour_images, home):
    arguments = command("tune", "--data", colour_images, "--name", "asked", *LONG)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        arguments,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - else Ctrl-C would be no signal
    )
    os.close(theirs)
    try:
        table = read_until(ours, "learning_rate=0.0005")
        assert all(head in table for head in ("trial", "status", "epoch", "objective", "hyperparameters"))
        os.write(ours, b"\x03")
        read_until(ours, "Stop the search with its running jobs? Otherwise it goes on. [y/N]")
        os.write(ours, b"y\n")
        read_until(ours, "search asked is Stopped")
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    running = [json.loads(file.read_text()) for file in (home / "training-jobs").glob("*/status.json")]
    assert {status["TrainingJobStatus"] for status in running} == {"Stopped"}


def test_a_killed_tuner_goes_on_with_resume(kennel, colour_images, home):
    started = kennel("tune", "--detach", "--data", colour_images, "--name", "killed", *FEW)
    assert started.returncode == 0, started.stderr
    lock = str(home / "tuning-jobs" / "killed" / "keeper.lock")
    deadline = time.monotonic() + 60
    while not list((home / "training-jobs").glob("killed-001-*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    tuner = holder_of(lock)
    os.kill(tuner.pid, signal.SIGKILL)
    tuner.wait(10)
    taken = kennel("tune", "--data", colour_images, "--name", "killed", *FEW)
    assert (taken.returncode, "must be unique" in taken.stderr) == (1, True)
    resumed = kennel("tune", "--resume", "killed")
    assert resumed.returncode == 0, resumed.stderr
    assert "search killed is Completed" in resumed.stdout
    assert len(list((home / "training-jobs").iterdir())) == 3


def test_a_search_that_fails_says_why_and_exits_with_1(kennel, colour_images, tmp_path):
    (tmp_path / "broken.pth").write_text("no weights")
    arguments = ("--range", "learning_rate=1e-4:1e-2:log", "--backbone", "resnet18", "--jobs", "4")
    failed = kennel("tune", "--data", colour_images, "--weights", tmp_path / "broken.pth", "--name", "bad", *arguments)
    assert failed.returncode == 1
    assert re.search("the search bad failed: The first [34] training jobs failed", failed.stderr)  # two end at a time
    assert "broken.pth is no readable state dict" in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--range", "colour=1:2"), "colour: there is no such hyperparameter; known are backbone, "),
        (("--range", "dropout=0.1:2"), "dropout=2: must be a number from 0 to 0.95"),
        (("--range", "dropout=0.5:0.1"), "the smallest value 0.5 is above the largest, 0.1"),
        (("--range", "dropout"), "should look like --range learning_rate=1e-5:1e-1:log"),
        (("--strategy", "grid", "--range", "dropout=0.1:0.5"), "dropout has a range instead of values"),
        (
            (
                "--strategy",
                "grid",
                *(f"--choice={n}={','.join(map(str, range(1, 31)))}" for n in ("epochs", "batch_size")),
            ),
            "the grid has 900 combinations; 750 are the most",
        ),
        (("--strategy", "magic"), "there is no strategy 'magic'; it is one of bayesian, random, hyperband, grid"),
        (("--objective", "beauty"), "'beauty' cannot be the objective, which is one of valid_loss"),
        (("--name", "n" * 33), "has 33 characters; the name of a search has 32 at most"),
        (("--jobs", "751"), "MaxNumberOfTrainingJobs is 751; Bayesian takes 750 at most"),
        (("--strategy", "hyperband"), "Hyperband needs MaxResource, or a static hyperparameter `epochs`"),
        (("--warm-start", "nobody"), "there is no tuning job nobody"),
        (("--preset", "magic"), "there is no preset magic; there are resnet50-head, "),
        (("--space", "missing.yaml"), "missing.yaml cannot be read"),
        (("--in-one-job", "--objective", "test_accuracy"), "in one job the objective is a metric of every epoch"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_starts(kennel, colour_images, home, arguments, complaint):
    refused = kennel("tune", "--data", colour_images, "--weights", "none", "--backbone", "resnet18", *arguments)
    assert refused.returncode == 1
    assert complaint in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not list((home / "tuning-jobs").glob("*"))


def test_a_search_without_data_or_of_an_unknown_name_is_refused(kennel):
    assert "give the images with --data DIR" in kennel("tune").stderr
    assert "there is no search nobody; see `kennel jobs`" in kennel("tune", "--resume", "nobody").stderr
    assert "there is no summary of a search nobody" in kennel("train", "--data", ".", "--from-tuning", "nobody").stderr


def test_a_full_disk_is_said_before_anything_starts(colour_images, home, monkeypatch, capsys):
    import shutil

    from kennel_cli import cli

    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10 * 2**20))
    monkeypatch.setattr(sys, "argv", ["kennel", "tune", "--data", str(colour_images), *FEW])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert re.search(r"the disk of .* has 0\.0 GB free, and the search needs 1\.2 GB", capsys.readouterr().err)
    assert not (home / "tuning-jobs").exists()


def test_a_search_in_one_job_needs_room_for_one_model(colour_images, home, tmp_path, monkeypatch, capsys):
    import shutil

    from kennel_cli import cli
    from kennel_cli.tune import command

    def send(*arguments):
        raise KennelError("sent")

    weights = tmp_path / "weights.pth"
    with weights.open("wb") as file:
        file.truncate(100 * 2**20)
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2**30))
    monkeypatch.setattr(command, "send", send)
    search = ["kennel", "tune", "--data", str(colour_images), "--weights", str(weights), "--jobs", "20"]
    for arguments, said in (([], "the search needs 4.4 GB"), (["--in-one-job"], "kennel: sent")):
        monkeypatch.setattr(sys, "argv", [*search, *arguments])
        with pytest.raises(SystemExit):
            cli.main()
        assert said in capsys.readouterr().err
