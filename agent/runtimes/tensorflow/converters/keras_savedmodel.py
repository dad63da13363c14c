"""Keras files to a SavedModel of the job's fixed shapes, by Keras' ``export``."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence, Tuple

from agent.contract.conversion_graph import Edge
from agent.contract.failures import ConversionFailed
from agent.contract.trial import TensorSpec
from agent.runtimes.converter import Calibration, ConvertedArtifact
from agent.runtimes.tensorflow.conversion import PortedConverter, failure, ordered, signature_specs
from agent.runtimes.tensorflow.keras_files import KerasModel
from agent.runtimes.tensorflow.models import identifiers, import_on_cpu, signature_of


class KerasSavedModel(PortedConverter):
    name = "keras_savedmodel"
    edges = tuple(
        Edge("keras_savedmodel", (source, "fp32"), ("savedmodel", "fp32"))
        for source in ("keras", "h5")
    )
    modules = ("keras", "tensorflow")
    keeps = ("layout",)

    def convert(self, source: Path, folder: Path, calibration: Calibration) -> ConvertedArtifact:  # noqa: ARG002
        tf = import_on_cpu()
        import keras

        artifact = folder / "savedmodel"
        try:
            model = KerasModel(source)
            model.name_for_graph()
            inputs = self._ports.fixed(model.inputs)
            names = identifiers(inputs)
            model.model.export(
                str(artifact),
                format="tf_saved_model",
                input_signature=[model.packed(signature_of(inputs))],
                verbose=False,
            )
        except Exception as error:  # Keras and TensorFlow each raise their own
            raise failure(self.name, error) from error
        takes, gives = signature_specs(artifact)
        return ConvertedArtifact(
            artifact,
            "%s %s, tensorflow %s" % (self.name, keras.__version__, tf.__version__),
            _in_order(takes, names, self.name),
            _in_order(gives, model.exported, self.name),
        )


def _in_order(
    specs: Sequence[TensorSpec], names: Sequence[str], tool: str
) -> Tuple[TensorSpec, ...]:
    """A signature's tensors in the order of ``names``, which are the model's. Raises
    ``ConversionFailed``: the names differ."""
    found = ordered(specs, [TensorSpec(name, "", ()) for name in names])
    if [spec.name for spec in found] != list(names):
        raise ConversionFailed(
            "%s: the signature has %s, expected %s"
            % (tool, ", ".join(s.name for s in specs), ", ".join(names))
        )
    return found


CONVERTER = KerasSavedModel
