"""How many processes serve, on machines that this one is not."""

import os

import pytest

from kennel import machine
from kennel.errors import ContractError
from kennel.serving.processes import free_place, take_gpu, worker_processes
from kennel.serving.shared import memory_folder, shared_folder


@pytest.fixture(autouse=True)
def plain(monkeypatch, tmp_path):
    """A machine without GPUs, and nobody who says anything."""
    for name in ("SAGEMAKER_MODEL_SERVER_WORKERS", "MODEL_SERVER_WORKERS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "")  # so that it is restored, whoever sets it
        monkeypatch.delenv(name)
    monkeypatch.setattr(machine, "_DEVICES", tmp_path)
    for name in ("nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.fixture
def three_gpus(plain):
    for number in (0, 1, 4):  # CUDA counts those that it finds
        (plain / f"nvidia{number}").touch()


def test_one_process_serves_without_a_gpu_c2_10():
    assert worker_processes() == 1


def test_one_process_serves_for_each_gpu_c2_10(three_gpus):
    assert worker_processes() == 3


@pytest.mark.parametrize(("visible", "count"), [("0,2", 2), ("GPU-5c1f, 1", 2), ("1,-1,0", 1)])
def test_a_gpu_that_is_hidden_from_us_gets_no_process_c1_14(three_gpus, monkeypatch, visible, count):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert worker_processes() == count


@pytest.mark.parametrize("visible", ["", "-1"])
def test_where_all_gpus_are_hidden_there_is_none_c1_14(three_gpus, monkeypatch, visible):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert worker_processes() == 1
    assert not machine.has_gpu()


def test_the_owner_says_how_many_by_either_name_c2_1_c2_2_c2_3(three_gpus, monkeypatch):
    monkeypatch.setenv("MODEL_SERVER_WORKERS", "5")
    assert worker_processes() == 5
    monkeypatch.setenv("SAGEMAKER_MODEL_SERVER_WORKERS", "")
    assert worker_processes() == 5
    monkeypatch.setenv("SAGEMAKER_MODEL_SERVER_WORKERS", "2")
    assert worker_processes() == 2


@pytest.mark.parametrize(
    ("text", "sentence"), [("two", "'two'; it should be a whole number"), ("-1", "-1; it should be at least 1")]
)
def test_a_number_that_is_none_is_refused_c2_1(monkeypatch, text, sentence):
    monkeypatch.setenv("SAGEMAKER_MODEL_SERVER_WORKERS", text)
    with pytest.raises(ContractError, match=f"SAGEMAKER_MODEL_SERVER_WORKERS is {sentence}"):
        worker_processes()


@pytest.mark.parametrize(
    ("visible", "place", "seen"),
    [("", 0, "0"), ("", 2, "2"), ("", 4, "1"), ("2,0", 1, "0"), ("GPU-5c1f", 0, "GPU-5c1f")],
)
def test_a_process_sees_the_gpu_of_its_place_alone_c1_14(three_gpus, monkeypatch, visible, place, seen):
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    take_gpu(place)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == seen
    assert machine.has_gpu()


def test_without_a_gpu_nothing_is_hidden():
    take_gpu(0)
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_a_process_that_is_replaced_leaves_its_place_to_the_next():
    assert free_place(set()) == 0
    assert free_place({0, 1}) == 2
    assert free_place({0, 2}) == 1


def test_a_process_that_is_forked_leaves_the_shared_folder_where_it_is():
    with shared_folder() as folder:
        assert str(folder.parent) == memory_folder()
        child = os.fork()
        if not child:
            os._exit(_leave(folder))
        assert os.waitpid(child, 0)[1] == 0
        assert folder.is_dir()
    assert not folder.exists()


def _leave(folder):
    return int(not folder.is_dir())
