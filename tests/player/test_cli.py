"""The command `kennel`, as a user types it."""

import json
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from tests.samples import save_random_model

SMALL = ("--weights", "none", "--backbone", "resnet18", "--image-size", "32", "--epochs", "2", "--batch-size", "8")
COMMANDS = ("train", "jobs", "logs", "stop", "deploy", "invoke", "delete", "data", "demo", "report", "bench-endpoint")


def test_help_lists_the_commands_and_the_hyperparameters(kennel):
    listed = kennel("--help")
    assert listed.returncode == 0
    assert all(f" {command} " in listed.stdout for command in COMMANDS)
    options = kennel("train", "--help").stdout
    assert "--learning-rate" in options
    assert "default 0.0005" in " ".join(options.replace("│", " ").split())


def test_without_a_file_torchvisions_weights_are_tried_and_what_else_would_do_is_said(
    kennel, colour_images, monkeypatch
):
    monkeypatch.setenv("KENNEL_WEIGHTS_URL", "http://127.0.0.1:9")
    failed = kennel("train", "--data", colour_images, "--backbone", "resnet18")
    assert failed.returncode == 1
    assert "give a state dict with `kennel train --weights FILE`" in failed.stderr.splitlines()[-1]
    assert "http://127.0.0.1:9/resnet18" in failed.stderr.splitlines()[-1]


def test_a_job_or_a_folder_is_continued(kennel, colour_images, tmp_path):
    small = ("--data", colour_images, "--epochs", "1", "--batch-size", "8")
    first = kennel("train", *small, "--weights", "none", "--backbone", "resnet18", "--image-size", "32", "--name", "a")
    assert first.returncode == 0, first.stderr
    folder = save_random_model(tmp_path / "model")
    for model in ("a", folder):
        again = kennel("train", *small, "--from-model", model)
        assert again.returncode == 0, again.stderr
        assert "continue backbone=resnet18; image_size=32; before=32;" in again.stdout
        assert "continue head fc_units=" in again.stdout
    refused = kennel("train", *small, "--from-model", "no such job")
    assert (refused.returncode, "neither a training job" in refused.stderr) == (1, True)
    refused = kennel("train", *small, "--from-model", folder, "--weights", "none")
    assert (refused.returncode, "leave out one" in refused.stderr) == (1, True)


@pytest.mark.parametrize("text", ["{", "[]", '{"backbone": "resnet18"}'])
def test_a_damaged_model_folder_is_not_continued_and_says_so(kennel, colour_images, tmp_path, text):
    (tmp_path / "kennel.json").write_text(text)
    refused = kennel("train", "--data", colour_images, "--from-model", tmp_path)
    assert (refused.returncode, "kennel.json is damaged" in " ".join(refused.stderr.split())) == (1, True)
    assert "Traceback" not in refused.stderr


def test_train_deploy_invoke_and_delete_do_the_whole_way(kennel, colour_images, home):
    trained = kennel("train", "--data", colour_images, "--name", "colours", *SMALL)
    assert trained.returncode == 0, trained.stderr
    assert "epoch=2 train_loss=" in trained.stdout
    assert "job colours is Completed" in trained.stdout
    assert str(home / "s3" / "kennel-local" / "training" / "colours" / "output" / "model.tar.gz") in trained.stdout
    assert "colours" in kennel("jobs").stdout
    assert "best_epoch=" in kennel("logs", "colours").stdout

    deployed = kennel("deploy", "--model", "colours")
    assert deployed.returncode == 0, deployed.stderr
    assert "endpoint colours is in service at http://127.0.0.1:" in deployed.stdout
    try:
        pictures = [colour_images / "test" / name / "0.png" for name in ("red", "blue")]
        answered = kennel("invoke", *pictures, "--top-k", "2")
        assert answered.returncode == 0, answered.stderr
        assert answered.stdout.count("probability") == 2
        assert "best_epoch=" in kennel("logs", "colours").stdout
        assert "ready engine=" in kennel("logs", "colours", "--endpoint").stdout
        refused = kennel("invoke", colour_images.parent)
        assert (refused.returncode, "there is no picture" in refused.stderr) == (1, True)
        broken = home / "broken.jpg"
        broken.write_text("no picture")
        refused = kennel("invoke", broken)
        assert refused.returncode == 1
        assert "not an image of a known format" in refused.stderr
        again = kennel("deploy", "--model", "colours")
        assert "there is an endpoint colours already; replace its model with `kennel update colours`" in again.stderr
        kept = kennel("delete", "colours", input="n\n")
        assert kept.returncode == 1
        assert "InService" in kennel("jobs").stdout
    finally:
        deleted = kennel("delete", "colours", "--yes")
    assert deleted.returncode == 0, deleted.stderr
    assert "colours" in kennel("jobs").stdout  # the job stays
    assert "no endpoint is in service" in kennel("invoke", pictures[0]).stderr


