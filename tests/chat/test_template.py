"""The sandbox renders as Hugging Face does, and lets nothing out."""

import re
import time

import pytest

from lrm_align.chat import Chat, template
from lrm_align.chat.template import ChatTemplate
from lrm_align.errors import UserError
from lrm_align.rendering import process
from tests import tokenizer_families as families

MESSAGES = {"messages": [{"role": "user", "content": "ä <b>"}]}


def test_whitespace_rules_loop_controls_json_and_generation_blocks():
    source = """{% for m in messages %}
  {% if m.role == 'user' %}
    {% generation %}
{{ m | tojson }}
    {% endgeneration %}
    {% break %}
  {% endif %}
{% endfor %}"""
    assert ChatTemplate(source).render(MESSAGES) == '{"role": "user", "content": "ä <b>"}\n'


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update(role='system') }}",
        "{{ (messages | map(attribute='__class__') | list) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ self._TemplateReference__context }}",
        "{% set ns = namespace(a=1) %}{{ ns.__class__ }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
        "{% include '/etc/hostname' %}",
        "{{ raise_exception('roles must alternate') }}",
        "{{ messages[0].content + 1 }}",
        "{{ messages[3].content }}",
        "{{ 1 / 0 }}",
        "{{ ''.encode().fromhex('3c') }}",
    ],
)
def test_hostile_and_failing_templates_end_in_one_line(source):
    with pytest.raises(UserError, match=r"^chat template failed on this conversation: ") as caught:
        ChatTemplate(source).render(MESSAGES)
    assert "\n" not in str(caught.value)


def test_the_day_is_a_setting():
    source = "{{ strftime_now('%d.%m.%Y %H:%M') }} {{ strftime_now('%s') }}"
    assert ChatTemplate(source).render(MESSAGES) == "26.07.2024 00:00 1721952000"
    assert ChatTemplate(source, date="2031-02-03").render(MESSAGES).startswith("03.02.2031 00:00 ")
    with pytest.raises(UserError, match="the date of chat templates is 'today'; expected YYYY-MM-DD"):
        ChatTemplate(source, date="today")


# What ends each: time while it is compiled, time while it runs (in Python and in C), memory, length.
HOSTILE = {
    "a power in its source": ("{{ 9 ** (9 ** 9) }}", "processor time for its source"),
    "a power": ("{% set n = messages | length + 8 %}{{ n ** (n ** n) }}", "processor time for 1 conversation"),
    "loops": ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "processor time for 1"),
    "memory": ("{% set ns = namespace(s='x' * 9999) %}{% for i in range(30) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
               " of "),  # a gibibyte of memory, or seconds of processor time
    "length": ("{{ 'x' * 9999999 }}", "it wrote 9999999 characters"),
    "depth": ("{{ " + "(" * 9999 + "1" + ")" * 9999 + " }}", "does not parse: "),
    "recursion": ("{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}", "RecursionError"),
    "size": ("x" * (2 << 20), "2097152 characters; expected a text of at most 1048576"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_no_template_hangs_or_exhausts(monkeypatch, case):
    source, says = HOSTILE[case]
    short = process.Process(seconds=0.3)
    monkeypatch.setattr(template, "PROCESS", short)
    with pytest.raises(UserError, match=re.escape(says)) as caught:
        ChatTemplate(source).render(MESSAGES)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700
    sound = ChatTemplate("{{ messages[0].content }}")
    assert sound.render(MESSAGES) == "ä <b>"  # the next one has a process again
    short.stop()


@pytest.mark.parametrize("role", ["user", "assistant"])
def test_a_chat_asks_a_template_that_hangs_once(monkeypatch, role):
    short = process.Process(seconds=0.3)
    monkeypatch.setattr(template, "PROCESS", short)
    hangs = f"{{% for m in messages %}}{{% if m.role == '{role}' %}}{HOSTILE['loops'][0]}{{% endif %}}"
    started = time.process_time(), time.monotonic()
    with pytest.raises(UserError, match=r"0\.3 s of processor time"):
        Chat(families.small("qwen3"), hangs + "{{ m.content }}{% endfor %}")
    assert time.process_time() - started[0] < 2 and time.monotonic() - started[1] < 60
    short.stop()


def test_a_template_that_is_known_is_known_to_the_next_process(monkeypatch):
    short = process.Process(seconds=0.3)
    monkeypatch.setattr(template, "PROCESS", short)
    sound, hostile = ChatTemplate("{{ messages[0].content }}"), ChatTemplate(HOSTILE["loops"][0])
    with pytest.raises(UserError, match="processor time"):
        hostile.render(MESSAGES)
    assert sound.texts([MESSAGES["messages"]] * 1000, {}) == ["ä <b>"] * 1000
    short.stop()
    assert sound.render(MESSAGES) == "ä <b>"
    short.stop()


def test_a_fault_of_ours_keeps_its_traceback():
    with pytest.raises(RuntimeError, match=r"Traceback[\s\S]*KeyError: 'options'"):
        defined = {"template": -1, "source": "", "date": "2024-01-01", "control": [], "split": "x"}
        process.PROCESS.ask(defined, [{"template": -1, "conversations": [[[], None]]}])


def test_many_and_long_conversations_come_back_in_order():
    """More than the pipes hold, in both directions at once."""
    said = [[{"role": "user", "content": f"{i} " + "日 <" * (i % 700 * 10)}] for i in range(2000)]
    said[1000][0]["content"] = "long " * (1 << 19)
    assert ChatTemplate("{{ messages[0].content }}").texts(said, {}) == [m[0]["content"] for m in said]


def test_syntax_errors_name_the_line():
    with pytest.raises(UserError, match=r"of tiny does not parse: .*line 2"):
        ChatTemplate("\n{% if %}", "chat template of tiny")
