"""Saves whole tensors of a training as smdebug's hook does, for `kennel debug` and whatever else reads its folders.

A script of one's own may call it as the training loop does:

    hook = TensorHook({}, Path("/opt/ml/output/tensors"))
    hook.begin_phase(model)
    for images, labels in loader:
        hook.begin_step(Mode.TRAIN, labels)
        logits = model(images)
        loss = criterion(logits, labels)
        hook.end_forward(logits, loss)
        loss.backward()
        hook.end_backward(lambda: 1.0)
    hook.close()

smdebug comes with the image and is not maintained any more: whatever it raises is raised here, and nobody waits for it.
"""

import atexit
import itertools
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kennel.debugger.naming import LABELS, LOSS, PREDICTIONS, module_names, parameter_name
from kennel.debugger.quiet import quiet_smdebug
from kennel.debugger.series import Mode
from kennel.debugger.trial import END_MARKER
from kennel.errors import TrialError

INTERVALS = {"train.save_interval": "100", "eval.save_interval": "10"}  # steps between two that are saved
COLLECTIONS = ("losses", "weights", "gradients", "biases", "relu_input", "relu_output")
_EXPRESSIONS = {"relu_input": ".*relu_input", "relu_output": ".*relu_output"}  # of those that smdebug does not know


class TensorHook:
    """Saves tensors in a folder; the calls are those that the training loop makes. All of them may raise."""

    def __init__(self, config: Mapping[str, Any], folder: Path) -> None:
        """Read `config`, what a job's `debughookconfig.json` holds (contract D2.1), but for its folder.

        Raises TrialError when the folder holds tensors of an earlier training.
        """
        if (folder / END_MARKER).exists():
            raise TrialError(f"{folder} holds tensors of an earlier training; give a folder that is not there yet")
        folder.mkdir(parents=True, exist_ok=True)  # smdebug would stumble over a place where it may not
        self._folder = folder
        with quiet_smdebug():
            import smdebug.pytorch as smdebug  # noqa: PLC0415 - slow, and only where tensors are saved

            self._modes = {mode: smdebug.modes[mode.name] for mode in (Mode.TRAIN, Mode.EVAL)}
            with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
                json.dump(_completed(config, folder), file)
                file.flush()
                hook = smdebug.Hook.create_from_json_file(file.name)
            smdebug.del_hook()  # a script's `get_hook` should not find it
        atexit.unregister(hook._cleanup)  # it would write once more after `close`
        hook.first_process = True  # else it waits for nobody, and saves nothing, beside a file of a killed training
        self._hook = hook
        self._module: nn.Module | None = None
        self._saving = False
        self._handles: list[Any] = []
        self._failed: Exception | None = None  # what went wrong inside the network, where nobody may hear of it

    def begin_phase(self, module: nn.Module) -> None:
        """Save tensors of `module` from now on."""
        self._module = module

    def begin_step(self, mode: Mode, labels: Tensor) -> None:
        """Count a step, and save its weights and what goes through the layers where it is one to be saved."""
        hook, module = self._hook, self._module
        with quiet_smdebug():
            hook._close_writers()
            hook.set_mode(self._modes[mode])
            if not hook.prepared_collections:
                hook._prepare_collections()
            hook._increment_step()
            self._saving = module is not None and bool(hook._get_collections_to_save_for_step())
            if not self._saving or module is None:
                return
            hook._initialize_writers()
            _write_at_once(hook.writer)
            for name, weight in module.named_parameters():
                self._save(parameter_name(module, name), weight)
            self._save_whole(LABELS, labels)
            for name, layer in module_names(module).items():
                self._attach(name, layer)

    def end_forward(self, logits: Tensor, loss: Tensor) -> None:
        """Save the loss and the predictions. Raises what went wrong inside the forward pass."""
        self._detach()
        if self._failed:
            raise self._failed
        if self._saving:
            with quiet_smdebug():
                self._save(LOSS, loss)
                self._save_whole(PREDICTIONS, logits)
                self._hook.last_saved_step = self._hook.step

    @torch.no_grad()
    def end_backward(self, scale: Callable[[], float]) -> None:
        """Save the gradients, which are `scale()` times too large."""
        if not self._saving or self._module is None:
            return
        times = scale()
        with quiet_smdebug():
            for name, weight in self._module.named_parameters():
                if weight.grad is not None:
                    self._save(f"gradient/{parameter_name(self._module, name)}", weight.grad / times)

    def end_step(self) -> bool:
        """Return whether the step was saved; its weights were, before it."""
        return self._saving

    def end_evaluation(self) -> None:
        """Do nothing: steps of an evaluation are steps."""

    def close(self) -> None:
        """Write what is left, and the mark of a training that has ended."""
        self._detach()
        with quiet_smdebug():
            self._hook.close()
        (self._folder / END_MARKER).touch()

    def _attach(self, name: str, module: nn.Module) -> None:
        hook, numbers = self._hook, itertools.count()  # a module may be run more than once
        if hook._get_collections_with_tensor(f"{name}_input_0"):

            def before(module: nn.Module, given: tuple[Any, ...]) -> None:
                self._look(f"{name}_input_{next(numbers)}", given[0] if given else None)

            self._handles.append(module.register_forward_pre_hook(before))  # before it changes them in place
        counted = itertools.count()
        if hook._get_collections_with_tensor(f"{name}_output_0"):

            def after(module: nn.Module, given: tuple[Any, ...], made: Any) -> None:
                self._look(f"{name}_output_{next(counted)}", made)

            self._handles.append(module.register_forward_hook(after))

    def _look(self, name: str, tensor: Any) -> None:
        try:
            if isinstance(tensor, Tensor) and not self._failed:
                with quiet_smdebug():
                    self._save(name, tensor)
        except Exception as error:  # noqa: BLE001 - raised where the forward pass is over
            self._failed = error

    def _save(self, name: str, tensor: Tensor) -> None:
        """Save a tensor of any collection that is saved at this step."""
        self._hook._save_for_tensor(name, _as_numpy_can(tensor))

    def _save_whole(self, name: str, tensor: Tensor) -> None:
        self._hook._write_raw_tensor_simple(name, _as_numpy_can(tensor))

    def _detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()


