"""A Hugging Face model with rows for new tokens in its embedding and head, made from files to files."""

import json
from collections.abc import Mapping, Sequence

import numpy as np
from etils import epath

from lrm_align import atomic_files, untrusted
from lrm_align.errors import UserError
from lrm_align.models import hf_files
from lrm_align.models.hf_write import write_weights
from lrm_align.models.safetensors_io import NewTensor, StoredTensor

MULTIPLE = 128  # rows come in multiples of it, so that every usual mesh divides them
_EMBED, _HEAD = "model.embed_tokens.weight", "lm_head.weight"


def rows(vocab_size: int, largest: int) -> int:
    """The rows of an embedding that has room for an id; models often have spare rows already.

    >>> rows(151_936, 151_670), rows(128_256, 128_257)
    (151936, 128384)
    """
    return vocab_size if largest < vocab_size else -(-(largest + 1) // MULTIPLE) * MULTIPLE


def grow(source: epath.Path, target: epath.Path, pieces: Mapping[int, Sequence[int]]) -> int:
    """Writes a model whose embedding, and head where it is not tied, have a row for each new token.

    row(new token) = mean of row(piece) over the pieces that it was spelled with before

    in float32, written as stored: the new token starts out between what its spelling meant. Rows that are there for
    size only are zero. All else is copied, one tensor in memory at a time. config.json comes last, as in `hf.save`.

    Args:
      source: a model directory.
      target: where to; the tokenizer is the caller's.
      pieces: ids of the spelling of each new id.

    Returns:
      the rows of the new embedding.

    Raises:
      UserError: a piece that the model does not have.
    """
    fields = untrusted.read_object(source / hf_files.CONFIG)
    vocab_size = fields["vocab_size"]
    beyond = sorted({piece for spelled in pieces.values() for piece in spelled if not 0 <= piece < vocab_size})
    if beyond or not all(len(spelled) for spelled in pieces.values()):
        raise UserError(f"{source}: the new tokens are spelled with ids {beyond}; the model has {vocab_size} rows")
    size = rows(vocab_size, max(pieces))
    stored = hf_files.tensors(source)
    tensors = [
        _grown(tensor, size, pieces) if tensor.name in (_EMBED, _HEAD) else _copied(tensor)
        for tensor in stored.values()
    ]
    target.mkdir(parents=True, exist_ok=True)
    write_weights(target, tensors)
    if (source / "generation_config.json").is_file():
        atomic_files.write_bytes(target / "generation_config.json", (source / "generation_config.json").read_bytes())
    atomic_files.write_text(target / "config.json", json.dumps({**fields, "vocab_size": size}, indent=2) + "\n")
    return size


def _copied(tensor: StoredTensor) -> NewTensor:
    return NewTensor(tensor.name, tensor.dtype, tensor.shape, lambda: np.asarray(tensor.open()))


def _grown(tensor: StoredTensor, size: int, pieces: Mapping[int, Sequence[int]]) -> NewTensor:
    def read() -> np.ndarray:
        old = tensor.open()
        new = np.zeros((size, *tensor.shape[1:]), tensor.dtype)
        new[: len(old)] = old
        for token, spelled in pieces.items():
            new[token] = np.asarray(old[list(spelled)], np.float32).mean(axis=0).astype(tensor.dtype)
        return new

    return NewTensor(tensor.name, tensor.dtype, (size, *tensor.shape[1:]), read)
