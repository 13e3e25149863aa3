"""The usual sample: Flask, one picture after the other, under gunicorn's sync workers."""

from flask import Flask, jsonify, request
from network import decode, load, probabilities

app = Flask(__name__)
network = load()


@app.get("/ping")
def ping():
    return "", 200


@app.post("/invocations")
def invocations():
    return jsonify(probabilities(network, decode(request.data)[None]))
