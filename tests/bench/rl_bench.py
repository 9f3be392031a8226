"""Colocated GRPO on a small model: 8 prompts of 16 tokens × 8 samples of up to 64 tokens, rollout and update.

    python tests/bench/rl_bench.py                                            # one JSON line
    python tests/bench/rl_bench.py --tunix=VENV/bin/python --trl=VENV/bin/python --rounds=3      # and the ratios

A Qwen3 of 0.8 million random parameters, float32, all weights train, AdamW 1e-4, no KL, one update a step, a reward of
the text's length. Nearly all completions reach the limit in every library. Peers run in environments of their own in
the same call, in turns; a rate is the median of the steps after the first ones, of all rounds together.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time

import numpy as np

VOCAB, PROMPTS, SAMPLES, PROMPT_LENGTH, NEW, STEPS, WARM_UP = 384, 8, 8, 16, 64, 12, 4
SHAPE = {
    "vocab_size": VOCAB,
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "tie_word_embeddings": True,
    "rope_theta": 1e6,
    "rms_norm_eps": 1e-6,
}


def tokenizer(**more):
    """Words that are numbers."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": 0, "<eos>": 1, "<unk>": 2, **{f"w{i}": i for i in range(3, VOCAB)}}
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>", **more}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


def prompt_texts(count: int, words: int = PROMPT_LENGTH) -> list[str]:
    """Prompts of no meaning."""
    rng = np.random.default_rng(0)
    return [" ".join(f"w{i}" for i in rng.integers(3, VOCAB, words)) for _ in range(count)]


class Clock:
    """Wall and processor seconds between the calls."""

    def __init__(self):
        self._wall, self._cpu = [], []

    def __call__(self) -> None:
        self._wall.append(time.perf_counter())
        self._cpu.append(time.process_time())

    def steps(self) -> dict:
        return {"steps": np.diff(self._wall).tolist(), "cpu": np.diff(self._cpu).tolist()}


def rewarded(text: str) -> float:
    """A reward with spread that costs nothing."""
    return float(len(text) % 7)


