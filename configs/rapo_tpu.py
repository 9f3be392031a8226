"""RAPO on Cloud TPU, with the paper's numbers where they are known (arXiv 2602.04224).

    python -m lrm_align.main --config=configs/rapo_tpu.py:qwen3_8b --workdir=gs://BUCKET/rapo

"paper" is the paper, whose text was at hand in excerpts only; "code" is the authors' first release; "TRL" is a default
of the library that the code leaves unset (0.28, the version of its date). All else is ours. Presets that end in `_lora`
train adapters instead of all weights. Mesh axes of size -1 take what the other axes leave of the devices.

The preset `align` is for one machine and prompts of one's own, `prompts.jsonl` and `held_out.jsonl`, as in `align.py`:

    python -m lrm_align.main --config=configs/rapo_tpu.py:align+prompted --config.model.path=MY_MODEL

Two sets have to be fetched by hand. WildJailbreak is gated: accept its terms and put its `train.tsv` to
`wildjailbreak/`. Strata-Sword's English files are XLSX: save each as CSV in `strata_sword/`, under the names below;
where a column of the requests has another name, `--config.prompts.args.sources.level_2.columns.text=…` takes it.
"""

from typing import Any

from ml_collections import ConfigDict

from lrm_align.config import choose
from lrm_align.recipes import rapo_passes
from lrm_align.scoring import levels
from lrm_align.settings import own_files