def _completed(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return a configuration with what it leaves open: the intervals, and the collections."""
    given = config.get("HookParameters") or {}
    parameters = given if "save_interval" in given else {**INTERVALS, **given}
    collections = config.get("CollectionConfigurations") or [{"CollectionName": name} for name in COLLECTIONS]
    completed = []
    for collection in collections:
        name, own = collection["CollectionName"], collection.get("CollectionParameters") or {}
        expression = {"include_regex": _EXPRESSIONS[name]} if name in _EXPRESSIONS else {}
        completed.append({"CollectionName": name, "CollectionParameters": {**expression, **own}})
    return {"LocalPath": str(folder), "HookParameters": parameters, "CollectionConfigurations": completed}


def _as_numpy_can(tensor: Tensor) -> Tensor:
    values = tensor.detach()
    return values.float() if values.dtype is torch.bfloat16 else values


def _write_at_once(writer: Any) -> None:
    """Let a writer of smdebug write in the thread that asks it to.

    Its own thread ends at the first error, of a full disk for example, and whoever asks next waits for ever.
    """
    from smdebug.core.locations import TensorLocation  # noqa: PLC0415 - as above
    from smdebug.core.utils import get_relative_event_file_path, parse_worker_name_from_file  # noqa: PLC0415

    events = writer.proto_writer
    file, hand_over = events._ev_writer, events.write_event

    def write(event: Any) -> None:
        if event is events._sentinel_event:
            hand_over(event)  # ends the thread
            return
        name = get_relative_event_file_path(file.name())
        start, length = file.write_event(event.event)
        place = TensorLocation(
            tname=event.tensorname,
            mode=event.get_mode(),
            mode_step=event.mode_step,
            event_file_name=name,
            start_idx=start,
            length=length,
            worker=parse_worker_name_from_file(name),
        )
        file.index_writer.add_index(place)

    events.write_event = write
