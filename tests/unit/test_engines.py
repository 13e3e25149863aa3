"""What every engine has to do, whatever runs it; how one is chosen; and the recordings that a GPU replays."""

import json

import numpy as np
import openvino
import pytest
import torch

from kennel.engines import choice
from kennel.engines.choice import load_engine, quickest
from kennel.engines.cuda_graphs import SIZES
from kennel.engines.openvino_engine import OpenvinoEngine
from kennel.engines.torch_engine import TorchEngine
from kennel.errors import ArtifactError
from kennel.images.preprocess import Preprocessing
from kennel.model.artifact import load_artifact
from kennel.model.manifest import EngineRecord, load_manifest, save_manifest
from tests.exports import colours, export_fully, fit_head, tiny_backbones
from tests.samples import save_random_model

SIZE = 32
VNNI = ("avx512_vnni",)
NAMES = {  # how far an engine's probabilities may be from the network's
    "torch-fp32": 1e-5,
    "torch-half": 0.05,
    "torch-recorded": 1e-5,
    "openvino-bf16": 0.05,
    "openvino-int8": 0.2,
}


@pytest.fixture(scope="module", autouse=True)
def tiny():
    with tiny_backbones():
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model folder with files for all engines."""
    folder = save_random_model(tmp_path_factory.mktemp("engines") / "model", image_size=SIZE)
    return export_fully(fit_head(folder, *colours(60, SIZE)))


@pytest.fixture(scope="module", params=NAMES)
def engine(request, model):
    name = request.param
    if name.startswith("openvino"):
        loaded = load_engine(model, name)
    else:
        classifier, manifest = load_artifact(model)
        precision = torch.bfloat16 if name == "torch-half" else torch.float32  # emulated where there is none
        loaded = TorchEngine(classifier, manifest.preprocessing, manifest.views, precision)
    loaded.warm_up()
    if name == "torch-recorded":
        loaded.record(record_on_cpu)
    return loaded


@pytest.fixture(scope="module")
def images():
    return np.ascontiguousarray(Preprocessing.for_size(SIZE).normalize(colours(21, SIZE)[0]))


def record_on_cpu(network, buffer):
    """Replay by running the network once more: as a CUDA graph, it reads one buffer and writes another."""
    output = network(buffer)
    return lambda: output.copy_(network(buffer)), output


def test_an_engine_gives_one_row_of_probabilities_an_image(engine, images):
    for count in (1, 2, 3, 5, 8):
        rows = engine.probabilities(images[:count])
        assert (rows.shape, rows.dtype) == ((count, 3), np.float32)
        assert np.allclose(rows.sum(axis=1), 1, atol=1e-5)
        assert rows.min() >= 0


def test_an_engine_takes_more_images_than_its_batch(engine, images):
    assert engine.probabilities(images).shape == (21, 3)


def test_an_engine_answers_alike_alone_and_in_a_batch_and_in_order(engine, images):
    together = engine.probabilities(images[:8])
    alone = np.concatenate([engine.probabilities(image[None]) for image in images[:8]])
    assert np.abs(together - alone).max() < 0.02  # half precision rounds otherwise in another order
    assert np.abs(engine.probabilities(images[7::-1].copy())[::-1] - together).max() < 0.02
    assert np.abs(together - together[0]).max() > 0.02  # else the order could not be seen


def test_an_engine_agrees_with_the_plain_network(engine, model, images, request):
    with torch.inference_mode():
        reference = torch.softmax(load_artifact(model)[0](torch.from_numpy(images[:8])), dim=1).numpy()
    name = request.node.callspec.params["engine"]
    assert np.abs(engine.probabilities(images[:8]) - reference).max() < NAMES[name]


def test_an_answer_does_not_change_with_how_images_lie_in_memory(engine, images):
    by_pixel = np.ascontiguousarray(images[:4].transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert np.abs(engine.probabilities(by_pixel) - engine.probabilities(images[:4])).max() < 1e-3


def test_an_answer_stays_when_the_next_is_given_and_the_images_are_not_touched(engine, images):
    given = images[:2].copy()
    first = engine.probabilities(given)
    kept = first.copy()
    engine.probabilities(images[2:4])
    assert np.array_equal(first, kept)
    assert np.array_equal(given, images[:2])


def test_an_engine_may_be_warmed_up_twice(engine, images):
    before = engine.probabilities(images[:2])
    engine.warm_up()
    assert np.abs(engine.probabilities(images[:2]) - before).max() < 1e-3


def test_an_engine_says_what_it_is_and_how_it_likes_its_batches(engine):
    assert engine.name in choice.ENGINES
    assert engine.device.startswith(("cpu (", "cuda ("))
    assert engine.batch_size >= 1
    assert engine.longest_wait == (0.004 if engine.device.startswith("cuda") else 0)
    assert engine.any_thread == engine.name.startswith("openvino")


@pytest.mark.parametrize("name", ["torch-fp32", "openvino-int8"])
def test_several_processes_share_the_cores(name, model, monkeypatch):
    monkeypatch.delenv("KENNEL_CORES", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(6)))
    monkeypatch.setattr("kennel.machine._cgroup_quota", lambda: None)
    before = torch.get_num_threads()
    try:
        engine = load_engine(model, name, processes=3)
        engine.warm_up()
        assert engine.device == "cpu (2 threads)"
    finally:
        torch.set_num_threads(before)


# recordings


class Recorder:
    """Remembers which sizes were recorded and replayed."""

    def __init__(self):
        self.recorded, self.replayed = [], []

    def __call__(self, network, buffer):
        size = len(buffer)
        self.recorded.append(size)
        replay, output = record_on_cpu(network, buffer)

        def note():
            self.replayed.append(size)
            replay()

        return note, output


def torch_engine(folder):
    classifier, manifest = load_artifact(folder)
    return TorchEngine(classifier, manifest.preprocessing, manifest.views)


def test_batches_are_padded_up_to_the_next_size_that_was_recorded(model, images):
    engine, recorder = torch_engine(model), Recorder()
    plain = engine.probabilities(images)
    engine.record(recorder)
    assert recorder.recorded == sorted(SIZES, reverse=True)
    for count in (1, 2, 3, 4, 5, 8, 9, 16):
        assert np.abs(engine.probabilities(images[:count]) - plain[:count]).max() < 1e-5
    assert recorder.replayed == [1, 2, 4, 4, 8, 8, 16, 16]


def test_a_network_that_cannot_be_recorded_runs_all_the_same(model, images, caplog):
    def refuse(network, buffer):
        raise RuntimeError("operation not permitted when stream is capturing\nmore of it")

    caplog.set_level("WARNING", logger="kennel.engines.torch_engine")
    engine = torch_engine(model)
    before = engine.probabilities(images[:2])
    engine.record(refuse)
    assert np.array_equal(engine.probabilities(images[:2]), before)
    assert "without CUDA graphs, more slowly: operation not permitted when stream is capturing" in caplog.text


# choice


def record(name, milliseconds=1.0, refused="", instructions=VNNI):
    return EngineRecord(name=name, images=100, milliseconds=milliseconds, refused=refused, instructions=instructions)


def test_the_quickest_engine_that_is_kept_is_chosen():
    records = [record("torch-fp32", 0.5), record("openvino-bf16", 3), record("openvino-int8", 2)]
    assert quickest(records, VNNI) == "openvino-int8"
    assert quickest([*records[:2], record("openvino-int8", 4)], VNNI) == "openvino-bf16"
    assert quickest([*records[:2], record("openvino-int8", 2, refused="it errs")], VNNI) == "openvino-bf16"
    assert quickest(records[:1], VNNI) == "torch-fp32"
    assert quickest([], VNNI) == "torch-fp32"


def test_eight_bits_measured_with_instructions_for_them_are_not_trusted_without():
    records = [record("openvino-int8", 2, instructions=VNNI), record("openvino-bf16", 3, instructions=())]
    assert quickest(records, ()) == "openvino-bf16"
    assert quickest([record("openvino-int8", 2, instructions=())], VNNI) == "openvino-int8"


def test_bfloat16_that_was_measured_in_float32_is_not_trusted_where_it_is_real():
    records = [record("openvino-bf16", 2, instructions=())]
    assert quickest(records, ("avx512_bf16",)) == "torch-fp32"
    assert quickest(records, ()) == "openvino-bf16"


def test_a_model_folder_is_served_with_what_was_measured_quickest(model, monkeypatch):
    monkeypatch.setattr(choice, "has_gpu", lambda: False)
    assert load_engine(model).name == "openvino-int8"
    monkeypatch.setattr(choice, "has_gpu", lambda: True)
    assert load_engine(model).name == "torch-half"


@pytest.mark.parametrize("name", ["openvino-bf16", "openvino-int8"])
@pytest.mark.parametrize("suffix", [".xml", ".bin"])
def test_a_missing_file_is_named(name, suffix, tmp_path, model):
    for part in (".xml", ".bin"):
        if part != suffix:
            (tmp_path / f"{name}{part}").write_bytes((model / f"{name}{part}").read_bytes())
    with pytest.raises(ArtifactError, match=f"is incomplete: there is no {name}{suffix} in it"):
        OpenvinoEngine(tmp_path / f"{name}.xml", SIZE)


def test_a_damaged_file_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "openvino-int8.xml").write_text("<net")
    (tmp_path / "openvino-int8.bin").write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"openvino-int8\.xml cannot be loaded into OpenVINO"):
        OpenvinoEngine(tmp_path / "openvino-int8.xml", SIZE).warm_up()


def test_an_engine_that_there_is_not_was_not_exported_or_is_refused_is_said(tmp_path):
    folder = save_random_model(tmp_path / "model")
    with pytest.raises(ArtifactError, match="there is no engine 'tensorrt'; there are auto, torch-fp32"):
        load_engine(folder, "tensorrt")
    with pytest.raises(ArtifactError, match="was not exported for openvino-int8; `kennel export` does it"):
        load_engine(folder, "openvino-int8")
    manifest = load_manifest(folder)
    save_manifest(folder, manifest.model_copy(update={"engines": (record("openvino-int8", refused="it errs"),)}))
    with pytest.raises(ArtifactError, match="is not kept for openvino-int8: it errs"):
        load_engine(folder, "openvino-int8")
    assert load_engine(folder).name == "torch-fp32"


def test_a_manifest_from_before_engines_were_exported_is_read(tmp_path):
    folder = save_random_model(tmp_path / "model")
    content = json.loads((folder / "kennel.json").read_text())
    del content["engines"]
    (folder / "kennel.json").write_text(json.dumps(content))
    assert load_engine(folder).name == "torch-fp32"


def test_an_exported_file_takes_images_channel_by_channel_as_anybody_else_feeds_it(model):
    graph = openvino.Core().read_model(model / "openvino-int8.xml")
    assert graph.inputs[0].partial_shape.to_string() == f"[?,3,{SIZE},{SIZE}]"


def test_probabilities_are_not_rounded_to_eight_bits(model):
    node = openvino.Core().read_model(model / "openvino-int8.xml").get_results()[0]
    after = []
    while node.get_type_name() != "Softmax":
        node = node.input_value(0).get_node()
        after.append(node.get_type_name())
    assert "FakeQuantize" not in after
