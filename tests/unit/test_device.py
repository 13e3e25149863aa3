"""What is said of the device, with drivers that this machine does not have."""

import os
import subprocess
import sys

import pytest

# a driver for CUDA 11.4, as far as anybody asks it
OLD_CUDA = """
int cuInit(unsigned flags) { return 0; }
int cuDriverGetVersion(int *version) { *version = 11040; return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
"""
NVML = """
int nvmlInit(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 1; return 0; }
"""
PICK = """
import logging
logging.basicConfig(format="%(message)s")
from kennel.engines.device import describe_device, pick_device
print(describe_device(pick_device()))
"""


@pytest.fixture
def pick(tmp_path):
    """Pick the device in a process with drivers made of C; return what it prints and what it logs."""

    def run(**libraries):
        for name, source in libraries.items():
            file = tmp_path / f"{name}.c"
            file.write_text(source)
            library = tmp_path / f"lib{name.replace('_', '-')}.so.1"
            subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, file], check=True)
        environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
        command = [sys.executable, "-c", PICK]
        answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return answer.stdout.strip(), answer.stderr.strip()

    return run


@pytest.mark.parametrize("libraries", [{"cuda": OLD_CUDA}, {"cuda": OLD_CUDA, "nvidia_ml": NVML}])
def test_a_driver_that_is_too_old_is_said_in_one_sentence_and_the_cpu_is_taken_c6_3(pick, libraries):
    device, log = pick(**libraries)
    assert device.startswith("cpu (")
    assert log == (
        "the GPU cannot be used, going on on the CPU: its driver is made for CUDA 11.4, and CUDA 12.8 needs driver 525 "
        "or newer"
    )


def test_nothing_is_said_of_a_gpu_where_there_is_none_c6_3(pick):
    device, log = pick()
    if device.startswith("cuda"):
        pytest.skip("this machine has a GPU")
    assert log == ""
