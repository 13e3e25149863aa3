import subprocess
import sys

import pytest

from kennel_cli.platforms.ports import free_port

TRAIN = """
import sys, torch
from kennel.hyperparameters import parse_hyperparameters
from kennel.training.optimizer import make_optimizer, make_scheduler

def step(optimizer):
    module = torch.nn.Linear(4, 2)
    hp = parse_hyperparameters({"optimizer": optimizer})
    made = make_optimizer(module.parameters(), hp)
    schedule = make_scheduler(made, hp, steps=3)
    before = module.weight.detach().clone()
    module(torch.ones(3, 4)).sum().backward()
    made.step()
    schedule.step()
    made.zero_grad()
    assert not torch.equal(module.weight, before)

for optimizer in ("adam", "adamw", "rmsprop", "sgd"):
    step(optimizer)
"""


def run(code):
    done = subprocess.run([sys.executable, "-c", TRAIN + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_optimizers_do_not_import_the_compiler():
    run("assert not any(name.startswith('torch._dynamo.') for name in sys.modules)")


def test_several_processes_do_not_import_the_compiler():
    run(
        "import os, torch.distributed as dist\n"
        f"os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT='{free_port()}', RANK='0', WORLD_SIZE='1')\n"
        "dist.init_process_group('gloo')\n"
        "module = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 2))\n"
        "module(torch.ones(3, 4)).sum().backward()\n"
        "assert not any(name.startswith('torch._dynamo.') for name in sys.modules)\n"
        "assert torch._dynamo.utils.is_compile_supported  # and whoever wants more gets the real one\n"
    )


@pytest.mark.parametrize(
    "code",
    [
        "assert torch.compile(lambda x: x * 2, backend='eager')(torch.ones(1)).item() == 2",
        "import torch._dynamo.utils; assert torch._dynamo.utils.is_compile_supported",
        "from torch.nn.parallel import DistributedDataParallel; import torch._dynamo; torch._dynamo.config.verbose",
        "import torchvision.ops",
    ],
)
def test_whoever_needs_the_compiler_gets_the_real_one_and_training_goes_on(code):
    run(f"{code}\nassert 'torch._dynamo.config' in sys.modules\nstep('adamw')")
