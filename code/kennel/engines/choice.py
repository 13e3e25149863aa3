"""Which runtime a server uses for a model folder. Imports torch and OpenVINO only where they are chosen."""

from collections.abc import Sequence
from pathlib import Path

from kennel.engines.engine import Engine
from kennel.errors import ArtifactError
from kennel.machine import cpu_instructions, has_gpu
from kennel.model.manifest import WEIGHTS, EngineRecord, Manifest, load_manifest

AUTO = "auto"
ENGINES = ("torch-fp32", "torch-half", "openvino-bf16", "openvino-int8")
_EXPORTED = "openvino-"
_SHORT_INTEGERS = frozenset({"avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm"})
_SHORT_FLOATS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


def load_engine(folder: Path, name: str = AUTO, processes: int = 1) -> Engine:
    """Return the engine `name` for the model in `folder`, not warm yet; `processes` like this one share the machine.

    `auto` is torch in half precision on a GPU; on a CPU the quickest that was exported, not refused, and measured with
    arithmetic that this CPU does not fall behind; else torch in float32. Raises ArtifactError when there is no model,
    or no such engine of it.
    """
    manifest = load_manifest(folder)
    name = _choose(manifest, name)
    if not name.startswith(_EXPORTED):
        return _load_torch(folder, name, processes)
    record = next((record for record in manifest.engines if record.name == name), None)
    if record is None:
        raise ArtifactError(f"the model in {folder} was not exported for {name}; `kennel export` does it")
    if record.refused:
        raise ArtifactError(f"the model in {folder} is not kept for {name}: {record.refused}")
    from kennel.engines.openvino_engine import OpenvinoEngine  # noqa: PLC0415 - see the module

    return OpenvinoEngine(folder / f"{name}.xml", manifest.preprocessing.crop, processes)


def import_runtimes(name: str = AUTO) -> None:
    """Import what the engine `name` of any model will need, for a server that forks before it loads the first one.

    Raises ArtifactError when there is no such engine.
    """
    _check(name)
    if name == AUTO or name.startswith(_EXPORTED):
        import kennel.engines.openvino_engine  # noqa: PLC0415 - see the module
    if not name.startswith(_EXPORTED):
        import kennel.engines.torch_engine  # noqa: PLC0415 - as above
        import kennel.model.artifact  # noqa: F401, PLC0415 - as above


def weights_file(folder: Path, name: str = AUTO) -> Path:
    """Return which file's weights the engine `name` would load. Raises ArtifactError as `load_engine` does."""
    name = _choose(load_manifest(folder), name)
    return folder / (f"{name}.bin" if name.startswith(_EXPORTED) else WEIGHTS)


def _choose(manifest: Manifest, name: str) -> str:
    if name == AUTO:
        name = "torch-half" if has_gpu() else quickest(manifest.engines, cpu_instructions())
    _check(name)
    return name


def _check(name: str) -> None:
    if name not in (AUTO, *ENGINES):
        raise ArtifactError(f"there is no engine {name!r}; there are {', '.join((AUTO, *ENGINES))}")


def quickest(records: Sequence[EngineRecord], instructions: Sequence[str]) -> str:
    """Return the name of the quickest engine whose measured accuracy holds on a CPU with these instructions.

    Without instructions for them, sums of 8-bit products may saturate: what was measured with such instructions may be
    wrong without. bfloat16 is computed in float32 where there are none, which is no worse; measured so, it says
    nothing of bfloat16.
    """
    exported = [record for record in records if record.name.startswith(_EXPORTED) and not record.refused]
    usable = [record for record in exported if _holds(record, frozenset(instructions))]
    return min(usable, key=lambda record: record.milliseconds).name if usable else "torch-fp32"


def _holds(record: EngineRecord, here: frozenset[str]) -> bool:
    there = frozenset(record.instructions)
    if record.name == "openvino-int8":
        return bool(here & _SHORT_INTEGERS) or not there & _SHORT_INTEGERS
    return bool(there & _SHORT_FLOATS) or not here & _SHORT_FLOATS


def _load_torch(folder: Path, name: str, processes: int) -> Engine:
    import torch  # noqa: PLC0415 - see the module

    from kennel.engines.torch_engine import TorchEngine  # noqa: PLC0415 - as above
    from kennel.model.artifact import load_artifact  # noqa: PLC0415 - as above

    torch.set_num_threads(1)  # a thread pool begun before a server forks would hang its workers
    classifier, manifest = load_artifact(folder)
    precision = torch.float32 if name == "torch-fp32" else None
    return TorchEngine(classifier, manifest.preprocessing, manifest.views, precision, processes)
