"""The table of operators, from recorded events of a GPU's steps."""

from types import SimpleNamespace

from torch.autograd import DeviceType

from kennel.profiler.operators import Operator, OperatorProfiler, add_up

MS = 1_000_000  # nanoseconds


def event(name, start, took, number=0, of=0, device=DeviceType.CPU, thread=1, nbytes=0, **more):
    """Return what Kineto tells of an event; times in milliseconds."""
    values = {
        "name": name,
        "start_ns": start * MS,
        "duration_ns": took * MS,
        "correlation_id": number,
        "linked_correlation_id": of,
        "device_type": device,
        "start_thread_id": thread,
        "end_thread_id": thread,
        "nbytes": nbytes,
        "is_async": False,
        "is_user_annotation": False,
        **more,
    }
    return SimpleNamespace(**{key: (lambda value=value: value) for key, value in values.items()})


EVENTS = [
    event("aten::conv2d", 0, 10, number=1),
    event("aten::cudnn_convolution", 2, 6, number=2),
    event("cudaLaunchKernel", 3, 1, number=1, of=2),  # CUDA counts by itself: this is not the first operator
    event("sm80_xmma_fprop", 5, 20, number=1, of=2, device=DeviceType.CUDA, thread=0),
    event("ProfilerStep", 0, 40, number=3, of=1, device=DeviceType.CUDA, is_user_annotation=True),
    event("[memory]", 4, 0, nbytes=4096, device=DeviceType.CUDA),
    event("[memory]", 5, 0, nbytes=-4096, device=DeviceType.CUDA),
    event("aten::conv2d", 12, 4, number=4, thread=2),  # of another thread, not within what runs on the first
    event("aten::relu", 30, 5, number=5),  # of an evaluation
    event("aten::relu", 40, 1, number=6),
    event("an asynchronous one", 41, 3, number=7, is_async=True),
]


def test_an_operator_has_its_own_time_its_kernels_and_its_memory():
    table = {operator.name: operator for operator in add_up(EVENTS, [(29 * MS, 36 * MS)])}
    assert table == {
        "aten::conv2d": Operator("aten::conv2d", calls=2, cpu=0.008, gpu=0.0, memory=0),
        "aten::cudnn_convolution": Operator("aten::cudnn_convolution", calls=1, cpu=0.006, gpu=0.02, memory=4096),
        "aten::relu": Operator("aten::relu", calls=1, cpu=0.001, gpu=0.0, memory=0),
    }


def test_a_network_with_too_many_operators_is_looked_into_for_fewer_steps(tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr("kennel.profiler.operators.MOST_EVENTS", 30)
    profiler = OperatorProfiler(2, 10, tmp_path)
    recording = []
    for _ in range(12):
        for _ in range(5):
            torch.ones(2) + 1  # an addition, and what fills the tensor
        profiler.end_step()
        recording.append(profiler.is_recording)
    assert profiler.steps == recording.count(True) < 10
    assert recording[0]
    assert not recording[-1]
    assert {operator.name: operator.calls for operator in profiler.table}["aten::add"] == 5 * profiler.steps
    assert profiler.has_trace
