"""What `/execution-parameters` tells batch transform: how it should send its records (contract C4.2)."""

from kennel.container.environment import BATCH_STRATEGY, MAX_PAYLOAD, MAX_TRANSFORMS, number_variable, variable
from kennel.machine import available_cores

_ALL_PAYLOADS = 100  # megabytes that all concurrent requests may have together
_PAYLOAD = 6  # megabytes; the platform's own default, enough for any photo or for some fifty small ones


def most_requests(usual: int) -> int:
    """Return how many requests a server takes on at once: the usual number, or all that a job has been promised."""
    return max(usual, number_variable(MAX_TRANSFORMS, 0))


def transform_parameters(batch_size: int, max_requests: int) -> dict[str, str | int]:
    """Return the parameters for a model that takes `batch_size` images at once.

    As many requests at once as keep the machine at work when each has one image: a batch in the model, and an image
    in decoding on each core; no more than the server takes on, or than may be on their way together. What the job
    itself asks for, as the platform says in variables, comes first.
    """
    payload = number_variable(MAX_PAYLOAD, _PAYLOAD)
    most = _ALL_PAYLOADS // payload if payload else 1  # 0: bodies of any size, in chunks (contract C4.3)
    transforms = max(1, min(batch_size + available_cores(), max_requests, most))
    return {
        "MaxConcurrentTransforms": number_variable(MAX_TRANSFORMS, transforms),
        "BatchStrategy": variable(BATCH_STRATEGY, "MULTI_RECORD"),
        "MaxPayloadInMB": payload,
    }