def test_a_model_folder_is_deployed_as_it_lies(kennel, random_model, colour_images):
    assert kennel("deploy", "--model", random_model, "--name", "folder").returncode == 0
    try:
        assert kennel("invoke", colour_images / "test" / "red" / "0.png").returncode == 0
    finally:
        assert kennel("delete", "folder", "-y").returncode == 0


def test_an_update_replaces_the_model_of_a_running_endpoint(kennel, random_model, colour_images, tmp_path, home):
    picture = colour_images / "test" / "red" / "0.png"
    two = save_random_model(tmp_path / "two", classes=2)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "kennel.json").write_text("{}")
    nobody = kennel("update", "--model", two)
    assert (nobody.returncode, "no endpoint is in service" in nobody.stderr) == (1, True)
    assert kennel("deploy", "--model", random_model, "--name", "shown").returncode == 0
    try:
        assert "red" in kennel("invoke", picture).stdout
        updated = kennel("update", "--model", two)  # the only endpoint
        assert updated.returncode == 0, updated.stderr
        assert "endpoint shown is in service at http://127.0.0.1:" in updated.stdout
        answered = kennel("invoke", picture).stdout
        assert ("green" in answered, "red" in answered) == (True, False)

        failed = kennel("update", "shown", "--model", tmp_path / "bad")
        assert failed.returncode == 1
        assert "serves as before" in failed.stderr
        assert kennel("invoke", picture).stdout == answered
    finally:
        assert kennel("delete", "shown", "-y").returncode == 0
    assert [file.name for kind in ("models", "endpoint-configs") for file in (home / kind).iterdir()] == []


def test_a_detached_job_is_followed_and_stopped_later(kennel, colour_images):
    started = kennel("train", "--data", colour_images, "--name", "long", "--detach", *SMALL, "--epochs", "1000")
    assert started.returncode == 0, started.stderr
    stopped = kennel("stop", "long")
    assert stopped.returncode == 0, stopped.stderr
    assert "job long is Stopped" in stopped.stdout
    assert kennel("stop", "long").returncode == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("train", "--data", "/no/such/folder"), "there is no folder /no/such/folder"),
        (("train", "--data", "/", "--epochs", "0", "--optimizer", "lion"), "epochs=0: must be a whole number from 1"),
        (("train", "--data", "/", "--weights", "/no/file"), "there is no weights file /no/file"),
        (("train", "--data", "/", "--name", "under_score", *SMALL), "Member must satisfy regular expression pattern"),
        (("deploy", "--model", "nothing"), "nothing is neither a training job"),
        (("update", "nothing", "--model", "x"), "Could not find endpoint"),
        (("logs", "nothing"), "there is no job or endpoint nothing"),
        (("stop", "nothing"), "Requested resource not found"),
        (("delete", "nothing"), "Could not find endpoint"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_1(kennel, arguments, sentence):
    ended = kennel(*arguments)
    assert ended.returncode == 1
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stderr.startswith("kennel: ")


def test_a_home_that_cannot_be_written_is_one_sentence(kennel, home, colour_images):
    home.write_text("a file, not a folder")
    ended = kennel("train", "--data", colour_images, *SMALL)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"kennel: {home}")
    assert "Traceback" not in ended.stderr


def test_files_in_the_users_folder_do_not_shadow_modules(kennel, home, colour_images, tmp_path, monkeypatch):
    (tmp_path / "tarfile.py").write_text("raise RuntimeError('shadowed')")
    monkeypatch.chdir(tmp_path)
    assert kennel("train", "--data", colour_images, *SMALL).returncode == 0


