"""Every section of a config."""

import dataclasses

from lrm_align.settings.data import DataSettings, PairsSettings, PromptsSettings, WeakenSettings
from lrm_align.settings.evaluation import (
    CostSettings,
    DepthSettings,
    EvaluateSettings,
    MethodSettings,
    PerplexitySettings,
    SetSettings,
)
from lrm_align.settings.judging import (
    PARTS,
    AnswerSettings,
    AnswersSettings,
    FilterSettings,
    GuardSettings,
    JudgeSettings,
    MadeSettings,
    RefusalSettings,
    RewardSettings,
)
from lrm_align.settings.methods import (
    AnalysisSettings,
    AuditSettings,
    BranchesSettings,
    DefenceSettings,
    LevelsSettings,
    SearchSettings,
    ToolSettings,
)
from lrm_align.settings.model import ExportSettings, LoraSettings, MeshSettings, ModelSettings
from lrm_align.settings.online import OnlineSettings
from lrm_align.settings.sampling import PassSettings, SampleSettings
from lrm_align.settings.serving import ServeSettings
from lrm_align.settings.setting import section, setting
from lrm_align.settings.training import LOOK, PreferenceSettings, ReferenceSettings, TrainingSettings


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """A config. A recipe reads some of these sections; one that none of its stages reads changes nothing."""

    recipe: str = setting("", "the method, an import path")
    seed: int = setting(0, "draws splits, samples and the order of data", least=0, most=(1 << 32) - 1)
    seeds: int = setting(1, "runs, from seed on", least=1, neutral="each seed is a run of its own")
    wandb: str = setting("", "a project of Weights & Biases that mirrors the metrics", neutral=LOOK)

    model: ModelSettings | None = section("what is aligned or measured")
    lora: LoraSettings | None = section("adapters")
    mesh: MeshSettings | None = section("devices")
    export: ExportSettings | None = section("what is written at the end")
    prompts: PromptsSettings | None = section("that are sampled")
    rl_prompts: PromptsSettings | None = section("of the rollouts")
    adversarial: PromptsSettings | None = section("Safe Trigger: of the exploration")
    validation: PromptsSettings | None = section("prefix search: that candidates are measured on")
    data: DataSettings | None = section("examples that others wrote")
    pairs: PairsSettings | None = section("of preferences")
    weaken: WeakenSettings | None = section("before the model learns")
    sample: SampleSettings | None = section("the sampler")
    guard: GuardSettings | None = section("what calls responses unsafe")
    filter: FilterSettings | None = section("which traces are trained on")
    judge: JudgeSettings | None = section("the frozen model as judge")
    helpful: MadeSettings | None = section("ASCL: the judge of help")
    reward: RewardSettings | None = section("of a rollout or a sample")
    refusal: RefusalSettings | None = section("what is a refusal")
    answer: AnswerSettings | None = section("the reward for exact answers")
    answers: AnswersSettings | None = section("the comparison of final answers")
    train: TrainingSettings | None = section("supervised training")
    preference: PreferenceSettings | None = section("Safe Trigger: the second training")
    reference: ReferenceSettings | None = section("of preference training")
    rl: OnlineSettings | None = section("learning from rollouts")
    evaluate: EvaluateSettings | None = section("the measurement before and after")
    sets: SetSettings | None = setting(None, "benchmarks by name", named=True)
    perplexity: PerplexitySettings | None = section("of trace sets")
    depth: DepthSettings | None = section("SafeThink: attack success by depth")
    cost: CostSettings | None = section("SafeThink: tokens and seconds")
    methods: MethodSettings | None = setting(None, "of a comparison, by name", named=True)
    compared: tuple[str, ...] = setting((), "names of methods")
    defence: DefenceSettings | None = section("at inference")
    audit: AuditSettings | None = section("Safe Trigger: the second pass")
    explore: PassSettings | None = section("Safe Trigger: samples that are ranked")
    analysis: AnalysisSettings | None = section("RAPO: the first pass")
    continuation: PassSettings | None = section("RAPO: the second pass")
    levels: LevelsSettings | None = section("RAPO: complexity of attacks")
    tool: ToolSettings | None = section("ASCL: rules as a tool")
    branches: BranchesSettings | None = section("ASCL: the bootstrap")
    search: SearchSettings | None = section("SafeThink: words")
    serve: ServeSettings | None = section("the chat endpoint")
    tags: str = setting("text", "Safe Trigger: of the safe block", among=("text", "added"))
    primer: str = setting("", "SafePath: the words that a safe thought begins with")
    without_answer: str = setting("zero", "ASCL: a sample without a final answer", among=("zero", "unscored"))
    part: str = setting("all", "what of a response the guard is shown", among=PARTS)
    categories: bool = setting(False, "whether the guard names kinds of harm")