def get_config(preset: str = "qwen3_8b") -> ConfigDict:
    """One of the paper's models; bare it is Qwen3-8B."""
    config = ConfigDict()
    config.recipe = "lrm_align.recipes.rapo:recipe"
    config.seed = 0  # code: of the shuffle of RL data; nothing else has a seed there
    config.seeds = 1
    config.wandb = ""  # a project of Weights & Biases that mirrors the metrics; needs the extra [wandb]

    config.model = {
        "path": "Qwen/Qwen3-8B",
        "dtype": "bfloat16",  # code: bf16 in RL, fp16 in SFT
        "param_dtype": "float32",  # TRL: what is loaded by its path is float32
        "remat": "full",  # ours
        "attention": "auto",
        "template_date": "",  # what templates that ask for the day are told; 2024-07-26
        "thinking": "auto",  # what thoughts look like: found by itself; or "none", or both marks, "<think> </think>"
    }
    config.lora = {
        "rank": 0,  # code: all weights
        "alpha": 16.0,
        "dropout": 0.0,
        "targets": "q|k|v|o|gate|up|down",
    }
    config.mesh = {"data": 1, "fsdp": -1, "tensor": 1}

    config.levels = {
        "table": {
            "lengths": levels.JUDGED,  # code: what the judge asks for; ours: who writes is told the same
            "written": None,  # levels.WRITTEN brings back what the code tells who writes
        },
        "source": "column",  # code: the number of Strata-Sword's file, 1 where there is none; or "judged"
        "column": "level",
        "without": (),  # code: every prompt gets an analysis
    }
    config.prompts = {  # stage 1
        "factory": "lrm_align.chat:load_sources",
        "args": {
            "sources": {  # code: starbenign:400,stratasword:400
                "benign": _star_benign(),
                "level_1": _strata_sword(1, "jailbreak instruction"),
                "level_2": _strata_sword(2, "攻击指令"),
                "level_3": _strata_sword(3, "攻击指令"),
            },
        },
        "against": _evaluated(),  # ours: no training prompt may be in a set that is evaluated on
    }
    config.rl_prompts = {  # stage 2
        "factory": "lrm_align.chat:load_sources",
        "args": {
            "sources": {  # code: wildjailbreak:300,star:100,starbenign:400, the first of each; ours: drawn by the seed
                "jailbreak": {
                    "path": "wildjailbreak/train.tsv",  # paper: WildTeaming; the code takes the evaluation set
                    "columns": {"text": "adversarial"},
                    "where": {"data_type": "adversarial_harmful"},
                    "label": "harmful",
                    "kind": "jailbreak",
                    "source": "wildjailbreak",
                    "limit": 300,
                },
                "harmful": {
                    "path": "UCSC-VLAA/STAR-1",
                    "columns": {"text": "question"},
                    "label": "harmful",
                    "kind": "plain",
                    "source": "star",
                    "limit": 100,
                },
                "benign": _star_benign(),
            },
        },
        "against": _evaluated(),
    }
    config.sample = {  # of both passes of stage 1, and of evaluations
        "samples": 1,  # code
        "temperature": 0.0,  # code
        "top_p": 1.0,  # code
        "top_k": 0,  # code
        "min_p": 0.0,
        "max_new_tokens": 2048,  # code
        "slots": 64,  # ours
        "max_length": 4096,  # ours
        "steps_per_call": 64,  # ours
        "shard_traces": 256,  # ours: at most these are lost to a kill
    }
    config.analysis = {  # pass 1
        "system": rapo_passes.SYSTEM,  # ours
        "user": rapo_passes.USER,  # ours
        "opening": rapo_passes.OPENING,  # code
        "guidance": rapo_passes.GUIDANCE,  # ours
        "min_characters": 64,  # code
        "fit": False,  # code; True drops what does not keep to its length
        "sampling": {},
    }
    config.continuation = {  # pass 2
        "sampling": {
            "max_new_tokens": 3072,  # code: 2048 after the analysis; ours: counted with it
        },
    }
    config.filter = {"guarded": False}  # code: nobody looks whether harmful prompts are refused
    config.guard = {
        "factory": "lrm_align.scoring.llama_guard:load",
        "args": {"path_or_hub_id": "meta-llama/Llama-Guard-3-8B", "dtype": "bfloat16"},  # ours: the paper's is unknown
        "sharded": True,  # over the run's mesh
        "threshold": 0.5,  # ours
    }
    config.train = {  # stage 1
        "objective": "lrm_align.objectives:sft",
        "objective_args": {},
        "batch_traces": 16,  # ours; code: 2 a process, whose number is unknown
        "batch_rows": 0,
        "row_length": 4096,  # ours: TRL cuts at 1024, and with it most answers to prompts of level 3
        "max_segments": 16,  # a batch has no more
        "overlong": "drop",  # ours: a cut trace would teach to stop before the answer
        "epochs": 3,  # code
        "micro_batches": 1,
        "chunk": 512,  # ours: positions whose logits over 151,936 tokens are in memory at a time
        "train_sources": ("SAMPLED", "INJECTED"),  # code: the analysis that was put there is trained on as well
        "optimizer": _optimizer(learning_rate=2e-5),  # TRL
        "checkpoint_every": 100,  # ours
        "keep": 2,  # ours
        "log_every": 10,  # ours
    }
    itself = {"factory": "lrm_align.scoring.judge:same", "args": {}}  # paper, section 4.4: the untrained model
    config.judge = {
        "risk": dict(itself),
        "harmful": dict(itself),
        "benign": dict(itself),
        "hints": True,  # code: the judge is told how many sentences it sees
        "truncated": "scored",  # ours: code judges what is there of it, an empty answer
        "thinking": False,  # code
        "max_new_tokens": 1024,  # code
        "slots": 64,  # ours
        "max_length": 6144,  # ours: a prompt, an answer of 2048 tokens, the rubric and the verdict
        "steps_per_call": 64,  # ours
    }
    config.reward = {
        "factory": "lrm_align.rewards:weighted_sum",
        "args": {"weights": {"risk": 1.0, "general": 1.0}},  # paper: the sum, no coefficient
        "parts": ("risk", "general"),
    }
    config.rl = {  # stage 2
        "steps": 150,  # code: 3 epochs of 800 prompts; ours: 16 of them a step
        "groups": 16,  # ours; code: at 4 processes 1
        "samples": 4,  # code
        "objective": "lrm_align.objectives:dapo",  # TRL
        "objective_args": {"epsilon_high": 0.2},  # TRL: 0.2 on both sides
        "advantage": "lrm_align.advantages:grpo",  # TRL: the sum, then mean and deviation of the group
        "advantage_args": {},
        "inner_epochs": 1,  # TRL
        "minibatches": 1,  # TRL
        "old_logp": "none",  # one update a step: the ratio is 1, and the clip is inert
        "max_refills": 0,  # TRL: groups without spread stay
        "reference": {"sync_every": 0, "mixup": 0.6},  # TRL: no KL, so no reference
        "sampling": {
            "temperature": 1.2,  # code
            "top_k": 0,  # TRL
            "top_p": 0.9,  # code
            "min_p": 0.0,
            "max_new_tokens": 2048,  # code
            "slots": 64,  # ours
            "max_length": 4096,  # ours
            "steps_per_call": 64,  # ours
        },
        "row_length": 4096,  # ours: holds one trace of any length
        "piece_rows": 16,  # ours: one a chip of 16
        "max_segments": 16,  # ours
        "chunk": 512,  # ours
        "lora": dict(config.lora),
        "optimizer": _optimizer(learning_rate=4e-6),  # TRL: 1e-6 for 1 prompt; ours: by the square root of 16
        "checkpoint_every": 10,  # ours
        "keep": 2,  # ours
        "log_every": 1,  # ours
        "grade_seconds": 1800.0,  # ours: three questions about 64 samples; the first ones compile the judge
        "keep_rollouts": 8,  # ours
        "mode": "colocated",
        "max_staleness": 0,
        "sampler_count": 1,
    }
    config.export = {"dtype": "bfloat16", "adapters": True}  # ours
    config.evaluate = {
        "factory": "lrm_align.evals.levelled:evaluate",
        "args": {
            "sources": _evaluated(),
            # Ours: levels of attacks that nothing is trained on; name files as in config.prompts, with `given`.
            "levelled": {},
            "limit": 0,  # prompts a set; 0 takes all
        },
        "before_args": {},
        "table_args": {},
        "temperature": 0.6,  # the model card's; the paper's is unknown
        "top_p": 0.95,  # the model card's
        "top_k": 20,  # the model card's
    }
    for change in choose(preset, PRESETS):
        change(config)
    return config


