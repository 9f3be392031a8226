"""Licences of models and prompt sets that are often used, by how their ids or file names begin.

As their repositories and cards state them; a name that is not here is reported as unknown, never guessed.
"""

import re

UNKNOWN = "not known here"

# The hub's identifiers. Distilled Llamas are under the licence of what they are derived from.
MODELS = {
    "qwen/qwen3-": "apache-2.0",
    "qwen/qwen3guard": "apache-2.0",
    "deepseek-ai/deepseek-r1-distill-llama-8b": "llama3.1",
    "deepseek-ai/deepseek-r1-distill-llama-70b": "llama3.3",
    "deepseek-ai/deepseek-r1-distill-qwen": "mit",
    "meta-llama/llama-3.1": "llama3.1",
    "meta-llama/llama-guard-3": "llama3.1",
    "allenai/wildguard": "apache-2.0",
}

PROMPTS = {
    "advbench": "MIT",
    "harmbench": "MIT",
    "strongreject": "MIT",
    "jailbreakbench": "MIT",
    "jbb": "MIT",
    "xstest": "CC BY 4.0",
    "oktest": "none stated",
    "do_not_answer": "CC BY-NC-SA 4.0",
    "donotanswer": "CC BY-NC-SA 4.0",
    "alpaca": "CC BY-NC 4.0",
    "dolly": "CC BY-SA 3.0",
    "databricksdolly": "CC BY-SA 3.0",
    "gsm8k": "MIT",
    "math500": "MIT",
    "star1": "Apache-2.0",
    "redinstruct": "Apache-2.0",
    "safechain": "none stated",
}


def of_model(name: str) -> str | None:
    """The hub's identifier of a model's licence; None where it is not known.

    >>> of_model("Qwen/Qwen3-8B"), of_model("somebody/model")
    ('apache-2.0', None)
    """
    return next((licence for start, licence in MODELS.items() if name.lower().startswith(start)), None)


def of_prompts(path: str) -> str:
    """The licence of a prompt set, by the last part of its hub id or file name.

    >>> of_prompts("data/advbench.csv"), of_prompts("UCSC-VLAA/STAR-1"), of_prompts("mine.jsonl")
    ('MIT', 'Apache-2.0', 'not known here')
    """
    stem = path.rstrip("/").rpartition("/")[2].lower().partition(".")[0]
    known = {_letters(name): licence for name, licence in PROMPTS.items()}
    plain = _letters(stem)
    return next((licence for name, licence in known.items() if plain.startswith(name)), UNKNOWN)


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name)
