"""The image's programs in containers of a Docker engine, as SageMaker starts them (contract A1.1, C1.1)."""

import functools
import json
import os
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from kennel.errors import KennelError
from kennel_cli.platforms.opt_ml import BASE
from kennel_cli.platforms.runners import Program, end_with_parent

SHM_SIZE = "1g"  # shared memory; Docker's own 64 MB are too few for workers that hand over batches (contract E6)
_GPU = Path("/dev/nvidiactl")  # there where the driver is loaded
_CACHE = "KENNEL_CACHE"  # a folder of this machine, mounted under the same name
_PORT = "SAGEMAKER_BIND_TO_PORT"
_KILLED = 137  # 128 + SIGKILL
_STARTING = 30.0  # seconds that an engine may take to start a created container


class DockerError(KennelError):
    """There is no Docker engine, or it refuses a container."""


class DockerRunner:
    """Runs the programs in containers of `image`, with `/opt/ml` mounted from a folder of this machine.

    `options` are further options of `docker create`, such as `--memory 512m`.
    """

    host = "algo-1"  # SageMaker's own name for the first machine

    def __init__(self, image: str, options: Sequence[str] = ()) -> None:
        self._image = image
        self._options = tuple(options)

    def start(self, program: str, tree: Path, variables: Mapping[str, str], log: Path) -> Program:
        """See `Runner.start`.

        Raises DockerError when there is no engine or no image, or when the engine refuses the container.
        """
        require_image(self._image)
        name = f"kennel-{program}-{uuid.uuid4().hex[:12]}"
        owned = [tree]
        command = ["docker", "create", "--name", name, "--hostname", self.host, "--shm-size", SHM_SIZE]
        command += _mount(tree, BASE)
        for link, source, target in _linked(tree):
            if program == "train" and not link.is_relative_to(tree / "input"):  # checkpoints (contract A6.1)
                owned.append(source)
                command += _mount(source, target)
            else:
                command += _mount(source, target, "readonly")
        if program == "serve" and (tree / "model").is_dir() and not (tree / "model").is_symlink():
            command += _mount(tree / "model", BASE / "model", "readonly")  # contract C1.6
        if cache := variables.get(_CACHE):
            Path(cache).mkdir(parents=True, exist_ok=True)
            owned.append(Path(cache))
            command += _mount(Path(cache), Path(cache))
        if program == "serve":
            port = variables.get(_PORT, "8080")
            command += ["--publish", f"127.0.0.1:{port}:{port}"]
        if _GPU.exists():
            command += ["--gpus", "all"]
        for variable, value in variables.items():
            command += ["--env", f"{variable}={value}"]
        run_docker(*command[1:], *self._options, self._image, program)
        return Container(name, self._image, owned, log)


