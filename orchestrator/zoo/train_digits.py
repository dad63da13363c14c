"""Trains the digits CNN and writes the artefacts that the zoo ships. Takes half a minute:
``python -m orchestrator.zoo.train_digits``, under the pytorch runtime environment.

Writes ``digits_cnn.onnx`` (the trained weights), ``digits.npz`` (held-out part and calibration
samples) and ``digits_cnn.json`` (the accuracy, and how it was measured). The held-out part does
not influence training: the number of epochs is fixed and the last weights are kept.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.zoo import digits, emit_onnx, emit_torch
from orchestrator.zoo.architectures import digits_cnn
from orchestrator.zoo.entry import DATA
from orchestrator.zoo.network import Network
from orchestrator.zoo.weights import FloatArray, SeededWeights, StoredWeights

SEED = 7
EPOCHS = 60
BATCH = 32
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.05
LABEL_SMOOTHING = 0.05
LARGEST_SHIFT = 2


def train(data: digits.Digits, epochs: int = EPOCHS) -> StoredWeights:
    """Weights after ``epochs`` passes of AdamW over the randomly shifted training part.

    Sets PyTorch's process-wide seed, thread count and determinism, so that a run can be repeated.
    """
    import torch

    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    network = digits_cnn.describe_with(SeededWeights(SEED), probabilities=False)
    module: Any = emit_torch.to_module(network).train()
    optimizer = torch.optim.AdamW(module.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = epochs * -(-len(data.train_labels) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=LABEL_SMOOTHING)
    state = np.random.RandomState(SEED)
    for epoch in range(epochs):
        order = state.permutation(len(data.train_labels))
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            images = shifted(data.train_inputs[chosen], state)
            loss = loss_of(
                module(torch.from_numpy(images)), torch.from_numpy(data.train_labels[chosen])
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        sys.stdout.write(f"epoch {epoch + 1}/{epochs}, last loss {loss.item():.4f}\n")
        sys.stdout.flush()
    arrays = {name: value.detach().numpy() for name, value in module.named_parameters()}
    return StoredWeights(arrays, origin="this training run")


def shifted(images: FloatArray, state: np.random.RandomState) -> FloatArray:
    """Each image shifted by up to two pixels in both directions, filled with black; (n, 1, h,
    w)."""
    edge = LARGEST_SHIFT
    height, width = images.shape[2:]
    padded = np.pad(images, ((0, 0), (0, 0), (edge, edge), (edge, edge)))
    moves = state.randint(0, 2 * edge + 1, size=(len(images), 2))
    return np.stack(
        [
            image[:, down : down + height, right : right + width]
            for image, (down, right) in zip(padded, moves, strict=True)
        ]
    )


def correct_answers(network: Network, data: digits.Digits) -> int:
    """Number of held-out digits that the emitted PyTorch module classifies correctly."""
    import torch

    with torch.no_grad():
        answers = emit_torch.to_module(network)(torch.from_numpy(data.inputs))
    return int((answers.argmax(dim=1).numpy() == data.labels).sum())


def record(data: digits.Digits, correct: int, folder: Path) -> dict[str, Any]:
    """The content of ``digits_cnn.json``, with hashes of the artefacts in ``folder``."""
    import sklearn
    import torch

    return {
        "held_out_top1": correct / len(data.labels),
        "held_out_correct": correct,
        "held_out_samples": len(data.labels),
        "train_samples": len(data.train_labels),
        "calibration_samples": len(data.calibration),
        "split": f"stratified, {digits.HELD_OUT_SHARE:.0%} held out, seed {digits.SEED}",
        "seed": SEED,
        "epochs": EPOCHS,
        "measured_with": "PyTorch module of the trained network, whole held-out part",
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "torch": torch.__version__,
            "scikit-learn": sklearn.__version__,
        },
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "source": "Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI 1998, "
        "doi:10.24432/C50P49, CC BY 4.0; by way of scikit-learn's load_digits",
        "sha256": {
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
            for name in ("digits_cnn.onnx", "digits.npz")
        },
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains, measures, writes; prints the accuracy."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator.zoo.train_digits")
    parser.add_argument("--out", type=Path, default=DATA, help="folder to write to")
    folder: Path = parser.parse_args(arguments).out
    data = digits.load()
    network = digits_cnn.describe_with(train(data))
    folder.mkdir(parents=True, exist_ok=True)
    emit_onnx.write(network, folder / "digits_cnn.onnx")
    np.savez_compressed(
        folder / "digits.npz",
        inputs=data.inputs,
        labels=data.labels,
        calibration=data.calibration,
    )
    found = record(data, correct_answers(network, data), folder)
    (folder / "digits_cnn.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(
        f"held-out top-1 {found['held_out_top1']:.4f} "
        f"({found['held_out_correct']} of {found['held_out_samples']})\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
