"""Keras files (``.keras``, and the older HDF5), read without running code in them."""

from __future__ import annotations

import itertools
import json
import re
import zipfile
from pathlib import Path
from typing import Any, Iterator, List, Sequence, Tuple

from agent.contract.failures import BadModel, UnsupportedFormat, UnsupportedOperator
from agent.contract.trial import TensorSpec
from agent.formats.savedmodel import require_room

# Classes whose saved form is code, or the name of another file to load.
_RUNS_CODE = ("Lambda", "__lambda__", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer")
_SCOPE = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*")
_MODULES = ("keras", "builtins")


class KerasModel:
    """A functional or sequential model, with its inputs and outputs as flat lists."""

    def __init__(self, artifact: Path) -> None:
        import keras

        self.model = _load(keras, artifact)
        self._tree = keras.tree
        try:
            self._structure = self.model.input
            ports = keras.tree.flatten(self._structure)
            self._outputs = keras.tree.flatten(self.model.output)
        except (AttributeError, ValueError) as error:
            raise UnsupportedFormat(
                "%s does not say its inputs: only functional and sequential models do (%s)"
                % (artifact.name, str(error)[:200])
            ) from error
        self.inputs = tuple(
            TensorSpec(port.name, str(port.dtype), _shape(port.shape)) for port in ports
        )
        self.outputs = tuple(_output_names(self.model, self._outputs))
        numbered = ["output_%d" % n for n in range(len(self._outputs))]
        output = self.model.output
        # Keras flattens a dictionary in the order of its sorted keys.
        self.exported = sorted(output) if isinstance(output, dict) else numbered

    def name_for_graph(self) -> None:
        """Rename layers whose names are no valid scopes of a TensorFlow graph (spaces, accents)."""
        import keras

        todo = list(self.model.layers)
        for layer in todo:
            todo.extend(getattr(layer, "layers", ()))
        if all(_SCOPE.fullmatch(layer.name) for layer in todo):
            return
        numbers = itertools.count()

        def renamed(layer: Any) -> Any:
            config = layer.get_config()
            if not _SCOPE.fullmatch(layer.name):
                plain = re.sub("[^A-Za-z0-9_.]", "_", layer.name)
                config["name"] = "layer_%d_%s" % (next(numbers), plain)
            return layer.__class__.from_config(config)

        copy = keras.models.clone_model(self.model, clone_function=renamed, recursive=True)
        copy.set_weights(self.model.get_weights())
        self.model = copy

    def packed(self, leaves: Sequence[Any]) -> Any:
        """``leaves``, one for each input, in the structure of the model's inputs."""
        return self._tree.pack_sequence_as(self._structure, list(leaves))

    def __call__(self, leaves: Sequence[Any]) -> List[Any]:
        """The outputs as a flat list; for tracing only, it is far too slow to be timed."""
        return list(self._tree.flatten(self.model(self.packed(leaves), training=False)))


def _shape(shape: Any) -> Tuple[int, ...]:
    return tuple(-1 if d is None else int(d) for d in shape)


def _output_names(model: Any, outputs: Sequence[Any]) -> List[str]:
    """The author's names where they are unique; else numbered ones."""
    names = [str(name) for name in getattr(model, "output_names", ())]
    if len(names) == len(outputs) == len(set(names)):
        return names
    return ["output_%d" % n for n in range(len(outputs))]


def _load(keras: Any, artifact: Path) -> Any:
    """The model. Raises ``BadModel``, ``UnsupportedOperator`` (a layer that is not Keras's)."""
    for class_name, module in _classes(_config(artifact)):
        if class_name in _RUNS_CODE:
            raise BadModel(
                "%s has a %s, which runs code when loaded; it is not loaded"
                % (artifact.name, class_name)
            )
        if module and module.split(".")[0] not in _MODULES:
            raise UnsupportedOperator(
                "keras", class_name, "it is of the module %s, not Keras's own" % module
            )
    try:
        return keras.saving.load_model(str(artifact), compile=False, safe_mode=True)
    except MemoryError:
        raise
    except Exception as error:  # h5py, zipfile and Keras each raise their own
        message = " ".join(str(error).split())
        for before in ("Could not locate class '", "Unknown layer: '"):
            if before in message:
                name = message.split(before)[1].split("'")[0]
                raise UnsupportedOperator("keras", name, "it is not Keras's own") from error
        raise BadModel("Keras cannot load %s: %s" % (artifact.name, message[:400])) from error


def _config(artifact: Path) -> Any:
    """The model's configuration in a Keras file. Raises ``BadModel``: there is none."""
    if not artifact.is_file():
        raise BadModel("%s does not exist" % artifact.name)
    try:
        if artifact.suffix == ".h5":
            import h5py

            with h5py.File(str(artifact), "r") as file:
                text = file.attrs.get("model_config")
        else:
            with zipfile.ZipFile(str(artifact)) as archive:
                require_room(artifact.name, archive.infolist())
                text = archive.read("config.json")
        if text is None:
            raise BadModel("%s holds weights alone, no model" % artifact.name)
        return json.loads(text)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        kind = "HDF5" if artifact.suffix == ".h5" else ".keras"
        raise BadModel(
            "%s is no %s file of a Keras model: %s" % (artifact.name, kind, str(error)[:200])
        ) from error


def _classes(config: Any) -> Iterator[Tuple[str, str]]:
    """Every class that the configuration names, with its module, empty where it has none."""
    todo = [config]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            if isinstance(value.get("class_name"), str):
                module = value.get("module")
                yield value["class_name"], module if isinstance(module, str) else ""
            todo.extend(value.values())
        elif isinstance(value, list):
            todo.extend(value)
