"""Prove in the build of the image that what `slim` left is enough: `python check_packages.py`, without a GPU.

Ends with an error when a package misses a dependency, a library misses another one, or training or serving a small
network with what the image holds does not work.
"""

import importlib
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import torch
import torchvision
from torch import nn

IMPORTED = (
    "boto3",
    "flask",
    "gunicorn.app.wsgiapp",
    "jinja2",
    "nncf",
    "numpy",
    "openvino",
    "optuna.importance",
    "optuna.storages",
    "pandas",
    "PIL.Image",
    "prometheus_client",
    "psutil",
    "pydantic",
    "pynvml",
    "regex",
    "requests",
    "rich",
    "safetensors.torch",
    "simplejpeg",
    "sagemaker_inference.errors",
    "sagemaker_training.cli.train",
    "sagemaker_training.entry_point",
    "scipy.stats",
    "smdebug.pytorch",
    "torch.distributed.run",
    "torch.fx.experimental.optimization",
    "torch.profiler",
    "torch.utils.data",
    "typer",
    "yaml",
)
EXCLUDED = Path(__file__).with_name("excluded.txt")
FROM_THE_DRIVER = ("libcuda.so.1", "libnvidia-ml.so.1")  # the host mounts them into the container
# for MPI and for network cards that reach into GPUs: loaded by name, where the libraries of such a card are
PLUGINS = ("nvshmem_*.so*", "libcufile_rdma.so*")


def main() -> None:
    """Run all checks."""
    check_dependencies()
    check_imports()
    check_libraries()
    check_training()


def check_dependencies() -> None:
    """Let pip compare what the packages ask for with what is installed, but for what was excluded (contract E5)."""
    excluded = {line.partition("#")[0].strip() for line in EXCLUDED.read_text().splitlines()} - {""}
    answer = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    lines = (answer.stdout + answer.stderr).splitlines()
    # "openvino 2026.4.1 requires openvino-telemetry, which is not installed."
    wrong = [line for line in lines if not any(f"requires {name}, which is not installed" in line for name in excluded)]
    if answer.returncode and (wrong or not lines):
        sys.exit("pip check:\n" + "\n".join(wrong))


def check_imports() -> None:
    """Import all that Kennel, the toolkit and the debugger import."""
    for name in IMPORTED:
        importlib.import_module(name)


def check_libraries() -> None:
    """Look for the libraries that each library of torch and CUDA is linked with."""
    packages = Path(sysconfig.get_path("purelib"))
    found = (file for package in ("torch", "torchvision", "nvidia") for file in packages.glob(f"{package}/**/*.so*"))
    libraries = [file for file in found if not any(file.match(name) for name in PLUGINS)]
    if len(libraries) < 20:
        sys.exit(f"only {len(libraries)} libraries below {packages}; this check looks in the wrong place")
    # libraries find each other by torch's own run path, or because torch has loaded them before
    folders = {str(file.parent) for file in libraries}
    environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(sorted(folders))}
    missing = set()
    for file in libraries:
        answer = subprocess.run(["ldd", str(file)], env=environment, capture_output=True, text=True, check=False)
        for line in answer.stdout.splitlines():
            name = line.split()[0]
            if "not found" in line and name not in FROM_THE_DRIVER:
                missing.add(f"{file.relative_to(packages)} needs {name}")
    if missing:
        sys.exit("libraries are missing:\n" + "\n".join(sorted(missing)))


def check_training() -> None:
    """Train a network for two steps, and run it as serving does."""
    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=3)
    images, labels = torch.rand(6, 3, 32, 32), torch.tensor([0, 1, 2, 0, 1, 2])
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    for _ in range(2):
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16):
            loss = nn.functional.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
    network.eval()
    with torch.inference_mode():
        probabilities = torch.softmax(network(images), dim=1)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(6))


if __name__ == "__main__":
    main()
