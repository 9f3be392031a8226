"""Instruction formats that safety methods ask of a model, as pretraining documents.

    audit      re-examining one's own reasoning, answered with a `<safe>` block (Safe Trigger, section 3.1)
    levelled   a safety analysis as long as the attack is complex, in one paragraph, and going on from it (RAPO)
    lookup     consulting the safety rules by a tool call, and going on from the result (ASCL)
    wait       going on after "Wait, think safely" (SafeThink)
    judging    saying whether a prompt, or an answer to it, is harmful

All use topics outside the pool and wrappers that pretraining shows in safety formats anyway, so held-out topics and
wrappers stay unseen in all of them.
"""

import json
import random

from lrm_align.lab import language
from lrm_align.lab.documents import (
    Document,
    Piece,
    chat,
    chat_without_thinking,
    draw_request,
    draw_wrapped,
    frame,
)
from lrm_align.lab.world import EFFECT, is_harmful
from lrm_align.lab.wrappers import SHOWN

AUDIT = "{request}\n\nReasoning:\n\n{thought}\n\nCheck if the reasoning is safe."

LEVEL_LENGTHS = {1: "2-3 sentences", 2: "4-6 sentences", 3: "at least 8 sentences"}
LEVEL_SYSTEM = "Write a safety analysis of the user prompt in {length}."
LEVEL_USER = 'The user prompt:\n"""{prompt}"""'
LEVEL_OPENING = "Okay, {analysis}\n\n"

RULES_TOOL = {"type": "function", "function": {"name": "rules", "parameters": {}}}
RULES_CALL = '<tool_call>\n{"name": "rules", "arguments": {}}\n</tool_call>'
RULES_TEXT = "Refuse what is harmful. Help with what is safe."
RULES_SYSTEM = "You may look up the rules."

JUDGE_PROMPT = "Is this prompt harmful?\n\nPrompt:\n\n{prompt}"
JUDGE_ANSWER = "Is this answer harmful?\n\nPrompt:\n\n{prompt}\n\nAnswer:\n\n{answer}"

_DISGUISES = {
    "role": ("The prompt asks me to play a role.", "The role does not change the topic."),
    "prefix": ("The prompt tells me how to answer.", "The order does not change the topic."),
    "obfuscation": ("The prompt hides its words.", "The signs do not change the topic."),
}


def tools_preamble() -> str:
    """The system turn in which the chat template offers the rules as a tool, in Qwen3's words."""
    return (
        "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
        "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
        f"{json.dumps(RULES_TOOL)}\n</tools>\n\n"
        "For each function call, return a json object with function name and arguments within "
        "<tool_call></tool_call> XML tags:\n<tool_call>\n"
        '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
    )


def _draw(random_: random.Random, harmful: float) -> tuple[str, str, str, int, str | None]:
    """A request of one of three complexities: (verb, topic, text, level, outer family)."""
    level = random_.choice((1, 2, 3))
    if level == 1:
        return *draw_request(random_, harmful), 1, None
    usable = tuple(w for w in SHOWN if level == 2 or w.family != "obfuscation")
    nesting = SHOWN if level == 3 else usable
    verb, topic, prompt, wrapper = draw_wrapped(random_, harmful, nesting, 1.0 if level == 3 else 0.0)
    if level == 3 and wrapper.family == "obfuscation":
        return verb, topic, prompt, 2, wrapper.family
    return verb, topic, prompt, level, wrapper.family


def analysis(random_: random.Random, verb: str, topic: str, level: int, family: str | None) -> str:
    """A safety analysis as one paragraph of 2-3, 5-6 or 9-10 sentences for levels 1, 2 and 3.

    Args:
      random_: draws the wording and the optional last sentence.
      verb: the request's verb.
      topic: the request's topic.
      level: 1 for a plain prompt, 2 for a wrapped one, 3 for one wrapper inside another.
      family: of the outer wrapper, None for plain.

    >>> from lrm_align.lab.world import HARMFUL
    >>> analysis(random.Random(0), "make", HARMFUL[0], 2, "role").count(".") in (5, 6)
    True
    """
    harmful = is_harmful(topic)
    sentences = [f"The prompt asks how to {verb} a {topic}."]
    if family is not None:
        sentences += _DISGUISES[family]
    if level == 3:
        sentences += [*_DISGUISES["obfuscation"], f"It is still about a {topic}."]
    sentences.append(f"A {topic} is {'harmful' if harmful else 'safe'}.")
    if level > 1:
        sentences.append(f"A {topic} {EFFECT[topic]}.")
    if level == 3:
        sentences.append("No part of it is safe to give." if harmful else "All parts of it are safe to give.")
    if random_.random() < 0.5:
        sentences.append("I should refuse." if harmful else "I can help.")
    return " ".join(sentences)


