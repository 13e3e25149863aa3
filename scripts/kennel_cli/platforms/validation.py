"""Check a request as SageMaker does, against the service model that botocore carries."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import botocore.session
import regex
from botocore.exceptions import ClientError, ParamValidationError
from botocore.model import ServiceModel, Shape
from botocore.validate import ParamValidator

# some patterns are in Java's 16-bit units, where this range stands for all characters beyond U+FFFF
_ASTRAL = (r"\uD800\uDC00-\uDBFF\uDFFF", r"\U00010000-\U0010FFFF")


@cache
def service_model(service: str) -> ServiceModel:
    """Return botocore's description of a service's API."""
    return botocore.session.get_session().get_service_model(service)


def validate(operation: str, request: Mapping[str, Any], service: str = "sagemaker") -> None:
    """Check the request of an operation such as `CreateTrainingJob`.

    Raises botocore's ParamValidationError for missing, unknown and wrongly typed members, as boto3 does before it
    sends anything; and a ClientError with the code ValidationException for patterns, enumerations and lengths, as the
    service does.
    """
    shape = service_model(service).operation_model(operation).input_shape
    report = ParamValidator().validate(request, shape)
    if report.has_errors():
        raise ParamValidationError(report=report.generate_report())
    problems = list(_problems(request, shape, ""))
    if problems:
        count = f"{len(problems)} validation error{'s' if len(problems) > 1 else ''} detected: "
        raise client_error("ValidationException", count + "; ".join(problems), operation)


def client_error(code: str, message: str, operation: str, **more: Any) -> ClientError:
    """Return the exception that boto3 raises when the service answers with an error."""
    metadata = {"HTTPStatusCode": 424 if code == "ModelError" else 400, "RetryAttempts": 0}
    response: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": metadata, **more}
    return ClientError(response, operation)


def _problems(value: Any, shape: Shape, path: str) -> Iterator[str]:
    """Yield what botocore's own validator leaves to the service: maxima, enumerations, patterns."""
    if shape.type_name == "structure":
        for name, member in value.items():
            yield from _problems(member, shape.members[name], _join(path, name[0].lower() + name[1:]))
    elif shape.type_name == "list":
        yield from _length_problem(value, shape, path)
        for number, member in enumerate(value, start=1):
            yield from _problems(member, shape.member, _join(path, f"{number}.member"))
    elif shape.type_name == "map":
        yield from _length_problem(value, shape, path)
        for key, member in value.items():
            yield from _problems(key, shape.key, path)
            yield from _problems(member, shape.value, _join(path, f"{key}.member"))
    elif shape.type_name == "string":
        yield from _length_problem(value, shape, path)
        pattern, choices = shape.metadata.get("pattern"), shape.metadata.get("enum")
        if pattern and not regex.fullmatch(pattern.replace(*_ASTRAL), value):
            yield _problem(value, path, f"Member must satisfy regular expression pattern: {pattern}")
        if choices and value not in choices:
            yield _problem(value, path, f"Member must satisfy enum value set: [{', '.join(choices)}]")
    elif shape.type_name in ("integer", "long", "float", "double"):
        most = shape.metadata.get("max")
        if most is not None and value > most:
            yield _problem(value, path, f"Member must have value less than or equal to {most}")


def _length_problem(value: Any, shape: Shape, path: str) -> Iterator[str]:
    most = shape.metadata.get("max")
    if most is not None and len(value) > most:
        yield _problem(value, path, f"Member must have length less than or equal to {most}")


def _problem(value: Any, path: str, constraint: str) -> str:
    return f"Value '{value}' at '{path}' failed to satisfy constraint: {constraint}"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
