"""AWS as a place where jobs run: boto3's SageMaker client, S3, and CloudWatch Logs."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import boto3
from rich.console import Console
from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

from kennel_cli.platforms import cloudwatch
from kennel_cli.platforms.account import aws_client, aws_errors, aws_session, console_address, default_bucket
from kennel_cli.platforms.downloads import download_below, download_object, object_names
from kennel_cli.platforms.platform import S3, Kind
from kennel_cli.platforms.uploads import Source, missing_files, read_source, upload
from kennel_cli.settings import Settings

if TYPE_CHECKING:
    from kennel_cli.user_settings import UserSettings

_PAGES = {
    Kind.TRAINING: "jobs",
    Kind.SEARCH: "hyper-tuning-jobs",
    Kind.ENDPOINT: "endpoints",
    Kind.TRANSFORM: "transform-jobs",
}


class AwsPlatform:
    """Jobs of the user's account, in the region of the settings or of the user's profile.

    `options` are settings that were given on the command line. Nothing is read and nobody is asked before it is needed:
    who lists jobs needs no role, no bucket and no image.
    """

    poll = 5.0  # a job takes minutes, and an account may make a few calls a second
    log_delay = 10.0
    option = " --on aws"

    def __init__(self, console: Console, options: Mapping[str, str] = MappingProxyType({})) -> None:
        self._console = console
        self._options = options
        self._sources: dict[str, Source] = {}

    @cached_property
    def sagemaker(self) -> Any:
        """boto3's SageMaker client."""
        return aws_client(self.session, "sagemaker")

    @cached_property
    def settings(self) -> Settings:
        """What the user has set, complete. Raises SettingsError."""
        from kennel_cli.user_settings import aws_settings  # noqa: PLC0415 - slow, and only AWS needs it

        return aws_settings(self._given, self._options, self._default_bucket)

    @cached_property
    def session(self) -> boto3.Session:
        """The session of the user's account and region. Raises AwsError."""
        return aws_session(self._given.region or None)

    def require_means(self) -> None:
        """Raise SettingsError or AwsError when jobs cannot be asked for; AWS brings the machines."""
        _ = self.settings, self.session

    def channel_uri(self, source: str) -> str:
        """Return the URI that the content of a file or folder gives it; it is read, nothing is sent."""
        return source if source.startswith(S3) else self._source(source).uri

    def channel(self, source: str) -> str:
        """Upload what is not in the bucket yet, with a bar on a terminal, and return the URI."""
        if source.startswith(S3):
            return source
        found = self._source(source)
        files = missing_files(self._s3, found, self._owner())
        total = sum(file.size for file in files)
        columns = (*Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, console=self._console, disable=not self._console.is_terminal) as bars:
            bar = bars.add_task("upload", total=total, visible=bool(files))
            upload(self._s3, found.bucket, files, lambda size: bars.advance(bar, size))
        line = f"{source}: uploaded {len(files):,} of {len(found.files):,} files to {found.uri}"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
        return found.uri

    def read_log(
        self, name: str, position: Mapping[str, str] | None, ended: bool, of: Kind = Kind.TRAINING
    ) -> tuple[list[str], dict[str, str]]:
        """Return the lines that came to CloudWatch Logs after `position`; every line there is whole."""
        return cloudwatch.read_log(self._logs, name, position or {}, of)

    def fetch(self, uri: str, folder: Path) -> Path:
        """Download an artifact into `folder`: a file, or all files below a URI that ends with a slash."""
        target = folder / PurePosixPath(uri).name
        if uri.endswith("/"):
            download_below(self._s3, uri, self.names(uri), target)
        else:
            download_object(self._s3, uri, target)
        return target

    def names(self, uri: str) -> list[str]:
        """Return the names of the objects whose keys begin with a URI, relative to its last slash."""
        return object_names(self._s3, uri)

    def locate(self, uri: str) -> str:
        """Return the URI itself."""
        return uri

    def page(self, kind: Kind, name: str) -> str:
        """Return the address of a job, a search or an endpoint in the management console."""
        region = self.session.region_name
        return f"{console_address(self.session)}/sagemaker/home?region={region}#/{_PAGES[kind]}/{name}"

    def endpoint_url(self, endpoint: str) -> str:
        """Return the address of the service's runtime for an endpoint, whose requests have to be signed."""
        return f"{self._runtime_address}/endpoints/{endpoint}/invocations"

    @cached_property
    def _given(self) -> "UserSettings":
        from kennel_cli.user_settings import read_settings  # noqa: PLC0415 - as above

        return read_settings(self._options)

    @cached_property
    def _runtime_address(self) -> str:
        return str(aws_client(self.session, "sagemaker-runtime").meta.endpoint_url)

    @cached_property
    def _s3(self) -> Any:
        return aws_client(self.session, "s3")

    @cached_property
    def _logs(self) -> Any:
        return aws_client(self.session, "logs")

    @cached_property
    def _account(self) -> str:
        with aws_errors("sts"):
            return str(aws_client(self.session, "sts").get_caller_identity()["Account"])

    def _default_bucket(self) -> str:
        return default_bucket(self.session, self._account)

    def _owner(self) -> str:
        """Return whose the bucket must be: that name can be guessed, so somebody else may have made it first."""
        return "" if self._given.bucket else self._account

    def _source(self, source: str) -> Source:
        """Read a source's content once, however often it is asked for."""
        if source not in self._sources:
            bucket = self._given.bucket or self._default_bucket()  # no more: who uploads needs no role and no image
            self._sources[source] = read_source(Path(source), bucket, self._given.key_prefix)
        return self._sources[source]
