"""MLServer as its documentation has it: a custom runtime, base64 in the V2 protocol, adaptive batches of 8 at most."""

import torch
from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from network import decode, load, probabilities
from numpy import asarray, float32


class ImageClassifier(MLModel):
    async def load(self) -> bool:
        self.network = load()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        pictures = Base64Codec.decode_input(payload.inputs[0])
        rows = probabilities(self.network, torch.stack([decode(picture) for picture in pictures]))
        output = NumpyCodec.encode_output("probabilities", asarray(rows, float32))
        return InferenceResponse(model_name=self.name, outputs=[output])
