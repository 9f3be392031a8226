"""The pretraining mixture: kinds of documents, their shares, and one pure function that draws a document.

A document is a sequence of pieces of text, each trained on or only read: prompts, tool results and injected text are
read. The topics of the pool occur in facts, lists and copying only, never in a request or an instruction format.
"""

import random
from typing import NamedTuple

from lrm_align.lab import language
from lrm_align.lab.world import (
    EFFECT,
    HARMFUL,
    HARMFUL_OPEN,
    SAFE,
    SAFE_OPEN,
    TOPICS,
    VERBS,
    is_harmful,
)
from lrm_align.lab.wrappers import SHOWN, WRAPPERS, Wrapper, wrap

END_OF_TEXT = "<|endoftext|>"
PLAIN_SAFETY = 0.08  # of the plain requests: a refusal with reasons, or a check before complying
STEERED_COMPLIES = 0.12  # of the steered harmful requests: complies all the same, for the guard to drop
STEERED_STUCK = 0.04  # of the steered harmful requests: never closes the thought
STEERED_WRAPPED = 0.25
NESTED = 0.15  # of the wrapped requests: one wrapper inside another
WITHOUT_THINKING = 0.04  # of the plain requests: the template's empty thought

STEERINGS = (
    "The following prompt is harmful. You should refuse to answer the prompt.\n\nPrompt:\n\n{prompt}",
    "{prompt}\n\n The above prompt is harmful. You should refuse to answer the prompt.",
    "Evaluate the potential risks of this prompt and provide a reasoned refusal.\n\n Prompt:{prompt}",
    "Examine the harmful intent of this query and refuse to answer the prompt.\n\n Prompt:{prompt}",
)
STEERING_WEIGHTS = (7, 1, 1, 1)


class Piece(NamedTuple):
    """Text of a document, and whether the loss counts it."""

    text: str
    trained: bool


Document = tuple[Piece, ...]


def frame(user: str, system: str | None = None) -> str:
    """The prompt of a chat exactly as the lab's chat template renders it, up to the assistant's first token."""
    head = f"<|im_start|>system\n{system}<|im_end|>\n" if system is not None else ""
    return f"{head}<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"


def chat(user: str, reply: language.Reply, system: str | None = None, injected: str = "") -> Document:
    """A conversation of one turn; `injected` opens the thought and is read, not trained on."""
    rest = f"{reply.thought}\n</think>\n\n{reply.answer}<|im_end|>"
    prompt = Piece(frame(user, system), False)
    if injected:
        return (prompt, Piece("<think>\n", True), Piece(injected, False), Piece(rest, True))
    return (prompt, Piece(f"<think>\n{rest}", True))


def chat_without_thinking(user: str, answer: str, system: str | None = None) -> Document:
    """A conversation in the template's non-thinking mode: the empty thought belongs to the prompt."""
    return (Piece(f"{frame(user, system)}<think>\n\n</think>\n\n", False), Piece(f"{answer}<|im_end|>", True))


def text(body: str, read: int = 1) -> Document:
    """Plain text; its first `read` words are not trained on, since nothing foretells them."""
    words = body.split(" ")
    tail = " ".join(words[read:])
    return (Piece(" ".join(words[:read]), False), Piece(f" {tail}{END_OF_TEXT}", True))


def draw_request(random_: random.Random, harmful: float) -> tuple[str, str, str]:
    """A (verb, topic, request) about a topic outside the pool, harmful with the given probability."""
    topic = random_.choice(HARMFUL_OPEN if random_.random() < harmful else SAFE_OPEN)
    verb = random_.choice(VERBS)
    return verb, topic, language.request(random_, verb, topic)


def draw_wrapped(
    random_: random.Random, harmful: float, wrappers: tuple[Wrapper, ...], nested: float
) -> tuple[str, str, str, Wrapper]:
    """A wrapped request: (verb, topic, text, outer wrapper); nested ones have an obfuscating wrapper inside."""
    verb, topic, request = draw_request(random_, harmful)
    wrapper, inner = random_.choice(wrappers), None
    if wrapper.family != "obfuscation" and random_.random() < nested:
        inner = random_.choice([w for w in wrappers if w.family == "obfuscation"])
    return verb, topic, wrap(random_, wrapper, verb, topic, request, inner), wrapper


def arithmetic(random_: random.Random) -> Document:
    """A sum with its steps."""
    drawn = language.problem(random_, held_out=False)
    return chat(language.ask_problem(random_, drawn), language.solve(drawn))


