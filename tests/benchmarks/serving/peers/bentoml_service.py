"""BentoML as its documentation has it: a batchable method that takes pictures, adaptive batches of 8 at most."""

import os

import bentoml
import torch
from network import load, probabilities, to_tensor
from PIL.Image import Image


@bentoml.service(workers=int(os.environ["BENCH_WORKERS"]), traffic={"timeout": 60})
class ImageClassifier:
    def __init__(self) -> None:
        self.network = load()

    @bentoml.api(batchable=True, max_batch_size=8, max_latency_ms=10_000)
    def classify(self, images: list[Image]) -> list[list[float]]:
        return probabilities(self.network, torch.stack([to_tensor(image.convert("RGB")) for image in images]))
