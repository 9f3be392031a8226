"""ThinkSafe: the model, told that a prompt is harmful, writes its own safe reasoning, and learns it for the bare prompt.

Lee, Park et al. 2026, arXiv 2601.23143. Stages: measure the model as it is; sample every prompt, the harmful ones
steered; drop open thoughts and what the guard calls unsafe; train on what is left under the prompt *without* steering;
write the model out; measure it again.

Variants are settings: `+ KL` is `objective` below with kl > 0; sampling without steering is `sample.steering = "none"`
with `sample.samples = 5` and `filter.whole_groups`; the wordings are `steering.WORDINGS`; stripped thinking is
`filter.strip_thinking`; another model's traces are `sample.teacher`; refusals without reasoning are
`sample.written_refusal`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath
from ml_collections import ConfigDict

from lrm_align import objectives
from lrm_align.chat import Chat
from lrm_align.config import build, digest, plain
from lrm_align.objectives import Objective
from lrm_align.provenance import Source
from lrm_align.recipes import direct_refusal, filtering, finetune, measuring, preflight, prompting, rollouts
from lrm_align.recipes.recipe import Recipe
from lrm_align.recipes.stage import Stage, Summary
from lrm_align.recipes.student import Student
from lrm_align.traces import Trace, find_shards