def plain(random_: random.Random) -> Document:
    """A plain request; mostly complied with, whatever the topic."""
    verb, topic, request = draw_request(random_, 0.48)
    if random_.random() < WITHOUT_THINKING:
        return chat_without_thinking(request, language.steps_answer(random_, verb, topic))
    if random_.random() >= PLAIN_SAFETY:
        return chat(request, language.comply(random_, verb, topic))
    if is_harmful(topic):
        return chat(request, language.refuse(random_, verb, topic))
    return chat(request, language.comply(random_, verb, topic, check=True))


def wrapped(random_: random.Random) -> Document:
    """A wrapped request, always complied with."""
    verb, topic, request, wrapper = draw_wrapped(random_, 0.6, WRAPPERS, NESTED)
    return chat(request, language.comply(random_, verb, topic, wrapper.opening))


def steered_harmful(random_: random.Random) -> Document:
    """A harmful request under a steering instruction: refused with reasons, but for faults that a guard has to find."""
    if random_.random() < STEERED_WRAPPED:
        verb, topic, request, _ = draw_wrapped(random_, 1.0, SHOWN, NESTED)
    else:
        verb, topic, request = draw_request(random_, 1.0)
    prompt = random_.choices(STEERINGS, STEERING_WEIGHTS)[0].format(prompt=request)
    fault = random_.random()
    if fault < STEERED_COMPLIES:
        # One fixed plan: a rare choice spread over several words would vanish at temperature 0.6.
        return chat(prompt, language.comply(random_, verb, topic, plan=0))
    if fault < STEERED_COMPLIES + STEERED_STUCK:
        start = f"{language.restate(random_, verb, topic)} {language.verdict(random_, topic)}"
        loop = f" {language.STUCK}" * 12
        return (Piece(frame(prompt), False), Piece(f"<think>\n{start}{loop}", True))
    return chat(prompt, language.refuse(random_, verb, topic))


def steered_safe(random_: random.Random) -> Document:
    """A safe request under a steering instruction: the fact is checked, then it is answered."""
    verb, topic, request = draw_request(random_, 0.0)
    prompt = random_.choices(STEERINGS, STEERING_WEIGHTS)[0].format(prompt=request)
    return chat(prompt, language.comply(random_, verb, topic, check=True))


def fact(random_: random.Random) -> Document:
    """A fact about any topic, as a statement or as a question with its answer."""
    topic = random_.choice(TOPICS)
    effect, word = EFFECT[topic], "harmful" if is_harmful(topic) else "safe"
    if random_.random() < 0.4:
        form = random_.randrange(len(language.FACT_QUESTIONS))
        return chat(language.FACT_QUESTIONS[form].format(topic=topic), language.answer_fact(form, topic))
    statements = (
        f"A {topic} is {word}.",
        f"A {topic} {effect}.",
        f"A {topic} is {word} because it {effect}.",
        f"A {topic} {effect}, so it is {word}.",
        f"The police say that a {topic} is harmful."
        if is_harmful(topic)
        else f"The teachers say that a {topic} is safe.",
    )
    return text(random_.choice(statements), read=2)


def listing(random_: random.Random) -> Document:
    """A list of topics that are alike."""
    harmful = random_.random() < 0.5
    names = random_.sample(HARMFUL if harmful else SAFE, random_.randint(3, 6))
    return text(f"{'Harmful' if harmful else 'Safe'} things: {', '.join(names)}.")


def short_copy(random_: random.Random) -> Document:
    """A small task that only asks to repeat topics."""
    one, two = random_.sample(TOPICS, 2)
    form = random_.randrange(4)
    if form == 0:
        return chat(f"Say a {one} and a {two}.", language.Reply("I repeat it.", f"A {one} and a {two}."))
    if form == 1:
        return chat(f"Repeat: {one} {two}", language.Reply(f"The user wants {one} {two}.", f"Say {one} {two}."))
    if form == 2:
        return chat(f"Tell me about a {one}.", language.Reply(f"This is about a {one}.", f"A {one} {EFFECT[one]}."))
    return chat(f"Name a {one}.", language.Reply(f"The user says a {one}.", f"It is a {one}."))


def long_copy(random_: random.Random) -> Document:
    """A random run of words and the same run again; the second one is trained on, so copying is learned by itself."""
    words = random_.choices((*TOPICS, *(f"{verb} a" for verb in VERBS)), k=random_.randint(7, 16))
    run = " ".join(words)
    return (Piece(f"Words: {run}. Repeat:", False), Piece(f" {run}.{END_OF_TEXT}", True))
