"""The page's own server: it asks the model, so that no credentials reach the browser."""

import logging
import time
from dataclasses import dataclass

from flask import Flask, Response, render_template, request, send_from_directory
from flask.typing import ResponseReturnValue
from PIL import Image
from werkzeug.exceptions import HTTPException

from kennel.errors import KennelError
from kennel.report.pages import TEMPLATES
from kennel_cli.app.collection import Collection
from kennel_cli.app.guard import guard
from kennel_cli.prediction.answers import BUSY
from kennel_cli.predictor import ImagePredictor, PredictionError

log = logging.getLogger(__name__)

_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; "
    "frame-ancestors 'none'; form-action 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True)
class About:
    """What the page has to know of a model before the first photo."""

    labels: tuple[str, ...]
    explains: bool  # whether there are heat maps


def look_at(predictor: ImagePredictor) -> About:
    """Ask the model about a grey square. Raises what `ImagePredictor.ask` does when it answers nothing."""
    square = Image.new("RGB", (64, 64), "gray")
    try:
        answer = predictor.ask(square, explain=True)
    except PredictionError as error:
        if not 400 <= error.status < 500 or error.status in BUSY:
            raise
        answer = predictor.ask(square)  # it answers, and does not explain
    return About(answer.labels, bool(answer.explanation))


def create_page(predictor: ImagePredictor, about: About, collection: Collection, host: str) -> Flask:
    """Return the application that serves the page, and asks the model for it; it answers at `host`."""
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = predictor.limit
    guard(app, host)

    @app.get("/")
    def page() -> ResponseReturnValue:
        return render_template(
            "page.html", place=predictor.place, about=about, limit=predictor.limit, folder=collection.folder
        )

    @app.get("/style.css")
    def style() -> ResponseReturnValue:
        return send_from_directory(TEMPLATES, "style.css")

    @app.post("/predict")
    def predict() -> ResponseReturnValue:
        photo = request.get_data()
        began = time.perf_counter()
        predictions = predictor.predict(photo)
        return {
            "predictions": [{"label": p.label, "probability": p.probability} for p in predictions],
            "milliseconds": round((time.perf_counter() - began) * 1e3),
        }

    @app.post("/explain")
    def explain() -> ResponseReturnValue:
        return Response(predictor.ask(request.get_data(), top_k=1, explain=True).explanation, mimetype="image/png")

    @app.post("/collect")
    def collect() -> ResponseReturnValue:
        return {"file": str(collection.add(request.get_data(), request.args.get("label", "")))}

    @app.after_request
    def protect(response: Response) -> Response:
        response.headers.update(_HEADERS)
        return response

    _answer_errors(app, predictor.limit)
    return app


def _answer_errors(app: Flask, limit: int) -> None:
    """Answer what goes wrong with one sentence."""

    @app.errorhandler(KennelError)
    def refuse(error: KennelError) -> ResponseReturnValue:
        status = error.status or 502 if isinstance(error, PredictionError) else 400
        return {"error": str(error)}, status

    @app.errorhandler(413)
    def refuse_large(error: HTTPException) -> ResponseReturnValue:
        return {"error": f"the photo is larger than {limit / 2**20:g} MB, which the model does not take"}, 413

    @app.errorhandler(HTTPException)
    def refuse_http(error: HTTPException) -> ResponseReturnValue:
        return {"error": error.description or error.name}, error.code or 500

    @app.errorhandler(Exception)
    def fail(error: Exception) -> ResponseReturnValue:
        log.error("a request of the page failed", exc_info=error)
        return {"error": f"{error}; the terminal with `kennel app` says more"}, 500
