"""Writes tests/golden/FAMILY.npz: what transformers computes for the tiny models. Needs torch.

    python tests/golden/make_goldens.py

Weights are not stored: they follow from names, shapes and the seed.
"""

import json
import pathlib
import sys
import tempfile

import numpy as np

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from tests import torch_reference as reference
from tests.families import FAMILIES

SEED, STEPS = 17, 24


def main() -> None:
    for family, fields in FAMILIES.items():
        tokens_BxT = np.random.default_rng(SEED).integers(3, fields["vocab_size"], (2, 40)).astype(np.int32)
        with tempfile.TemporaryDirectory() as folder:
            shapes = reference.random_directory(pathlib.Path(folder), fields, SEED)
            model = reference.load(pathlib.Path(folder))
        logits = reference.logits(model, tokens_BxT)
        loss, gradients = reference.gradients(model, tokens_BxT)
        np.savez_compressed(
            HERE / f"{family}.npz",
            config=json.dumps(fields),
            shapes=json.dumps(shapes),
            seed=SEED,
            tokens_BxT=tokens_BxT,
            logits_BxTxV=logits,
            loss=loss,
            greedy=reference.greedy(model, tokens_BxT[0, :10], STEPS),
            **{f"gradient.{name}": gradient for name, gradient in gradients.items()},
        )


if __name__ == "__main__":
    main()
