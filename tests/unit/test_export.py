"""Exporting a model that answers well: what is kept, what is refused, and what becomes of a broken export."""

import logging
import re
import resource
from functools import partial

import pytest

from kennel.engines import export
from kennel.engines.choice import load_engine
from kennel.engines.export import export_engines
from kennel.errors import ArtifactError, Stopped
from kennel.hyperparameters import EXPORTS
from kennel.model.artifact import load_artifact
from kennel.model.manifest import load_manifest
from kennel.serving.service import Settings, load_service
from tests.exports import LoudBackbone, colours, fit_head, save_loud_model, tiny_backbones
from tests.samples import save_random_model

IMAGES, LABELS = colours(60)
ENGINE_FILES = {f"{name}{suffix}" for name in EXPORTS for suffix in (".xml", ".bin")}


@pytest.fixture(scope="module", autouse=True)
def tiny():
    with tiny_backbones():
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return fit_head(save_random_model(tmp_path_factory.mktemp("trained") / "model"), IMAGES, LABELS)


@pytest.fixture
def folder(trained, tmp_path):
    """A copy of the trained model's folder."""
    copy = tmp_path / "model"
    copy.mkdir()
    for name in ("kennel.json", "model.safetensors"):
        (copy / name).write_bytes((trained / name).read_bytes())
    return copy


def run(folder, *names, report=lambda *_: None):
    return {record.name: record for record in export_engines(folder, names, IMAGES, IMAGES, LABELS, report)}


def files(folder):
    return {file.name for file in folder.iterdir()} - {"kennel.json", "model.safetensors"}


def another_network(folder, *_):
    """Return the graph of a network that answers otherwise."""
    classifier, manifest = load_artifact(folder)
    classifier.head[-1].weight.data.neg_()
    return export._graph(classifier, manifest)


def test_what_answers_as_the_model_does_is_kept_written_down_and_chosen(folder, caplog, monkeypatch):
    caplog.set_level("INFO")
    monkeypatch.setattr("kennel.engines.choice.has_gpu", lambda: False)
    logging.getLogger("nncf").addHandler(caplog.handler)  # as somebody's handler may be there
    records = run(folder, *EXPORTS)
    logging.getLogger("nncf").removeHandler(caplog.handler)
    assert caplog.handler.level == logging.INFO
    assert list(records) == ["torch-fp32", *EXPORTS]
    assert files(folder) == ENGINE_FILES
    for record in records.values():
        assert (record.images, record.refused) == (60, "")
        assert record.accuracy > 0.9
        assert record.agreement >= 0.97
        assert record.milliseconds > 0
    assert load_manifest(folder).engines == tuple(records.values())
    quick = min(EXPORTS, key=lambda name: records[name].milliseconds)
    caplog.clear()
    load_service(folder, Settings())
    assert [line for line in caplog.messages if line.startswith("engine name=")] == [
        record.line() for record in records.values()
    ]
    assert load_engine(folder).name == quick


def test_an_engine_that_answers_otherwise_is_refused_and_leaves_no_file(folder, monkeypatch):
    run(folder, "openvino-int8")
    assert "openvino-int8.bin" in files(folder)
    monkeypatch.setattr(export, "quantize", partial(another_network, folder))
    record = run(folder, "openvino-int8")["openvino-int8"]
    assert re.fullmatch(r"its accuracy is 0\.\d{4} where the model's is \d\.\d{4}", record.refused)
    assert files(folder) == set()
    assert load_engine(folder, "auto").name in ("torch-fp32", "torch-half")
    with pytest.raises(ArtifactError, match="is not kept for openvino-int8: its accuracy"):
        load_engine(folder, "openvino-int8")


@pytest.fixture
def loud(tmp_path):
    with tiny_backbones(LoudBackbone):
        yield save_loud_model(tmp_path / "loud")


def test_controlling_the_accuracy_leaves_the_layers_as_they_are_that_8_bits_are_too_few_for(loud):
    assert run(loud, "openvino-int8")["openvino-int8"].refused.startswith("its accuracy is ")
    told = []
    records = export_engines(
        loud, ["openvino-int8"], IMAGES, IMAGES, LABELS, lambda *done: told.append(done), control_accuracy=True
    )
    assert records[1].refused == ""
    assert records[1].accuracy >= records[0].accuracy - 1 / 60
    assert records[0].accuracy > 0.9
    assert ("openvino-int8", 59, 60) in told
    assert 'type="FakeQuantize"' in (loud / "openvino-int8.xml").read_text()  # the others have 8 bits


def test_an_engine_that_cannot_be_made_is_refused_with_the_reason_and_the_others_are_made(folder, monkeypatch):
    def fail(*_):
        raise RuntimeError("a long story\nunsupported operation")

    monkeypatch.setattr(export, "quantize", fail)
    records = run(folder, *EXPORTS)
    assert records["openvino-int8"].refused == "it cannot be made: unsupported operation"
    assert records["openvino-bf16"].refused == ""
    assert files(folder) == {"openvino-bf16.xml", "openvino-bf16.bin"}


@pytest.mark.parametrize("images", [0, 30])
def test_a_stop_keeps_the_engines_that_are_done_and_no_part_of_another(folder, images):
    def stop(name, done, total):
        if name == "openvino-int8" and done >= images:
            raise Stopped("now")

    with pytest.raises(Stopped):
        run(folder, "openvino-bf16", "openvino-int8", report=stop)
    assert files(folder) == {"openvino-bf16.xml", "openvino-bf16.bin"}
    assert [record.name for record in load_manifest(folder).engines] == ["torch-fp32", "openvino-bf16"]


def test_a_stop_of_a_second_export_leaves_the_first_as_it_was(folder):
    def stop(name, done, total):
        if name == "openvino-bf16":
            raise Stopped("now")

    run(folder, "openvino-bf16")
    before = load_manifest(folder).engines
    with pytest.raises(Stopped):
        run(folder, "openvino-bf16", report=stop)
    assert load_manifest(folder).engines == before
    load_engine(folder, "openvino-bf16").warm_up()


def test_a_full_disk_refuses_the_engine_and_spoils_no_model(folder):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**12, hard))  # the network has 40 KB
    try:
        record = run(folder, "openvino-bf16")["openvino-bf16"]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert record.refused.startswith("it cannot be made: ")
    assert files(folder) == set()
    load_engine(folder, "torch-fp32")


def test_a_folder_that_cannot_be_written_to_is_said(folder, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write wherever modes forbid it
    with pytest.raises(ArtifactError, match="model cannot be written to; copy it"):
        run(folder, "openvino-bf16")


def test_too_few_images_to_judge_by_export_nothing(folder, caplog):
    caplog.set_level("INFO")
    few = IMAGES[:49], LABELS[:49]
    assert export_engines(folder, EXPORTS, IMAGES, *few, lambda *_: None) == ()
    assert "49 validation images are too few" in caplog.text
    assert files(folder) == set()