class Container:
    """A started container. It is removed when it has ended and `poll` has told so."""

    def __init__(self, name: str, image: str, owned: Sequence[Path], log: Path) -> None:
        self._name = name
        self._image = image
        self._owned = owned  # folders of this machine that it writes to
        self._log = log
        self._exit_code: int | None = None
        self._killed = False
        with log.open("ab") as output:
            # attached, it passes signals on: when its keeper dies, the container gets the SIGTERM too
            self._client = subprocess.Popen(
                ["docker", "start", "--attach", name],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=functools.partial(end_with_parent, os.getpid()),  # noqa: PLW1509 - a keeper has no threads
            )

    def poll(self) -> int | None:
        """Return the exit code of process 1, or None while it runs."""
        if self._exit_code is None and self._client.poll() is not None:
            self._exit_code = self._finish()
        return self._exit_code

    def terminate(self) -> None:
        """Send SIGTERM to process 1."""
        self._signal("TERM")

    def kill(self) -> None:
        """Send SIGKILL to process 1, which ends all others."""
        self._killed = True
        self._signal("KILL")

    def _signal(self, signal: str) -> None:
        deadline = time.monotonic() + _STARTING
        while self._client.poll() is None:
            answer = _ask_docker("kill", "--signal", signal, self._name)
            if answer.returncode == 0:
                return
            if time.monotonic() > deadline:
                raise DockerError(f"docker kill --signal {signal} {self._name}: {answer.stderr.strip()}")
            time.sleep(0.05)  # it is created, but does not run yet; or it has ended just now

    def _finish(self) -> int:
        """Say why it was killed if nobody here did it, give its files to the user, remove it; return its exit code."""
        state = json.loads(run_docker("inspect", "--format", "{{json .State}}", self._name))
        limit = int(run_docker("inspect", "--format", "{{.HostConfig.Memory}}", self._name))
        code = int(state["ExitCode"])
        if code == _KILLED and not self._killed:
            with self._log.open("a", encoding="utf-8") as log:
                log.write(_why_killed(bool(state["OOMKilled"]), limit) + "\n")
        run_docker("rm", "--force", self._name)
        self._give_back()
        return code

    def _give_back(self) -> None:
        """Make the user the owner of what root in the container wrote."""
        if os.getuid() == 0 or _is_rootless():
            return
        folders = [str(folder) for folder in self._owned]
        mounts = [argument for folder in self._owned for argument in _mount(folder, folder)]
        owner = f"{os.getuid()}:{os.getgid()}"
        command = ["chown", "--recursive", "--no-dereference", owner, *folders]
        run_docker("run", "--rm", "--network", "none", *mounts, "--entrypoint", command[0], self._image, *command[1:])


def require_image(image: str) -> None:
    """Raise DockerError, with the remedy, unless a Docker engine answers and has `image`."""
    answer = _ask_docker("image", "inspect", "--format", "{{.Id}}", image)
    if answer.returncode == 0:
        return
    if "no such image" in answer.stderr.lower():
        raise DockerError(f"the Docker engine has no image {image}; make it with `make build`")
    reason = answer.stderr.strip().splitlines()[-1] if answer.stderr.strip() else f"exit code {answer.returncode}"
    raise DockerError(f"no Docker engine answers ({reason}); start one, or run the job with --on local")


def run_docker(*arguments: str, stdin: str | None = None) -> str:
    """Run a docker command and return what it prints. Raises DockerError with the engine's own words."""
    answer = _ask_docker(*arguments, stdin=stdin)
    if answer.returncode != 0:
        raise DockerError(f"docker {arguments[0]} failed: {answer.stderr.strip()}")
    return answer.stdout


def _ask_docker(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(["docker", *arguments], input=stdin, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise DockerError("there is no `docker` command; install Docker, or run the job with --on local") from None


def _mount(source: Path, target: Path, *options: str) -> list[str]:
    """Return the options that mount a folder or file of this machine; unlike --volume, it never makes a missing one."""
    fields = ["type=bind", f"source={source}", f"target={target}", *options]
    return ["--mount", ",".join('"' + field.replace('"', '""') + '"' for field in fields)]  # a line of CSV


def _linked(tree: Path) -> Iterator[tuple[Path, Path, Path]]:
    """Yield each link in the tree, what it leads to here, and where it looks for that in the container.

    The links themselves stay in the mounted tree, so they have to find the same path inside.
    """
    for folder, names, files in os.walk(tree):
        for name in (*names, *files):
            link = Path(folder, name)
            if link.is_symlink():
                inside = BASE / link.parent.relative_to(tree)
                yield link, link.resolve(), Path(os.path.normpath(inside / link.readlink()))


def _why_killed(out_of_memory: bool, limit: int) -> str:
    """Return the sentence for the log of a container whose process 1 was killed; `limit` is in bytes, 0 for none."""
    allowed = f"its limit of {limit / 2**20:.0f} MiB" if limit else "what this machine has"
    if out_of_memory:
        return f"The container was killed because it needed more memory than {allowed}; give it more"
    return f"The container was killed by SIGKILL from outside; if nobody sent it, it needed more memory than {allowed}"


@functools.cache
def _is_rootless() -> bool:
    """Return whether root in a container is the user outside."""
    return "name=rootless" in run_docker("info", "--format", "{{json .SecurityOptions}}")
