"""A filter of one's own: ThinkSafe's two rules, and no answer that is longer than a limit."""

from lrm_align.recipes import filtering


def short(limit: int = 64) -> filtering.Rule:
    """The rule; a drop is counted under the name that it gives here."""

    def rule(traces, chat, guard, threshold):
        verdicts = filtering.judge(traces, chat, guard, threshold)
        return [
            verdict._replace(outcome="too long") if len(trace.completion_ids) > limit else verdict
            for trace, verdict in zip(traces, verdicts)
        ]

    return rule
