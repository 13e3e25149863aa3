"""An inference.py as AWS's samples have it: an NPY or JSON tensor in, scores out, with the toolkit's own codecs."""

import os

import torch
from model import net
from sagemaker_inference import content_types, decoder, encoder


def model_fn(model_dir):
    model = net()
    model.load_state_dict(torch.load(os.path.join(model_dir, "model.pth"), map_location="cpu"))
    model.eval()
    return model


def input_fn(serialized_input_data, content_type):
    array = decoder.decode(serialized_input_data, content_type)
    return torch.from_numpy(array).float()


def predict_fn(input_data, model):
    with torch.no_grad():
        return model(input_data)


def output_fn(prediction_output, accept=content_types.JSON):
    array = prediction_output.detach().cpu().numpy()
    return encoder.encode(array, accept), accept
