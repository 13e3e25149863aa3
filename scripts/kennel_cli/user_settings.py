"""What the user has set: in `kennel.toml`, in variables, and with options, each going before the one before it."""

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, cast

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from kennel.errors import KennelError
from kennel_cli.platforms.validation import service_model
from kennel_cli.settings import Settings
from kennel_cli.settings_file import SETTINGS_FILE, settings_file

if TYPE_CHECKING:
    from mypy_boto3_sagemaker.literals import ProductionVariantInstanceTypeType, TrainingInstanceTypeType


class SettingsError(KennelError):
    """One or more settings are missing or malformed; the message lists all of them."""


def _form(pattern: str, right: str) -> AfterValidator:
    """Let a text through that is empty or has a form; `right` says that form in words."""
    compiled = re.compile(pattern, re.ASCII)

    def check(value: str) -> str:
        if value and not compiled.fullmatch(value):
            raise ValueError(right)
        return value

    return AfterValidator(check)


def _instance(shape: str, example: str) -> AfterValidator:
    """Let an instance type through that the service's model lists under `shape`."""

    def check(value: str) -> str:
        if value not in service_model("sagemaker").shape_for(shape).metadata["enum"]:
            raise ValueError(f"a type that the installed boto3 knows, such as {example}")
        return value

    return AfterValidator(check)


