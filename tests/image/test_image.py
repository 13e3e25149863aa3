"""What only the image itself shows; each test names its row of the contract."""

import json
import time

import pytest

import kennel
from kennel_cli.settings import LOCAL
from tests.engine import needs_image

pytestmark = [pytest.mark.docker, needs_image]

UNPRIVILEGED = ("--user", "10001", "--read-only", "--tmpfs", "/tmp")  # serverless (contract C5.2)
PING = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8080/ping', timeout=2).status)"


def test_the_labels_promise_what_the_image_can_c3_1_c3_4(config):
    promised = {name: value for name, value in config["Labels"].items() if name.startswith("com.amazonaws")}
    capabilities = ("accept-bind-to-port", "multi-models")
    assert promised == {f"com.amazonaws.sagemaker.capabilities.{name}": "true" for name in capabilities}
    about = {name.rpartition(".")[2]: value for name, value in config["Labels"].items() if "opencontainers" in name}
    assert about["version"] == kennel.__version__
    assert about["revision"]
    assert "source" in about


def test_any_command_and_any_entry_point_can_be_given_a1_1_a1_2(config, docker):
    assert not config.get("Entrypoint")
    given = docker("run", "--rm", "--entrypoint", "python", LOCAL.image, "-c", "print('arguments arrive')")
    assert given.stdout == "arguments arrive\n"


def test_our_train_comes_before_the_toolkit_s_a5_6(shell):
    assert shell("command -v train serve kennel").split() == [
        f"/opt/kennel/bin/{n}" for n in ("train", "serve", "kennel")
    ]


def test_what_a_driver_of_the_sdk_needs_is_on_the_path_a7_1(shell):
    assert shell("command -v bash python python3 pip pip3 | wc -l") == "5"


def test_nothing_is_baked_below_opt_ml_a1_3_a5_5(shell):
    assert shell("ls -A /opt/ml 2>/dev/null || true") == ""


def test_there_is_no_compiler_no_init_and_no_driver_a1_3(shell):
    assert shell("command -v gcc cc g++ clang ld tini nvcc nvidia-smi || true") == ""
    assert (
        shell("find / -xdev -name 'libcuda.so*' -o -xdev -name 'libnvidia-ml.so*' -o -xdev -ipath '*cuda*compat*.so*'")
        == ""
    )


def test_the_debugger_s_hook_is_there_d1_5(shell):
    assert shell("python -c 'import smdebug.pytorch; print(smdebug.__version__)' ").endswith("1.0.34")


def test_the_image_is_below_seven_gigabytes_and_a_change_of_our_code_below_five_megabytes(docker):
    assert int(docker("image", "inspect", "--format", "{{.Size}}", LOCAL.image).stdout) < 7e9
    history = docker("history", "--human=false", "--no-trunc", "--format", "{{.Size}} {{.CreatedBy}}", LOCAL.image)
    steps = [line.split(" ", 1) for line in history.stdout.splitlines()]  # newest first
    ours = next(number for number, (_, made_by) in enumerate(steps) if "/opt/kennel" in made_by and "COPY" in made_by)
    assert sum(int(size) for size, _ in steps[: ours + 1]) < 5e6


def test_without_a_gpu_it_says_that_it_takes_the_cpu_c6_3(shell):
    line = "from kennel.engines.device import describe_device, pick_device; print(describe_device(pick_device()))"
    assert shell(f'python -c "{line}"').startswith("cpu (")


def test_serving_needs_no_rights_no_disk_and_no_network_c5_2(docker, random_model):
    mount = f"type=bind,source={random_model},target=/opt/ml/model,readonly"
    started = docker("run", "--detach", "--network", "none", *UNPRIVILEGED, "--mount", mount, LOCAL.image, "serve")
    name = started.stdout.strip()
    try:
        deadline = time.monotonic() + 60
        while docker("exec", name, "python", "-c", PING).stdout.strip() != "200":
            assert time.monotonic() < deadline, docker("logs", name)
        assert docker("stop", "--time", "30", name).returncode == 0
        assert docker("inspect", "--format", "{{.State.ExitCode}}", name).stdout.strip() == "0"
    finally:
        docker("rm", "--force", name)


def test_training_needs_no_rights_and_no_network_and_finds_its_weights_in_the_image_c5_2_a6_6(
    docker, tmp_path, colour_images, resnet18_weights
):
    resnet18_weights.parent.chmod(0o755)
    tree = tmp_path / "ml"
    for folder in (tree, tree / "input", tree / "input" / "config", tree / "input" / "data", tree / "model"):
        folder.mkdir()
        folder.chmod(0o777)
    hyperparameters = {"backbone": "resnet18", "image_size": "32", "epochs": "1", "batch_size": "8"}
    (tree / "input" / "config" / "hyperparameters.json").write_text(json.dumps(hyperparameters))
    mounts = [
        f"type=bind,source={tree},target=/opt/ml",
        f"type=bind,source={colour_images},target=/opt/ml/input/data/training,readonly",
        f"type=bind,source={resnet18_weights.parent},target=/opt/weights,readonly",
    ]
    given = [argument for mount in mounts for argument in ("--mount", mount)]
    answer = docker("run", "--rm", "--network", "none", *UNPRIVILEGED, *given, LOCAL.image, "train")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "start device=cpu" in answer.stdout
    assert (tree / "model" / "kennel.json").exists()


def test_version_3_of_the_sdk_starts_its_own_script_a7_1(docker, tmp_path):
    drivers, code = tmp_path / "sm_drivers", tmp_path / "code"
    drivers.mkdir()
    code.mkdir()
    (code / "script.py").write_text("import torch, torchvision; open('/opt/ml/model/made', 'w').write('by a script')")
    (drivers / "sm_train.sh").write_text(
        "#!/bin/bash\nset -e\npip --version >/dev/null\ncd /opt/ml/input/data/code\npython3 script.py\n"
    )
    (tmp_path / "model").mkdir()
    mounts = [
        f"type=bind,source={drivers},target=/opt/ml/input/data/sm_drivers",
        f"type=bind,source={code},target=/opt/ml/input/data/code",
        f"type=bind,source={tmp_path / 'model'},target=/opt/ml/model",
    ]
    given = [argument for mount in mounts for argument in ("--mount", mount)]
    script = "/opt/ml/input/data/sm_drivers/sm_train.sh"
    start = ("--entrypoint", "/bin/bash", LOCAL.image, "-c", f"chmod +x {script} && {script}")
    answer = docker("run", "--rm", "--network", "none", *given, *start)
    assert answer.returncode == 0, answer.stderr
    assert (tmp_path / "model" / "made").read_text() == "by a script"
