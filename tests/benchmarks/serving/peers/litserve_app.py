"""LitServe as its guide to image classification has it: base64 in JSON, batches of 8, a worker a core."""

import base64
import os

import litserve
import torch
from network import decode, load, probabilities


class ImageClassifier(litserve.LitAPI):
    def setup(self, device):
        self.network = load()

    def decode_request(self, request):
        return decode(base64.b64decode(request["image_data"]))

    def batch(self, inputs):
        return torch.stack(inputs)

    def predict(self, x):
        return probabilities(self.network, x)

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return {"probabilities": output}


if __name__ == "__main__":
    api = ImageClassifier(max_batch_size=8, batch_timeout=0.01)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=int(os.environ["BENCH_WORKERS"]))
    server.run(host="127.0.0.1", port=int(os.environ["BENCH_PORT"]), generate_client_file=False, log_level="warning")
