"""Bodies of requests."""

import base64
import io
import json

import numpy as np
from PIL import Image


def picture(kind="JPEG", size=(60, 40), colour=(200, 50, 40)):
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, kind)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def b64(data):
    return {"b64": base64.b64encode(data).decode()}


def instances(*pictures):
    return json.dumps({"instances": [b64(data) for data in pictures]})
