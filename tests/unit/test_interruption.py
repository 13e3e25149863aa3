import json
import os
import subprocess
import sys

import pytest
import torch

from kennel.model.torchvision_models import models
from tests.samples import write_colour_images

KILLS = os.environ.get("KENNEL_KILLS", "4")  # 50 and more take minutes


@pytest.fixture
def interrupt(tmp_path):
    """Interrupt jobs at random moments, and return what happened."""

    def run(signal, count, *hyperparameters, seed=0):
        write_colour_images(tmp_path / "data", train=20, valid=8, side=40)
        torch.manual_seed(2)
        torch.save(models.shufflenet_v2_x0_5(weights=None).state_dict(), tmp_path / "weights.pth")
        command = [sys.executable, "-m", "tests.interruptions", tmp_path, signal, str(count), str(seed)]
        done = subprocess.run([*command, *hyperparameters], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.mark.parametrize(
    "hyperparameters",
    [
        ["epochs=40", "dropout=0.3", "optimizer=adam"],
        ["unfreeze=all", "augment=trivialaugment", "mixup=0.2", "cutmix=1", "ema_decay=0.9", "scheduler=onecycle"],
        ["unfreeze=2", "test_time_augment=flip", "optimizer=sgd", "class_weights=balanced"],
        ["weights=none", "optimizer=rmsprop", "ema_decay=0.9", "statistics=dataset"],
    ],
    ids=["head", "all", "two blocks", "from scratch"],
)
def test_a_job_killed_at_random_moments_ends_as_if_it_had_not_been_a6_2_a6_3(interrupt, hyperparameters):
    happened = interrupt("SIGKILL", KILLS, *hyperparameters)
    assert all(result == happened["whole"] for result in happened["finished"]), happened


def test_a_job_asked_to_stop_at_any_moment_ends_soon_and_keeps_the_model_that_was_due_a1_9(interrupt):
    happened = interrupt("SIGTERM", 10, "unfreeze=all")
    for stopped in happened["interruptions"]:
        assert stopped["seconds"] < 20
        lines = [line for line in stopped["lines"] if line.startswith(("epoch=", "resume"))]
        ended = [line for line in lines if not line.endswith("phase=head; epoch=1;")]  # whose first epoch had not ended
        assert stopped["model"] or not ended, stopped
    assert all(result == happened["whole"] for result in happened["finished"]), happened