def ours() -> dict:
    """The runtime as a recipe runs it: collector, grading in its thread, credit, packed rows, one compiled update."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax

    from lrm_align import advantages, objectives
    from lrm_align.chat import Chat, Prompt
    from lrm_align.models import Model, ModelConfig
    from lrm_align.rewards import weighted_sum
    from lrm_align.rl.collect import Collector
    from lrm_align.rl.colocated import Colocated
    from lrm_align.rl.learner import Learner
    from lrm_align.rl.loop import reinforce
    from lrm_align.rl.settings import RLSettings
    from lrm_align.rl.task import Task, Tickets
    from lrm_align.sampling import EngineShape, Request, SamplingParams
    from lrm_align.scoring import Score
    from lrm_align.training import OptimizerSettings, full, make_mesh

    clock = Clock()

    class Length:
        name, version = "length", "1"

        def grade(self, rollouts):
            clock()
            return [Score(rewarded(rollout.text)) for rollout in rollouts]

    model = Model(ModelConfig.from_hf({**SHAPE, "model_type": "qwen3", "max_position_embeddings": 256}), remat="none")
    params = jax.jit(model.init)(jax.random.key(0))
    chat = Chat(tokenizer(), "{% for message in messages %}{{ message.content }} {% endfor %}")
    sampling = SamplingParams(max_new_tokens=NEW)

    def request(prompt: Prompt, name: str) -> Request:
        return Request(name, chat.prompt_ids(prompt.text), samples=SAMPLES, params=sampling)

    prompts = [Prompt(str(i), text, "benign") for i, text in enumerate(prompt_texts(512))]
    task = Task(prompts, request, {"length": Length()}, weighted_sum({"length": 1.0}))
    tickets = Tickets(prompts, seed=0)
    slots = PROMPTS * SAMPLES
    longest = PROMPT_LENGTH + NEW
    shape = EngineShape(slots, longest, prompt_buckets=(PROMPT_LENGTH,), steps_per_call=NEW, lanes=2)
    settings = RLSettings(
        STEPS + 1,
        PROMPTS,
        SAMPLES,
        old_logp="none",
        longest=longest,
        row_length=longest,
        piece_rows=slots // 4,
        max_segments=1,
        chunk=0,
    )
    mesh = make_mesh()
    collector = Collector(model, chat, task, tickets, shape, seed=0)
    optimizer = OptimizerSettings(learning_rate=1e-4, schedule="constant", warmup=0.0)
    learner = Learner(model, params, objectives.grpo(), full(), optimizer, settings, mesh)
    credit = advantages.grpo()
    learned = reinforce(
        learner, Colocated(collector, PROMPTS), task, tickets, credit, settings, chat, log=lambda _: None
    )
    shares = {
        name: statistics.median(row[name] for row in learned.rows[WARM_UP:])
        for name in learned.rows[-1]
        if name.startswith("time/")
    }
    outside = statistics.median(1 - row["time/rollout"] - row["time/train"] for row in learned.rows[WARM_UP:])
    return {**clock.steps(), "shares": shares, "outside": outside}


def trl() -> dict:
    """GRPOTrainer of TRL."""
    import torch
    from datasets import Dataset
    from transformers import Qwen3Config, Qwen3ForCausalLM, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    clock = Clock()

    torch.manual_seed(0)
    ends = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
    model = Qwen3ForCausalLM(Qwen3Config(**SHAPE, max_position_embeddings=256, **ends)).float()

    class OnStep(TrainerCallback):
        def on_step_end(self, *arguments, **named):
            clock()

    arguments = GRPOConfig(
        output_dir="/tmp/rl_bench_trl",
        per_device_train_batch_size=PROMPTS * SAMPLES,
        num_generations=SAMPLES,
        max_completion_length=NEW,
        max_steps=STEPS + 1,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        bf16=False,
        learning_rate=1e-4,
        beta=0.0,
        disable_tqdm=True,
        logging_steps=100,
        gradient_checkpointing=False,
    )
    GRPOTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": prompt_texts(512)}),
        processing_class=tokenizer(padding_side="left"),
        reward_funcs=lambda completions, **named: [rewarded(text) for text in completions],
        callbacks=[OnStep()],
    ).train()
    return clock.steps()


def tunix() -> dict:
    """GRPOLearner of google-tunix."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax
    import optax
    from flax import nnx
    from tunix.models.qwen3 import model as qwen3
    from tunix.rl import rl_cluster
    from tunix.rl.grpo import grpo_learner
    from tunix.rl.rollout import base_rollout

    config = qwen3.ModelConfig(
        num_layers=SHAPE["num_hidden_layers"],
        vocab_size=VOCAB,
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
    with mesh:
        actor, reference = (qwen3.Qwen3(config, rngs=nnx.Rngs(0)) for _ in range(2))
    roles = (rl_cluster.Role.ACTOR, rl_cluster.Role.REFERENCE, rl_cluster.Role.ROLLOUT)
    cluster = rl_cluster.RLCluster(
        actor=actor,
        reference=reference,
        tokenizer=tokenizer(bos_token="<eos>"),
        cluster_config=rl_cluster.ClusterConfig(
            role_to_mesh=dict.fromkeys(roles, mesh),
            rollout_engine="vanilla",
            offload_to_cpu=False,
            training_config=rl_cluster.RLTrainingConfig(
                actor_optimizer=optax.adamw(1e-4),
                eval_every_n_steps=10**6,
                max_steps=STEPS + 1,
                mini_batch_size=PROMPTS,
                train_micro_batch_size=PROMPTS,
            ),
            rollout_config=base_rollout.RolloutConfig(
                max_tokens_to_generate=NEW,
                max_prompt_length=PROMPT_LENGTH,
                kv_cache_size=PROMPT_LENGTH + NEW + 16,
                temperature=1.0,
                top_p=1.0,
                eos_tokens=[1],
            ),
        ),
    )
    clock = Clock()

    def reward(prompts, completions, **named):
        clock()
        return [rewarded(text) for text in completions]

    learner = grpo_learner.GRPOLearner(
        rl_cluster=cluster,
        algo_config=grpo_learner.GRPOConfig(num_generations=SAMPLES, beta=0.0),
        reward_fns=reward,
    )
    texts = prompt_texts((STEPS + 1) * PROMPTS, PROMPT_LENGTH - 1)  # tunix puts a <bos> in front
    with mesh:
        learner.train([{"prompts": np.array(texts[i : i + PROMPTS])} for i in range(0, len(texts), PROMPTS)])
    return clock.steps()


SUBJECTS = {"ours": ours, "tunix": tunix, "trl": trl}


def one(python: str, name: str) -> dict:
    """A subject in a process of its own."""
    environment = dict(os.environ)
    if name != "ours":
        environment.pop("PYTHONPATH", None)
    else:
        environment["PYTHONPATH"] = str(pathlib.Path(__file__).parents[2])
    command = [python, __file__, f"--subject={name}"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(done.stdout.strip().splitlines()[-1])


def summary(runs: list[dict]) -> dict:
    """Completions a second of the steps after the first ones of all runs."""
    rates = [PROMPTS * SAMPLES / seconds for run in runs for seconds in run["steps"][WARM_UP:]]
    found = {
        "completions_per_s": round(statistics.median(rates), 1),
        "range": [round(min(rates), 1), round(max(rates), 1)],
        "cpu_s_a_step": round(statistics.median(cpu for run in runs for cpu in run["cpu"][WARM_UP:]), 3),
        "peak_rss_mb": max(run["peak_rss_mb"] for run in runs),
    }
    for name in ("outside", "shares"):
        if name in runs[-1]:
            found[name] = runs[-1][name]
    return found


def main() -> None:
    """Runs one subject in this process, or all that have an environment, in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subject", choices=SUBJECTS, help="measure this one here")
    parser.add_argument("--tunix", help="a Python with google-tunix")
    parser.add_argument("--trl", help="a Python with TRL")
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.subject:
        found = SUBJECTS[arguments.subject]()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({**found, "peak_rss_mb": round(peak)}))
        return
    pythons = {"ours": sys.executable, "tunix": arguments.tunix, "trl": arguments.trl}
    wanted = {name: python for name, python in pythons.items() if python}
    runs: dict[str, list[dict]] = {name: [] for name in wanted}
    for _ in range(arguments.rounds):
        for name, python in wanted.items():
            runs[name].append(one(python, name))
    report = {name: summary(found) for name, found in runs.items()}
    for name in report.keys() - {"ours"}:
        ratio = report["ours"]["completions_per_s"] / report[name]["completions_per_s"]
        cpu = report[name]["cpu_s_a_step"] / report["ours"]["cpu_s_a_step"]
        report[name] |= {"ours_over_it": round(ratio, 2), "its_cpu_over_ours": round(cpu, 2)}
    print(json.dumps(report))


if __name__ == "__main__":
    main()
