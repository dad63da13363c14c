"""Keras' own format to the older HDF5 and back: Keras loads the file and saves it."""

from __future__ import annotations

from pathlib import Path

from agent.contract.conversion_graph import Edge
from agent.runtimes.converter import Calibration, ConvertedArtifact, ConverterBase
from agent.runtimes.tensorflow.conversion import failure
from agent.runtimes.tensorflow.keras_files import KerasModel
from agent.runtimes.tensorflow.models import import_on_cpu


class KerasSave(ConverterBase):
    name = "keras_save"
    edges = (
        Edge("keras_save", ("keras", "fp32"), ("h5", "fp32")),
        Edge("keras_save", ("h5", "fp32"), ("keras", "fp32")),
    )
    modules = ("keras", "tensorflow")
    keeps = ("dynamic_shapes", "layout", "names")

    def convert(self, source: Path, folder: Path, calibration: Calibration) -> ConvertedArtifact:  # noqa: ARG002
        import_on_cpu()
        import keras

        suffix = ".keras" if source.suffix == ".h5" else ".h5"
        artifact = folder / ("model" + suffix)
        try:
            KerasModel(source).model.save(str(artifact))
        except Exception as error:  # Keras and h5py each raise their own
            raise failure(self.name, error) from error
        return ConvertedArtifact(artifact, "%s %s, as %s" % (self.name, keras.__version__, suffix))


CONVERTER = KerasSave
