"""Refusals of a request; each carries the HTTP status that the client gets."""

from kennel.errors import KennelError


class RequestError(KennelError):
    """A request that is not answered with a prediction. The message is the body's one sentence."""

    status = 400


class BadRequest(RequestError):
    """The body is not what its Content-Type says."""


class NotAcceptable(RequestError):
    """None of the answers that the client accepts can be given."""

    status = 406


class NotLoaded(RequestError):
    """There is no model of that name."""

    status = 404

    def __init__(self, name: str) -> None:
        super().__init__(f"the model {name} is not loaded")


class AlreadyLoaded(RequestError):
    """There is a model of that name already."""

    status = 409


class TooLarge(RequestError):
    """The body is larger than the server takes."""

    status = 413


class UnsupportedType(RequestError):
    """The body's Content-Type is none that the server reads."""

    status = 415


class Unprocessable(RequestError):
    """The body is well formed, but holds no image or no tensor that the model can take."""

    status = 422


class Late(RequestError):
    """The time is over in which the caller waits for an answer."""

    status = 503


class Gone(RequestError):
    """The client has closed its connection; the answer is for the log alone."""

    status = 499  # as nginx calls it


class Overloaded(RequestError):
    """More requests are waiting than the server wants to promise an answer to."""

    status = 503


class OutOfMemory(RequestError):
    """There is no memory for a model, or for what it computes; the platform unloads others and asks again."""

    status = 507
