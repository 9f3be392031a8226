"""The sandbox renders as Hugging Face does, and lets nothing out."""

import pytest

from lrm_align.chat.template import ChatTemplate
from lrm_align.errors import UserError

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
        "{{ strftime_now('%d') }}",
    ],
)
def test_hostile_and_failing_templates_end_in_one_line(source):
    with pytest.raises(UserError, match=r"^chat template failed on this conversation: ") as caught:
        ChatTemplate(source).render(MESSAGES)
    assert "\n" not in str(caught.value)


def test_syntax_errors_name_the_line():
    with pytest.raises(UserError, match=r"of tiny does not parse: .*line 2"):
        ChatTemplate("\n{% if %}", "chat template of tiny")