def _split(value: Any) -> Any:
    """Read `a,b` as a list."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _split_tags(value: Any) -> Any:
    """Read `team=vision,project=dogs` as a table."""
    if not isinstance(value, str):
        return value
    tags: dict[str, str] = {}
    for part in _split(value):
        key, sign, text = (piece.strip() for piece in part.partition("="))
        if not sign or not key or key in tags:
            raise ValueError(f"key=value pairs, such as team=vision,project=dogs; {part!r} is none, or comes twice")
        tags[key] = text
    return tags


def _all(pattern: str, right: str) -> AfterValidator:
    """Let a list through each of whose members has a form."""

    def check(values: tuple[str, ...]) -> tuple[str, ...]:
        if not all(re.fullmatch(pattern, value, re.ASCII) for value in values):
            raise ValueError(right)
        return values

    return AfterValidator(check)


_ROLE = _form(
    r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+",
    "the ARN of a role, such as arn:aws:iam::123456789012:role/kennel",
)
_IMAGE = re.compile(
    r"\d{12}\.dkr\.ecr(-fips)?\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/[a-z0-9._/-]+(:[\w.-]+)?(@sha256:[0-9a-f]{64})?",
    re.ASCII,
)
_RIGHT_IMAGE = (
    "the URI of the image in Amazon ECR, as `make push` prints it, such as "
    "123456789012.dkr.ecr.eu-west-1.amazonaws.com/kennel@sha256:…"
)
_BUCKET = _form(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "the name of a bucket alone, such as my-bucket, without s3://")
_PREFIX = _form(
    r"[\w!.*'()-]+(/[\w!.*'()-]+)*", "a folder in the bucket, such as vision/dogs, without slashes around it"
)


_Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


class UserSettings(BaseSettings):
    """All settings, with their defaults; empty is not set.

    A value comes from an option, else from the variable `KENNEL_` and its name, else from `kennel.toml`.
    """

    model_config = SettingsConfigDict(
        env_prefix="KENNEL_", env_ignore_empty=True, extra="forbid", frozen=True, populate_by_name=True
    )

    region: Annotated[str, Field(validation_alias=AliasChoices("KENNEL_REGION", "AWS_REGION"))] = ""
    role: Annotated[str, _ROLE] = ""
    endpoint_role: Annotated[str, _ROLE] = ""
    bucket: Annotated[str, _BUCKET] = ""
    prefix: Annotated[str, _PREFIX] = ""
    repository: str = "kennel"
    image: str = ""  # of any form: builds on this machine call theirs by the same variable
    training_instance: Annotated[str, _instance("TrainingInstanceType", "ml.g5.xlarge")] = "ml.g5.xlarge"
    endpoint_instance: Annotated[str, _instance("ProductionVariantInstanceType", "ml.m5.large")] = "ml.m5.large"
    subnets: Annotated[_Names, _all(r"subnet-[0-9a-f]+", "subnets, such as subnet-0a1b,subnet-2c3d")] = ()
    security_groups: Annotated[_Names, _all(r"sg-[0-9a-f]+", "security groups, such as sg-0a1b")] = ()
    kms_key: str = ""
    tags: Annotated[Mapping[str, str], NoDecode, BeforeValidator(_split_tags)] = {}
    prices: Mapping[str, Any] = {}  # read by kennel_cli.operations.prices, which says what is wrong there

    @property
    def key_prefix(self) -> str:
        """What all keys in the bucket begin with."""
        return f"{self.prefix}/" if self.prefix else ""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return options, variables and the file, the first one first."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, settings_file())


def read_settings(options: Mapping[str, str]) -> UserSettings:
    """Return the settings; `options` holds those that were given on the command line.

    Raises SettingsError with one sentence for each that is malformed or that nobody knows.
    """
    try:
        return UserSettings(**cast(dict[str, Any], options))
    except ValidationError as error:
        raise SettingsError("; ".join(_sentence(problem, options) for problem in error.errors())) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{settings_file()} is not TOML ({error}); mend it, or move it away") from None


def aws_settings(given: UserSettings, options: Mapping[str, str], default_bucket: Callable[[], str]) -> Settings:
    """Return the settings of requests to AWS, from those that were read with `options`.

    `default_bucket` is asked only when no bucket is named. Raises SettingsError with one sentence for each setting that
    is missing or malformed.
    """
    problems = []
    if not given.role:
        problems.append(missing("role", "the ARN of the role that jobs take on, as `kennel init` makes one"))
    if not given.image:
        problems.append(missing("image", _RIGHT_IMAGE))
    elif not _IMAGE.fullmatch(given.image):
        problems.append(_wrong("image", given.image, _RIGHT_IMAGE, options))
    if bool(given.subnets) != bool(given.security_groups):
        problems.append("subnets and security_groups go together; set both, or none of them")
    if problems:
        raise SettingsError("; ".join(problems))
    return Settings(
        role_arn=given.role,
        endpoint_role_arn=given.endpoint_role or given.role,
        bucket=given.bucket or default_bucket(),
        prefix=given.key_prefix,
        image=given.image,
        training_instance=cast("TrainingInstanceTypeType", given.training_instance),
        endpoint_instance=cast("ProductionVariantInstanceTypeType", given.endpoint_instance),
        subnets=given.subnets,
        security_groups=given.security_groups,
        kms_key=given.kms_key,
        tags=given.tags,
    )


def origin(name: str, options: Mapping[str, str]) -> str:
    """Return where the value of a setting comes from: an option, a variable, the file's path, or `default`."""
    if name in options:
        return f"--{name.replace('_', '-')}"
    for variable in variables(name):
        if os.environ.get(variable):
            return variable
    file = settings_file()
    if file is not None and name in tomllib.loads(file.read_text(encoding="utf-8")):
        return str(file)
    return "default"


def variables(name: str) -> tuple[str, ...]:
    """Return the variables that set a setting, the first one first."""
    own = f"KENNEL_{name.upper()}"
    return (own, "AWS_REGION") if name == "region" else (own,)


def missing(name: str, right: str) -> str:
    """Return the sentence for a setting that a command cannot do without."""
    return f"{name} is not set; put it into {SETTINGS_FILE} or {variables(name)[0]}: {right}"


def _sentence(problem: Any, options: Mapping[str, str]) -> str:
    """Say what is wrong with one setting, and what would be right."""
    name = str(problem["loc"][0])
    field = next((field for field in UserSettings.model_fields if name in (field, *variables(field))), None)
    if field is None:
        known = ", ".join(UserSettings.model_fields)
        return f"{settings_file()} has {name}, which is no setting; settings are {known}"
    return _wrong(field, problem["input"], str(problem["msg"]).removeprefix("Value error, "), options)


def _wrong(name: str, value: object, right: str, options: Mapping[str, str]) -> str:
    where = origin(name, options)
    named = f"{name} in {where}" if where == str(settings_file()) else where
    return f"{named} is {value!r}; it should be {right}"
