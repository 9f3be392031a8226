"""Sections that one method alone reads."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from lrm_align.settings.sampling import PassSettings
from lrm_align.settings.setting import setting


@dataclasses.dataclass(frozen=True)
class DefenceSettings:
    """`config.defence`: what steps in while the model answers."""

    factory: str = setting("", "of lrm_align.defences, or one of yours; empty: none")
    args: Mapping[str, Any] = setting({}, "of the factory")


@dataclasses.dataclass(frozen=True)
class AuditSettings(PassSettings):
    """`config.audit`: Safe Trigger's second pass (arXiv 2606.16808, section 3.1)."""

    template: str = setting("", "how the model is shown its own reasoning")
    think_source: str = setting("first", "which pass' thinking is kept", among=("first", "second"))


@dataclasses.dataclass(frozen=True)
class AnalysisSettings(PassSettings):
    """`config.analysis`: RAPO's first pass (arXiv 2602.04224)."""

    system: str = setting("", "system turn")
    user: str = setting("", "user turn")
    opening: str = setting("", "how the thought that is trained on begins")
    guidance: tuple[str, ...] = setting((), "what is said of each level")
    min_characters: int = setting(64, "of an analysis", least=0, unit="characters", source="code")
    fit: bool = setting(False, "whether an analysis of another length than asked for is dropped")


@dataclasses.dataclass(frozen=True)
class LevelsSettings:
    """`config.levels`: how complex an attack is."""

    table: Mapping[str, Any] = setting({}, "lengths by level")
    source: str = setting("column", "who says it", among=("column", "judged"))
    column: str = setting("level", "of the prompts")
    without: tuple[str, ...] = setting((), "kinds of prompts that get no analysis")


@dataclasses.dataclass(frozen=True)
class ToolSettings:
    """`config.tool`: ASCL's rules."""

    name: str = setting("rules", "of the tool")
    form: str = setting("template", "how it is offered and called, a name of chat.tool_calls.FORMS")
    offer: str = setting("", "what the system turn says of it")
    rules: str = setting("", "a file of rules; empty: the package's")
    max_calls: int = setting(2, "of a conversation", least=1)
    max_result_tokens: int = setting(1024, "of a result", least=1, unit="tokens")
    lookalikes: tuple[str, ...] = setting((), "kinds of prompts that only look harmful")


@dataclasses.dataclass(frozen=True)
class BranchesSettings:
    """`config.branches`: ASCL's bootstrap."""

    asked: str = setting("", "what the consulting branch is told")
    opening: str = setting("", "what its completions begin with")
    balance: str = setting("all", "what has the shares", among=("all", "class", "none"))
    direct_share: float = setting(0.5, "of traces that do not consult", least=0, most=1)


@dataclasses.dataclass(frozen=True)
class SearchSettings:
    """`config.search`: SafeThink's words (arXiv 2602.11096, section 3)."""

    texts: tuple[str, ...] = setting((), "candidates to start from")
    pieces: bool = setting(True, "whether runs of their tokens are candidates, too")
    beam: int = setting(3, "candidates that grow in a round; 0: none", least=0)
    rounds: int = setting(2, "of growing", least=0)
    max_tokens: int = setting(5, "of a candidate", least=1, unit="tokens", source="section 3")
    place: str = setting("step", "where candidates are put", among=("step", "start"))
    steps: int = setting(1, "after the words that the guard reads", least=1)
    samples: int = setting(1, "draws of a step", least=1)
    step_tokens: int = setting(256, "of words and step", least=1, unit="tokens")
    guard_reads_words: bool = setting(False, "whether the guard reads the words")
    horizon: int = setting(16, "of the model's own thought over which KL is taken", least=1, unit="tokens")
    kl_weight: float = setting(0.1, "of the KL in a candidate's value", least=0)
    held_out: float = setting(0.5, "share of the prompts that confirm", above=0, below=1)
    finalists: int = setting(12, "that are confirmed", least=1)
    rows: int = setting(8, "of a forward pass", least=1)
