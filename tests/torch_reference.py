"""What transformers computes, for goldens and live parity tests; needs torch."""

import json
import pathlib

import numpy as np
import torch
import transformers
from safetensors.numpy import save_file

from tests.families import random_weights


def shapes(directory: pathlib.Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what transformers stores for the config.json in a directory."""
    config = transformers.AutoConfig.from_pretrained(directory)
    model = transformers.AutoModelForCausalLM.from_config(config)
    tied = model.config.tie_word_embeddings
    names = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    return {name: shape for name, shape in names.items() if not (tied and name == "lm_head.weight")}


def random_directory(directory: pathlib.Path, fields: dict, seed: int) -> dict[str, tuple[int, ...]]:
    """A Hugging Face directory with random weights, written without a line of this project; returns their shapes."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(fields))
    stored = shapes(directory)
    save_file(random_weights(stored, seed), directory / "model.safetensors", metadata={"format": "pt"})
    return stored


def load(directory: pathlib.Path) -> torch.nn.Module:
    """The directory as transformers loads it, in float32 with the plainest attention; complains about any surprise."""
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[problem]:
            raise AssertionError(f"transformers: {problem} {info[problem]}")
    return model.eval()


def logits(model: torch.nn.Module, tokens_BxT: np.ndarray) -> np.ndarray:
    """float32 logits_BxTxV."""
    with torch.no_grad():
        return model(torch.from_numpy(tokens_BxT.astype(np.int64))).logits.numpy()


def gradients(model: torch.nn.Module, tokens_BxT: np.ndarray) -> tuple[float, dict[str, np.ndarray]]:
    """Mean negative log-likelihood of tokens 1… and its gradient with respect to every stored weight."""
    ids = torch.from_numpy(tokens_BxT.astype(np.int64))
    model.zero_grad()
    loss = torch.nn.functional.cross_entropy(model(ids).logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    loss.backward()
    return loss.item(), {name: p.grad.numpy().copy() for name, p in model.named_parameters()}


def greedy(model: torch.nn.Module, prompt: np.ndarray, steps: int) -> np.ndarray:
    """The prompt (one row of ids) and its greedy continuation."""
    ids = torch.from_numpy(prompt.astype(np.int64))[None]
    with torch.no_grad():
        model.generation_config.eos_token_id = None  # Random weights would stop anywhere.
        out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=steps)
    return out[0].numpy()


def greedy_batch(model: torch.nn.Module, prompts: list[np.ndarray], steps: int) -> np.ndarray:
    """The greedy continuations_BxT of several prompts, padded on the left as transformers asks."""
    longest = max(prompt.size for prompt in prompts)
    ids, mask = (torch.zeros((len(prompts), longest), dtype=torch.int64) for _ in range(2))
    for row, prompt in enumerate(prompts):
        ids[row, -prompt.size :] = torch.from_numpy(prompt.astype(np.int64))
        mask[row, -prompt.size :] = 1
    with torch.no_grad():
        model.generation_config.eos_token_id = None  # The caller cuts each row at its own end.
        out = model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=steps, pad_token_id=0)
    return out[:, longest:].numpy()
