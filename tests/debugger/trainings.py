"""Small trainings with smdebug's own hook, healthy or made wrong on purpose, each a trial folder on disk."""

import collections
import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

FEATURES, CLASSES, BATCH = 16, 3, 64  # a sample is an image of 4 × 4 grey pixels


@dataclass(frozen=True)
class Recipe:
    """A training: a healthy one unless something is changed."""

    activation: Callable[[], nn.Module] = nn.ReLU
    called: str = "relu"  # by which name the hook knows the activation
    learning_rate: float = 0.05
    epochs: int = 6
    steps: int = 10  # an epoch
    spare: int = 0  # training images; 0 draws new ones for each step
    weights: float = 1.0  # what the first weights are multiplied with
    bias: float = 0.0
    scale: float = 1.0  # of the inputs
    offset: float = 0.0
    shuffled: bool = False  # labels say nothing
    shares: tuple[float, ...] = (1, 1, 1)  # of the classes
    depth: int = 1  # hidden layers beside the first
    evaluated: bool = True
    modes: bool = True  # whether the hook is told them
    reductions: bool = False  # saves those instead of whole tensors
    clock: Callable[[int], float] | None = None  # seconds that pass before a step
    frozen: bool = False  # the first layer
    seed: int = 0


def network(recipe: Recipe) -> nn.Module:
    blocks, width = collections.OrderedDict(flatten=nn.Flatten()), FEATURES
    for index in range(recipe.depth + 1):
        layer = nn.Linear(width, 32)
        nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
        layer.weight.data.mul_(recipe.weights)
        layer.bias.data.fill_(recipe.bias)
        block = collections.OrderedDict(linear=layer)
        block[recipe.called] = recipe.activation()
        blocks[f"block{index}"], width = nn.Sequential(block), 32
    blocks["head"] = nn.Linear(width, CLASSES)
    blocks["head"].weight.data.mul_(recipe.weights)
    if recipe.frozen:
        blocks["block0"].requires_grad_(False)
    return nn.Sequential(blocks)


def train(recipe: Recipe, folder: Path) -> Path:
    """Train, with everything saved that a rule could want, and return the trial's folder."""
    with quiet():
        import smdebug.pytorch as smd
        from smdebug.core.tfevent import event_file_writer

        torch.manual_seed(recipe.seed)
        numbers = torch.Generator().manual_seed(recipe.seed)
        centres = torch.eye(CLASSES, FEATURES) * 3.5
        centres -= centres.mean(dim=0)
        shares = torch.tensor(recipe.shares, dtype=torch.float)

        def draw(count: int) -> tuple[torch.Tensor, torch.Tensor]:
            labels = torch.multinomial(shares, count, replacement=True, generator=numbers)
            values = centres[labels] + torch.randn(count, FEATURES, generator=numbers)
            if recipe.shuffled:
                labels = labels[torch.randperm(count, generator=numbers)]
            return (values * recipe.scale + recipe.offset).view(-1, 1, 4, 4), labels

        net, loss = network(recipe), nn.CrossEntropyLoss(label_smoothing=0.1)
        hook = smd.Hook(
            out_dir=str(folder),
            save_config=smd.SaveConfig(save_interval=1),
            include_collections=["losses", "weights", "biases", "gradients"],
            include_regex=[".*(relu|tanh|sigmoid)_(in|out)put_0", "Sequential_input_0"],
            reduction_config=smd.ReductionConfig(reductions=["mean", "min"], abs_reductions=["mean"])
            if recipe.reductions
            else None,
        )
        hook.register_module(net)
        hook.register_loss(loss)
        few, clock, done = draw(recipe.spare or 1), 1_700_000_000.0, 0
        now = 0.0
        with pytest.MonkeyPatch.context() as patch:
            if recipe.clock:
                patch.setattr(event_file_writer, "time", type("Clock", (), {"time": staticmethod(lambda: clock + now)}))
            for _ in range(recipe.epochs):
                if recipe.modes:
                    hook.set_mode(smd.modes.TRAIN)
                for _ in range(recipe.steps):
                    now += recipe.clock(done) if recipe.clock else 0.0
                    done += 1
                    values, labels = few if recipe.spare else draw(BATCH)
                    scores = net(values)
                    keep(hook, scores, labels)
                    net.zero_grad()
                    loss(scores, labels).backward()
                    for weight in net.parameters():  # no torch.optim: importing it takes seconds
                        if weight.grad is not None:
                            weight.data.sub_(recipe.learning_rate * weight.grad)
                if recipe.evaluated:
                    hook.set_mode(smd.modes.EVAL)
                    with torch.no_grad():
                        for _ in range(2):
                            values, labels = draw(8 * BATCH)
                            scores = net(values)
                            keep(hook, scores, labels)
                            loss(scores, labels)
            hook.close()
            smd.del_hook()
    return folder


def keep(hook: Any, scores: torch.Tensor, labels: torch.Tensor) -> None:
    if hook.reduction_config.save_raw_tensor:  # smdebug cannot take the mean of whole numbers
        hook.save_tensor("labels", labels)
    hook.save_tensor("predictions", scores.detach())


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    logger = logging.getLogger("smdebug")
    os.environ.setdefault("SMDEBUG_LOG_LEVEL", "off")
    logger.disabled = True
    with warnings.catch_warnings(action="ignore"):
        yield


TRAININGS = {
    "healthy": Recipe(),
    "healthy with tanh": Recipe(nn.Tanh, "tanh"),
    "healthy with a frozen layer": Recipe(frozen=True, epochs=2),
    "healthy, without modes": Recipe(evaluated=False, modes=False),
    "healthy, only reductions": Recipe(reductions=True, epochs=2),
    "healthy, another seed": Recipe(seed=1),
    "learning rate of 1e3": Recipe(learning_rate=1e3, epochs=2),
    "learning rate of 0": Recipe(learning_rate=0.0, spare=64, epochs=3),
    "weights of zero": Recipe(weights=0.0, epochs=2),
    "weights of a ten-thousandth": Recipe(weights=1e-4, depth=3, epochs=2),
    "shuffled labels": Recipe(shuffled=True, epochs=2),
    "twelve images": Recipe(spare=12, epochs=10, learning_rate=0.3, shuffled=True),
    "one class": Recipe(shares=(0, 1, 0), epochs=2),
    "one rare class": Recipe(shares=(1, 1, 0.03), epochs=2),
    "huge negative bias": Recipe(bias=-100.0, epochs=2),
    "tanh of huge inputs": Recipe(nn.Tanh, "tanh", scale=1e3, epochs=2),
    "sigmoids": Recipe(nn.Sigmoid, "sigmoid", depth=6, weights=0.1, epochs=2),
    "brighter images": Recipe(offset=0.5, epochs=2),
    "a night between two steps": Recipe(clock=lambda step: 8 * 3600.0 if step == 15 else 1.0, epochs=2),
}


class Trials:
    """Trial folders by the name of what is wrong; each is trained once, when first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, name: str) -> Path:
        path = self.folder / name.replace(",", "").replace(" ", "-")
        return path if path.exists() else train(TRAININGS[name], path)