def test_a_failed_job_is_exit_code_1_with_its_reason(kennel, colour_images):
    ended = kennel("train", "--data", colour_images / "train" / "red", *SMALL)
    assert ended.returncode == 1
    assert "failed: no `train` split" in ended.stderr


def test_the_light_client_needs_none_of_the_images_packages(tmp_path):
    """Import the whole command line with every package that only the image holds hidden."""
    hidden = (
        "torch",
        "torchvision",
        "numpy",
        "gunicorn",
        "safetensors",
        "sagemaker_training",
        "optuna",
    )
    code = (
        "import importlib.abc, json, sys\n"
        f"hidden = {hidden!r}\n"
        "class Hide(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name.split('.')[0] in hidden:\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Hide())\n"
        "import pkgutil, kennel_cli\n"
        "for module in pkgutil.walk_packages(kennel_cli.__path__, 'kennel_cli.'):\n"
        "    if not module.name.endswith('.tuning_keeper'):\n"  # the local tuner, a program of its own
        "        __import__(module.name)\n"
        "print(json.dumps(sorted(name for name in sys.modules if name.split('.')[0] in hidden)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_a_user_without_the_images_packages_is_told_how_to_get_them(home, colour_images):
    code = (
        "import importlib.util, sys\n"
        "real = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, package=None: None if name == 'torch' else real(name, package)\n"
        f"sys.argv = ['kennel', 'train', '--data', {str(colour_images)!r}]\n"
        "from kennel_cli.cli import main; main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "torch is not installed" in done.stderr
    assert "make setup" in done.stderr


def test_progress_lines_are_for_logs_and_bars_for_terminals(sagemaker, request_for, finish, home):
    import io

    from rich.console import Console

    from kennel_cli.follow import follow_training
    from kennel_cli.platforms.local_platform import LocalPlatform

    sagemaker.create_training_job(**request_for())
    finish()
    plain, terminal = io.StringIO(), io.StringIO()
    follow_training(LocalPlatform(home), "job", Console(file=plain))
    follow_training(LocalPlatform(home), "job", Console(file=terminal, force_terminal=True))
    assert "progress step=decode; split=train; done=24; total=24;" in plain.getvalue()
    assert "\x1b" not in plain.getvalue()
    assert "progress step=" not in terminal.getvalue()
    assert "epoch=1 train_loss=" in terminal.getvalue()


def test_an_endpoint_that_was_deployed_to_explain_shows_where_it_sees_its_answer(kennel, tmp_path, monkeypatch):
    monkeypatch.setenv("BROWSER", "true")  # a program that opens nothing
    monkeypatch.chdir(tmp_path)
    picture = tmp_path / "dog.photo.png"
    Image.new("RGB", (50, 40), "red").save(picture)
    model = save_random_model(tmp_path / "model", image_size=64)
    assert kennel("deploy", "--model", model, "--name", "plain").returncode == 0
    refused = kennel("invoke", picture, "--explain")
    assert (refused.returncode, "not deployed with `--explain`" in refused.stderr) == (1, True)
    assert kennel("update", "--model", model, "--explain").returncode == 0
    shown = kennel("invoke", picture, "--explain", "--show", "--true-label", "red")
    unshown = kennel("invoke", picture, "--true-label", "red")
    (tmp_path / "more").mkdir()
    other = shutil.copy(picture, tmp_path / "more" / "dog.photo.png")
    strange = shutil.copy(picture, tmp_path / "dog [puppy].png")
    both = kennel("invoke", picture, other, strange, "--show")
    assert kennel("delete", "plain", "--yes").returncode == 0
    assert shown.returncode == 0, shown.stderr
    file = tmp_path / "dog.photo-explained.png"
    assert str(file) in shown.stdout
    with Image.open(file) as written:
        assert written.size == (64, 64)
    drawn = tmp_path / "dog.photo-predicted.png"
    assert f"the answer: {drawn}" in shown.stdout
    with Image.open(drawn) as written:
        assert written.width > 900
    assert both.returncode == 0, both.stderr
    assert (tmp_path / "dog.photo-2-predicted.png").is_file()
    assert "dog [puppy].png" in both.stdout
    assert f"the answer: {tmp_path / 'dog [puppy]-predicted.png'}" in both.stdout
    assert (unshown.returncode, "--true-label is drawn into the picture of --show" in unshown.stderr) == (1, True)
