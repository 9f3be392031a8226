"""Sampling throughput of one small shape: 32 prompts of 64 tokens, lognormal output lengths up to 256, float32.

    python tests/bench/sampling_bench.py                                    # one JSON line
    python tests/bench/sampling_bench.py --transformers=VENV/bin/python --tunix=VENV/bin/python    # and the ratios

Output lengths are drawn once (median 50, σ 0.85, one of 256) and forced by the samples' limits. Peers run in their own
environments in the same call; they decode a batch to its longest, and like us are paid for the wanted tokens alone.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

import numpy as np

SHAPE = {
    "vocab_size": 8192,
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "rope_theta": 1000000.0,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
}
PROMPTS, PROMPT_LENGTH, LONGEST = 32, 64, 256


def output_lengths() -> np.ndarray:
    """The wanted tokens of each prompt."""
    lengths = np.random.default_rng(0).lognormal(np.log(50), 0.85, PROMPTS)
    lengths[0] = LONGEST
    return np.clip(lengths, 4, LONGEST).astype(int)


def prompt_ids() -> np.ndarray:
    """Tokens of no meaning."""
    return np.random.default_rng(1).integers(3, SHAPE["vocab_size"], (PROMPTS, PROMPT_LENGTH))


def ours(arguments: argparse.Namespace):
    """One run of the engine, as a function that returns the tokens it decoded."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax

    from lrm_align.models import Model, ModelConfig
    from lrm_align.sampling import Engine, EngineShape, Request, SamplingParams

    model = Model(ModelConfig.from_hf({**SHAPE, "model_type": "qwen3", "max_position_embeddings": 512}))
    params = model.init(jax.random.key(0))
    shape = EngineShape(
        slots=arguments.slots,
        max_length=PROMPT_LENGTH + LONGEST,
        prompt_buckets=(PROMPT_LENGTH,),
        prefill_rows=arguments.prefill_rows,
        refill_at=arguments.refill_at,
    )
    engine = Engine(model, params, shape, stop_ids=())
    requests = [
        Request(f"prompt {i}", ids, params=SamplingParams(max_new_tokens=int(length)))
        for i, (ids, length) in enumerate(zip(prompt_ids(), output_lengths()))
    ]
    return lambda: sum(completion.ids.size for completion in engine.run(requests))


def transformers_generate(arguments: argparse.Namespace):
    """One batch through `generate`."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(**SHAPE, max_position_embeddings=512, pad_token_id=0, eos_token_id=None, bos_token_id=None)
    model = Qwen3ForCausalLM(config).float().eval()
    ids = torch.from_numpy(prompt_ids())

    def run() -> int:
        with torch.inference_mode():
            out = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=LONGEST,
                min_new_tokens=LONGEST,
                do_sample=True,
                temperature=1.0,
                top_k=0,
            )
        assert out.shape[1] == PROMPT_LENGTH + LONGEST
        return int(output_lengths().sum())

    return run


def tunix_sampler(arguments: argparse.Namespace):
    """One batch through tunix's `Sampler`."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax
    from flax import nnx
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    from tunix.generate import sampler
    from tunix.models.qwen3 import model as qwen3

    vocab = {"<pad>": 0, "<eos>": 1, "<bos>": 2, **{f"t{i}": i for i in range(3, SHAPE["vocab_size"])}}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>"
    )
    config = qwen3.ModelConfig(
        num_layers=SHAPE["num_hidden_layers"],
        vocab_size=SHAPE["vocab_size"],
        embed_dim=SHAPE["hidden_size"],
        hidden_dim=SHAPE["intermediate_size"],
        num_heads=SHAPE["num_attention_heads"],
        head_dim=SHAPE["head_dim"],
        num_kv_heads=SHAPE["num_key_value_heads"],
        rope_theta=int(SHAPE["rope_theta"]),
        norm_eps=SHAPE["rms_norm_eps"],
        use_tied_embedding=True,
    )
    mesh = jax.make_mesh((1, 1), ("fsdp", "tp"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    prompts = [" ".join(f"t{i}" for i in ids[1:]) for ids in prompt_ids()]
    with mesh:
        model = qwen3.Qwen3(config, rngs=nnx.Rngs(0))
        cache = sampler.CacheConfig(
            cache_size=PROMPT_LENGTH + LONGEST,
            num_layers=config.num_layers,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
        )
        peer = sampler.Sampler(model, tokenizer, cache)

    def run() -> int:
        with mesh:
            # An eos that is never drawn among 8,192 equally likely tokens would be better; tunix needs one.
            peer(prompts, max_generation_steps=LONGEST, temperature=1.0, top_p=1.0, seed=0, eos_tokens=[5])
        return int(output_lengths().sum())

    return run


SUBJECTS = {"ours": ours, "transformers": transformers_generate, "tunix": tunix_sampler}


def measure(name: str, arguments: argparse.Namespace) -> dict:
    """Wanted tokens a second, the median of the runs after the first."""
    run = SUBJECTS[name](arguments)
    rates = []
    for _ in range(arguments.runs + 1):
        began = time.perf_counter()
        tokens = run()
        rates.append(tokens / (time.perf_counter() - began))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rates = [round(rate, 1) for rate in rates]
    return {"tokens_per_s": statistics.median(rates[1:]), "rates": rates, "peak_rss_mb": round(peak)}


def main() -> None:
    """Runs one subject in this process, or all that have an environment, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subject", choices=SUBJECTS, help="measure this one here")
    parser.add_argument("--transformers", help="a Python with torch and transformers")
    parser.add_argument("--tunix", help="a Python with google-tunix")
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--prefill_rows", type=int, default=4)
    parser.add_argument("--refill_at", type=int, default=1)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.subject:
        print(json.dumps(measure(arguments.subject, arguments)))
        return
    pythons = {"ours": sys.executable, "transformers": arguments.transformers, "tunix": arguments.tunix}
    lengths = output_lengths()
    report: dict = {"wanted_tokens": int(lengths.sum()), "longest": int(lengths.max()), "slots": arguments.slots}
    for name, python in pythons.items():
        if python:
            command = [python, __file__, *sys.argv[1:], f"--subject={name}"]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            report[name] = json.loads(done.stdout.strip().splitlines()[-1])
    for name in ("transformers", "tunix"):
        if name in report:
            report[f"ours_over_{name}"] = round(report["ours"]["tokens_per_s"] / report[name]["tokens_per_s"], 2)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