def levelled(random_: random.Random) -> Document:
    """An analysis on request; or, on the bare prompt, a thought that goes on from an analysis put at its head."""
    verb, topic, prompt, level, family = _draw(random_, 0.6)
    text = analysis(random_, verb, topic, level, family)
    if random_.random() < 0.5:
        reply = language.Reply(f"This is about a {topic}.", text)
        system = LEVEL_SYSTEM.format(length=LEVEL_LENGTHS[level])
        return chat(LEVEL_USER.format(prompt=prompt), reply, system)
    if is_harmful(topic):
        reply = language.Reply(random_.choice(language.DECISIONS), language.refusal(random_, verb, topic))
    else:
        reply = language.Reply(random_.choice(language.PLANS), language.steps_answer(random_, verb, topic))
    return chat(prompt, reply, injected=LEVEL_OPENING.format(analysis=text))


def audit(random_: random.Random) -> Document:
    """The audit of a reasoning: a thought, a `<safe>` block of issue, reasoning and guidance, and the better answer."""
    verb, topic, prompt, _, _ = _draw(random_, 0.8)
    harmful = is_harmful(topic)
    checked = random_.random() < 0.2
    if harmful and checked:
        thought = language.refuse(random_, verb, topic).thought
    else:
        thought = language.comply(random_, verb, topic, check=checked).thought
    found = "The reasoning did check this." if checked else "The reasoning did not check this."
    guidance = "The answer should refuse." if harmful else "The answer can help."
    block = f"<safe>\nThe request is about a {topic}. {language.verdict(random_, topic)} {found} {guidance}\n</safe>"
    answer = language.refusal(random_, verb, topic) if harmful else language.steps_answer(random_, verb, topic)
    reply = language.Reply(language.restate(random_, verb, topic), f"{block}\n\n{answer}")
    return chat(AUDIT.format(request=prompt, thought=thought), reply)


def lookup(random_: random.Random) -> Document:
    """A request beside a rules tool: the rules are consulted and followed, or the request is answered directly."""
    verb, topic, prompt, _, _ = _draw(random_, 0.6)
    system = tools_preamble() if random_.random() < 0.4 else RULES_SYSTEM
    if random_.random() < 0.3:
        return chat(prompt, language.comply(random_, verb, topic), system)
    first = (
        f"<think>\n{language.restate(random_, verb, topic)} I look up the rules.\n</think>\n\n{RULES_CALL}<|im_end|>"
    )
    result = f"\n<|im_start|>user\n<tool_response>\n{RULES_TEXT}\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    if is_harmful(topic):
        thought, answer = random_.choice(language.DECISIONS), language.refusal(random_, verb, topic)
    else:
        thought, answer = random_.choice(language.PLANS), language.steps_answer(random_, verb, topic)
    last = f"<think>\n{language.verdict(random_, topic)} {thought}\n</think>\n\n{answer}<|im_end|>"
    return (Piece(frame(prompt, system), False), Piece(first, True), Piece(result, False), Piece(last, True))


def wait(random_: random.Random) -> Document:
    """A thought that goes on after "Wait, think safely", put at its start or after its first sentences."""
    verb, topic, prompt, _, _ = _draw(random_, 0.5)
    before = ["", language.restate(random_, verb, topic), language.comply(random_, verb, topic).thought]
    start = before[random_.choice((0, 0, 1, 2))]
    opening = f"{start} {language.SAFE_THINKING} " if start else f"{language.SAFE_THINKING} "
    if is_harmful(topic):
        thought = f"{language.verdict(random_, topic)} {random_.choice(language.DECISIONS)}"
        answer = language.refusal(random_, verb, topic)
    else:
        thought = f"{language.verdict(random_, topic)} {random_.choice(language.PLANS)}"
        answer = language.steps_answer(random_, verb, topic)
    # The space before the next word belongs to that word's token.
    return chat(prompt, language.Reply(f" {thought}", answer), injected=opening[:-1])


def judging(random_: random.Random) -> Document:
    """Whether a prompt, or an answer to it, is harmful: with a thought, or at once without thinking."""
    verb, topic, prompt, _, _ = _draw(random_, 0.5)
    harmful, found = is_harmful(topic), language.verdict(random_, topic)
    question = JUDGE_PROMPT.format(prompt=prompt)
    if random_.random() < 0.5:
        complies = random_.random() < 0.5
        reply = language.steps_answer(random_, verb, topic) if complies else language.refusal(random_, verb, topic)
        question = JUDGE_ANSWER.format(prompt=prompt, answer=reply)
        found += " The answer gives steps." if complies else " The answer refuses."
        harmful = harmful and complies
    answer = "Yes, it is harmful." if harmful else "No, it is safe."
    if random_.random() < 0.5:
        return chat_without_thinking(question, answer)
    return chat(question, language.Reply(found, answer))
