"""A script that a user submits, run as the toolkit runs it (contract A5.1 to A5.4), with what such scripts look for."""

import json
import logging
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sagemaker_training import entry_point, environment, errors, files, logging_config, process

from kennel.atomic import write_json
from kennel.container.environment import (
    BASE,
    DEBUG_CONFIG,
    IN_CONTAINER,
    TENSORS,
    WEIGHTS_DIR,
    Folders,
    folders,
    read_json_object,
    variable,
)
from kennel.container.launch import Torchrun, processes_per_host
from kennel.errors import ContractError
from kennel.model.weights_files import offer_weights, weights_at_hand

_SECRET_NAME = re.compile(r"SECRET|TOKEN|PASSWORD|CREDENTIAL|API_?KEY", re.IGNORECASE)
_NEVER = 10**12  # a step that no training reaches


def run_script(is_next: Callable[[], object]) -> None:
    """Run the script in one process, or in several when torchrun is asked for.

    Calls `is_next` right before, when no other child of this process is left.
    Raises ClientError when the script fails, or asks for what is not in the image.
    """
    given = environment.Environment()
    if given.additional_framework_parameters.get("sagemaker_mpi_enabled"):
        raise errors.ClientError("MPI is not in this image; use distribution={'torch_distributed': {'enabled': True}}")
    files.download_and_extract(given.module_dir, environment.code_dir)
    _refuse_packages_outside_a_container(Path(environment.code_dir))
    toolkit = logging_config.get_logger()
    toolkit.setLevel(logging.INFO)
    toolkit.addFilter(_mask_secrets({**os.environ, **given.hyperparameters}))
    # it would import smdebug, and torch with it, for names to look for in a stderr that it is not asked to keep
    process.get_debugger_exception_classes = list
    logging_config.log_script_invocation = _and_then(logging_config.log_script_invocation, is_next)  # its last step
    with tempfile.TemporaryDirectory(prefix="kennel-script-", ignore_cleanup_errors=True) as scratch:
        channels = {name: Path(channel) for name, channel in given.channel_input_dirs.items()}
        weights = weights_at_hand(channels, Path(variable(WEIGHTS_DIR, "/opt/weights")))
        offer_weights(weights, lambda: Path(scratch) / "torch")
        _offer_debug_config(folders(), Path(scratch))
        entry_point.run(
            given.module_dir,
            given.user_entry_point,
            given.to_cmd_args(),
            given.to_env_vars(),
            runner_type=_runner(given),
        )


def _and_then(function: Callable[..., object], more: Callable[[], object]) -> Callable[..., None]:
    def both(*arguments: Any, **named: Any) -> None:
        function(*arguments, **named)
        more()

    return both


def _runner(given: environment.Environment) -> process.ProcessRunner:
    """Return what runs the script: torchrun where it is asked for, in this host's instance group (contract A6.8)."""
    script = (given.user_entry_point, given.to_cmd_args(), given.to_env_vars(), processes_per_host(given))
    asked = given.additional_framework_parameters.get("sagemaker_torch_distributed_enabled")
    if not asked or given.current_host not in given.distribution_hosts:
        return process.ProcessRunner(*script)
    return Torchrun(
        *script,
        given.master_hostname,
        given.distribution_hosts,
        given.current_host,
        given.network_interface_name,
        given.current_instance_type,
    )


def _refuse_packages_outside_a_container(code: Path) -> None:
    """Raise ClientError where the toolkit would install packages into the user's own environment, not an image's."""
    wanted = [name for name in ("requirements.txt", "setup.py") if (code / name).exists()]
    if wanted and not variable(IN_CONTAINER, ""):
        raise errors.ClientError(
            f"the script brings {wanted[0]}, which would be installed into the environment of this machine; "
            f"run the job in a container (--on docker), or install the packages and leave {wanted[0]} out"
        )


def _offer_debug_config(tree: Folders, scratch: Path) -> None:
    """Let smdebug's `Hook.create_from_json_file()` find a file; where the job has none, one that saves nothing."""
    if DEBUG_CONFIG in os.environ:
        return
    given = tree.debug_config
    try:
        config = read_json_object(given)
    except ContractError:  # no file that a job needs to start (contract A2.4)
        config = {}
    if config and tree.base == BASE:
        return  # where smdebug itself looks
    if config:
        config["LocalPath"] = str(tree.place(config.get("LocalPath", TENSORS)))
    else:
        nothing = {"start_step": str(_NEVER), "save_interval": str(_NEVER)}
        config = {"LocalPath": str(scratch / "tensors"), "HookParameters": nothing, "CollectionConfigurations": []}
    write_json(scratch / given.name, config)
    os.environ[DEBUG_CONFIG] = str(scratch / given.name)


def _mask_secrets(values: Mapping[str, Any]) -> Callable[[logging.LogRecord], bool]:
    """Return a log filter that hides the values with secret-sounding names.

    The toolkit logs a script's whole environment and all hyperparameters (contract A3.6).
    """
    plain = [str(value) for name, value in values.items() if _SECRET_NAME.search(name) and len(str(value)) > 3]
    secrets = {*plain, *(json.dumps(value)[1:-1] for value in plain)}  # as they are, and as the toolkit quotes them

    def mask(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        for secret in secrets:
            text = text.replace(secret, "****")
        record.msg, record.args = text, ()
        return True

    return mask