def _star_benign() -> dict[str, Any]:
    """The same 400 benign prompts in both stages, as in the code."""
    return {
        "path": "UCSC-VLAA/STAR-benign-915",
        "columns": {"text": "question"},
        "label": "benign",
        "source": "star_benign",
        "limit": 400,
    }


def _strata_sword(level: int, column: str) -> dict[str, Any]:
    """One of its three files, whose number is the level; all rows: 100, 100 and 200."""
    return {
        "path": f"strata_sword/strata_sword_en_level_{level}.csv",
        "columns": {"text": column},
        "label": "harmful",
        "kind": f"level {level}",
        "given": {"level": level},
    }


def _evaluated() -> dict[str, dict[str, Any]]:
    """Harmful sets that the hub gives without terms; the paper's own are JailbreakBench, HarmBench and SorryBench."""
    return {
        "strongreject": {"path": "walledai/StrongREJECT", "columns": {"text": "prompt"}, "label": "harmful"},
        "advbench": {"path": "walledai/AdvBench", "columns": {"text": "prompt"}, "label": "harmful"},
        "xstest_unsafe": {
            "path": "walledai/XSTest",
            "columns": {"text": "prompt"},
            "where": {"label": "unsafe"},
            "label": "harmful",
            "split": "test",
        },
    }


def _optimizer(learning_rate: float) -> dict[str, Any]:
    return {
        "name": "adamw",
        "learning_rate": learning_rate,
        "schedule": "linear",  # TRL, as for the next five
        "warmup": 0.0,
        "b1": 0.9,
        "b2": 0.999,
        "eps": 1e-8,
        "weight_decay": 0.0,
        "clip": 1.0,
    }


def student(path: str):
    """Another model, with the sampling that its card asks for."""

    def change(config: ConfigDict) -> None:
        config.model.path = path
        if "R1-Distill" in path:
            config.evaluate.top_k = 0

    return change


def lora(config: ConfigDict) -> None:
    """Adapters on bfloat16 weights, in both stages. Not in the paper."""
    config.model.param_dtype = ""
    for adapters, optimizer in ((config.lora, config.train.optimizer), (config.rl.lora, config.rl.optimizer)):
        adapters.rank = 32  # ours
        optimizer.learning_rate *= 10  # ours: adapters want about ten times the rate


def align(config: ConfigDict) -> None:
    """One machine, one's own prompts, whose levels the model judges; short texts. All numbers are ours."""
    lora(config)
    config.levels.source = "judged"
    for prompts in (config.prompts, config.rl_prompts):
        prompts.args = {"sources": own_files.prompts()}
        prompts.against = own_files.held_out()
    config.evaluate.args = {"sources": own_files.held_out(), "levelled": {}, "limit": 0}
    config.sample.update(max_new_tokens=1024, max_length=2048, slots=8)
    config.continuation.sampling.max_new_tokens = 1536  # counted with the analysis
    config.train.update(row_length=2048, batch_traces=4, max_segments=4)
    config.judge.update(max_new_tokens=512, max_length=4096, slots=8)
    config.rl.sampling.update(max_new_tokens=1024, max_length=2048, slots=8)
    config.rl.update(steps=50, groups=2, row_length=2048, piece_rows=1, max_segments=4)
    config.rl.optimizer.learning_rate = 2e-5  # half of `lora`'s: an eighth of the prompts a step


PRESETS = {
    "align": (student("Qwen/Qwen3-0.6B"), align),
    "qwen3_0_6b": (student("Qwen/Qwen3-0.6B"),),
    "qwen3_1_7b": (student("Qwen/Qwen3-1.7B"),),
    "qwen3_8b": (student("Qwen/Qwen3-8B"),),
    "qwen3_8b_lora": (student("Qwen/Qwen3-8B"), lora),
    "r1_qwen_1_5b": (student("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"),),
}
