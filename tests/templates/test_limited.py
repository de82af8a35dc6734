# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Templates of strangers: what they may cost, and that ordinary ones render as they always did."""

import copy
import time
from pathlib import Path

import pytest
import trl
from jinja2.sandbox import ImmutableSandboxedEnvironment
from transformers.utils import chat_template_utils

from real_trl.prompts.template import PromptTemplate, load_template
from real_trl.scale import Scale
from real_trl.templates import limited as limited_templates
from real_trl.templates.limited import MAX_SOURCE, MAX_TEXT, TEMPLATE_ERRORS, LimitedEnvironment, TemplateLimit
from real_trl.weights.pretrained import load_tokenizer
from tests import tokenizers_zoo
from tests.engines import thinking_judges

SCALE = Scale.parse("1-5")
TEN_TIMES = "{% for i in range(60) %}{% set ns.x = "
GREEDY = {
    "range": "{% for i in range(10**9) %}a{% endfor %}",
    "nested loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "recursive loop": "{% for x in [[1]] recursive %}{{ loop([[1], [1]]) }}{% endfor %}",
    "multiplication": "{{ 'a' * 10**10 }}",
    "multiplication, turned": "{{ 10**10 * 'a' }}",
    "list multiplication": "{{ [1] * 10**9 }}",
    "ljust": "{{ 'x'.ljust(10**10) }}",
    "rjust by keyword": "{{ 'x'.rjust(width=10**10) }}",
    "a method by the filter attr": "{{ 'x' | attr('zfill')(10**10) }}",
    "expandtabs": "{{ '\t'.expandtabs(10**10) }}",
    "to_bytes": "{{ (1).to_bytes(10**10, 'big') }}",
    "center": "{{ 'x' | center(10**10) }}",
    "center in a filter block": "{% filter center(10**10) %}a{% endfilter %}",
    "center of a block that is set": "{% set x | center(10**10) %}a{% endset %}",
    "center by map": "{{ range(100000) | map('center', 100000) | list | length }}",
    "indent": "{{ 'x\n\n' | indent(10**8) }}",
    "batch": "{{ ['a'] | batch(10**10, 'x') | list }}",
    "slice": "{{ ['a'] | slice(10**10) | list }}",
    "round": "{{ 1.5 | round(10**9, 'ceil') }}",
    "tojson": "{{ {'a': 1} | tojson(indent=10**9) }}",
    "replace": "{{ ('x' * 1000000).replace('x', 'y' * 1000000) }}",
    "replace, the filter": "{{ ('x' * 1000000) | replace('', 'y' * 1000000) }}",
    "replace in a list": "{{ (range(50000) | list) | replace(' ', 'y' * 1000000) }}",
    "replace by keywords": "{{ ('x' * 1000000) | replace(new='y' * 1000000, old='x') }}",
    "replace by map": "{{ ['x' * 1000000] | map('replace', 'x', 'y' * 1000000) | list }}",
    "format of a mapping": "{{ ('%(a)s' * 100000) | format(**{'a': 'x' * 100000}) }}",
    "join": "{{ ('x' * 100000).join(range(100000) | map('string')) }}",
    "join, the filter": "{{ range(100000) | join('x' * 100000) }}",
    "translate": "{{ 'ab'.translate('a'.maketrans({'a': 'x' * 4000000, 'b': 'x' * 4000000})) }}",
    "strip": "{{ ('a' * 4000000).strip('b' * 4000000 + 'a') }}",
    "striptags": "{{ ('<!---->' * 100000) | striptags }}",
    "wordwrap": "{{ ('x' * 1000000) | wordwrap(1) }}",
    "sum of lists": "{{ ([[1] * 100] * 1000) | sum(start=[]) }}",
    "width of %": "{{ '%1000000000d' % 1 }}",
    "width of % as an argument": "{{ '%*d' % (10**9, 1) }}",
    "% with one value many times": "{{ '%(a)s' * 100000 % {'a': 'x' * 100000} }}",
    "format, the filter": "{{ '%1000000000d' | format(1) }}",
    "format": "{{ '{:1000000000}'.format(1) }}",
    "format with a field in a field": "{{ '{:{}}'.format(1, 10**9) }}",
    "format_map": "{{ '{a:{b}}'.format_map({'a': 1, 'b': 10**9}) }}",
    "format with one value many times": "{{ ('{0}' * 100000).format('x' * 100000) | length }}",
    "rfind": "{{ ('a' * 4000000).rfind('b' ~ 'a' * 2000000) }}",
    "rindex": "{{ ('a' * 4000000).rindex('b' ~ 'a' * 2000000) }}",
    "rsplit": "{{ ('a' * 4000000).rsplit('b' ~ 'a' * 2000000) }}",
    "rpartition of bytes": "{{ ('a' * 4000000).encode().rpartition(('b' ~ 'a' * 2000000).encode()) }}",
    "punycode": "{{ ('a' * 100000 ~ 'é').encode('punycode') }}",
    "punycode, decoded": "{{ ('a' * 100000).encode().decode(encoding='punycode') }}",
    "numbers of one hash": "{{ range(0, 99999 * (2**61 - 1), 2**61 - 1) | unique | list | length }}",
    "the same as keys": "{{ {}.fromkeys(range(0, 99999 * (2**61 - 1), 2**61 - 1)) | length }}",
    "the same in pairs": "{{ dict(range(0, 99999 * (2**61 - 1), 2**61 - 1) | map('batch', 2)) }}",
    "select": "{{ range(99999, 0, -1) | select('in', range(99999) | list) | list | length }}",
    "urlize": "{{ (')' * 50000 ~ 'x)') | urlize }}",
    "format of representations": "{{ ('{0!r:.1}' * 100000).format('x' * 4000000) }}",
    "power": "{{ 2 ** (10**9) }}",
    "doubled by ~": "{% set ns = namespace(x='ab') %}" + TEN_TIMES + "ns.x ~ ns.x %}{% endfor %}",
    "doubled by +": "{% set ns = namespace(x='ab') %}" + TEN_TIMES + "ns.x + ns.x %}{% endfor %}",
    "squared": "{% set ns = namespace(x=7) %}" + TEN_TIMES + "ns.x * ns.x %}{% endfor %}",
    "a list twice in a list": "{% set ns = namespace(x=[1]) %}" + TEN_TIMES + "[ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    "the same with a tuple": "{% set ns = namespace(x=1) %}" + TEN_TIMES + "(ns.x, ns.x) %}{% endfor %}{{ ns.x }}",
    "the same with a mapping": "{% set ns = namespace(x=1) %}"
    + TEN_TIMES
    + "{1: ns.x, 2: ns.x} %}{% endfor %}{{ ns.x }}",
    "a macro that calls itself": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "a macro that calls itself twice": "{% macro m(n) %}{% if n %}{{ m(n-1) }}{{ m(n-1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "a block that calls itself": "{% block b %}{{ self.b() }}{{ self.b() }}{% endblock %}",
    "much text in a loop": "{% set x %}{% for i in range(100000) %}" + "y" * 100000 + "{% endfor %}{% endset %}",
    "much output": "{% for i in range(100000) %}" + "y" * 1000 + "{% endfor %}",
    "a large template": "x" * (MAX_SOURCE + 1),
    "many parts": "{{a}}" * 40000,
    "deep parentheses": "{{" + "(" * 5000 + "1" + ")" * 5000 + "}}",
    "deep blocks": "{% if 1 %}" * 2000 + "{% endif %}" * 2000,
    "more nested loops than Python has": "{% for i in [1] %}" * 25 + "{% endfor %}" * 25,
    "a number of many digits": "{{ " + "1" * 5000 + " }}",
}


@pytest.mark.parametrize("case", GREEDY)
def test_greedy_templates_are_stopped(monkeypatch, case):
    start = time.process_time()
    with pytest.raises(TEMPLATE_ERRORS):
        LimitedEnvironment().from_string(GREEDY[case]).render()
    monkeypatch.setattr(limited_templates, "_limited", {GREEDY[case]})
    with pytest.raises(TEMPLATE_ERRORS):  # as of a tokenizer that was loaded here
        chat_template_utils.render_jinja_template([[{"role": "user", "content": "x"}]], chat_template=GREEDY[case])
    with pytest.raises(ValueError, match="prompt_template="):
        PromptTemplate(GREEDY[case]).render({}, scale=SCALE)
    assert time.process_time() - start < 60


def test_what_takes_long_is_stopped_by_the_clock(monkeypatch):
    monkeypatch.setattr(limited_templates, "MAX_SECONDS", 0.2)
    slow = "{% for i in range(99999) if messages == others %}{% endfor %}"
    start = time.process_time()
    with pytest.raises(TemplateLimit, match="longer than 0.2 s"):
        LimitedEnvironment().from_string(slow).render(messages=[[0]] * 100_000, others=[[0] for _ in range(100_000)])
    assert time.process_time() - start < 10


def test_a_namespace_that_holds_itself_is_not_printed():
    text = "{% set a = namespace() %}{% set a.x = a %}{% set a.y = a %}{{ a }}"
    assert LimitedEnvironment().from_string(text).render() == "<Namespace>"


ORDINARY = {
    "filters": "{{ ' a,b ' | trim | upper }}|{{ [3, 1] | sort | join('-') }}|{{ {'b': 1} | tojson }}|{{ 'a\nb' | indent(2) }}",
    "operators": "{{ 2 ** 3 }}{{ 7 % 4 }}{{ 'a' * 3 }}{{ [1] + [2] }}{{ '%s:%03d' % ('x', 7) }}{{ 'a' ~ 1 ~ none }}",
    "methods": "{{ ' x '.strip() }}{{ 'a,b'.split(',') }}{{ '-'.join(['a', 'b']) }}{{ '{:>4}'.format(7) }}{{ 'aa'.replace('a', 'b') }}",
    "loops": "{% for a, b in {'x': 1, 'y': 2}.items() if b > 1 %}{{ loop.index }}{{ a }}{{ loop.last }}{% else %}no{% endfor %}",
    "recursion": "{% for x in [[1, [2]], 3] recursive %}{% if x is iterable %}({{ loop(x) }}){% else %}{{ x }}{% endif %}{% endfor %}",
    "macros": "{% macro m(a, b=2) %}{{ a }}{{ b }}{{ caller() if caller }}{% endmacro %}{{ m(1) }}{% call m(3) %}c{% endcall %}",
    "namespaces": "{% set ns = namespace(n=0) %}{% for i in range(5) %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}",
    "set blocks": "{% set x | upper %}abc{% endset %}{{ x }}{% filter lower %}ABC{% endfilter %}{% set a, b = 1, 2 %}{{ a }}{{ b }}",
    "escaping": "{{ ('<' | escape) ~ '<' }}{% autoescape true %}{{ '<' ~ '>' }}{{ '<b>' | safe }}{% endautoescape %}",
    "selection": "{{ [{'r': 1}, {'r': 2}] | selectattr('r', 'gt', 1) | map(attribute='r') | list }}{{ [1, 2] | sum }}",
}


@pytest.mark.parametrize("case", ORDINARY)
def test_ordinary_templates_render_as_in_jinja(case):
    options = {"trim_blocks": True, "lstrip_blocks": True}
    expected = ImmutableSandboxedEnvironment(**options).from_string(ORDINARY[case]).render()
    template = LimitedEnvironment(**options).from_string(ORDINARY[case])
    assert template.render() == expected == "".join(template.generate())


def test_long_prompts_are_no_fault():
    response = "word " * 200_000
    text = PromptTemplate("{{ response | trim }}\n{{ response[:10] ~ response }}").render(
        {"response": response}, scale=SCALE
    )
    assert len(text) > 1_900_000
    with pytest.raises(ValueError, match=f"more than {MAX_TEXT:,} characters"):
        PromptTemplate("{{ response }}").render({"response": "x" * (MAX_TEXT + 1)}, scale=SCALE)


def test_chat_templates_of_models_render_as_in_transformers(monkeypatch):
    found = [path.read_text() for path in sorted(Path(trl.__file__).parent.glob("chat_templates/*.jinja"))]
    found.append(thinking_judges.opening_tokenizer().chat_template)
    assert len(found) > 50
    tools = [
        {
            "type": "function",
            "function": {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}},
        }
    ]
    chat = [{"role": "system", "content": "Be fair."}, {"role": "user", "content": "Grade {this}.\n"}]
    more = [*chat, {"role": "assistant", "content": "<think>\nWell.\n</think>\n\nIt is good."}]
    options = [{"add_generation_prompt": True}, {"enable_thinking": False, "tools": tools}]
    asked = [(template, each, given) for template in found for each in (chat[1:], chat, more) for given in options]

    def render(limited: set[str]) -> list[str]:
        monkeypatch.setattr(limited_templates, "_limited", limited)
        texts = []
        for template, each, given in asked:
            try:
                texts.append(chat_template_utils.render_jinja_template([each], chat_template=template, **given)[0][0])
            except TEMPLATE_ERRORS as error:
                texts.append(type(error).__name__)
        return texts

    ours = render(set(found))
    assert sum("Grade {this}." in text for text in ours) > 0.8 * len(ours)
    assert chat_template_utils._compile_jinja_template(asked[0][0]).environment.__class__ is LimitedEnvironment
    assert ours == render(set())
    theirs = chat_template_utils._compile_jinja_template(asked[0][0]).environment.__class__
    assert theirs is ImmutableSandboxedEnvironment


def test_templates_of_others_have_no_limits(tmp_path):
    tokenizer = copy.deepcopy(tokenizers_zoo.smollm())
    template = "{{ ([[1]] | sum(start=[])) }}{{ messages[0].content }}"
    tokenizer.chat_template = template + "{# a user's own #}"
    long = [{"role": "user", "content": "x" * (MAX_TEXT + 1)}]
    assert tokenizer.apply_chat_template(long, tokenize=False) == "[1]" + long[0]["content"]
    tokenizer.chat_template = "{{ messages[0].content }}{# a judge's #}"
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(str(tmp_path), None, False)
    with pytest.raises(TemplateLimit):
        loaded.apply_chat_template(long, tokenize=False)


@pytest.mark.parametrize(
    "case", ["nested loops", "a macro that calls itself twice", "a large template", "deep blocks"]
)
def test_a_tokenizer_with_a_greedy_chat_template_is_not_loaded(tmp_path, case):
    tokenizers_zoo.smollm().save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").write_text(GREEDY[case])
    with pytest.raises(ValueError, match=r"chat_template\.jinja.* cannot be used"):
        load_tokenizer(str(tmp_path), None, False)


def test_a_template_file_of_any_size_is_refused_unread(tmp_path):
    with (tmp_path / "mine.jinja").open("wb") as file:
        file.truncate(2**33)
    with pytest.raises(ValueError, match=r"mine\.jinja.* has 8,589,934,592 bytes; the limit is 262,144"):
        load_template(tmp_path / "mine.jinja")
    tokenizers_zoo.smollm().save_pretrained(tmp_path)
    (tmp_path / "mine.jinja").rename(tmp_path / "chat_template.jinja")
    with pytest.raises(ValueError, match=r"chat_template\.jinja: it has 8,589,934,592 bytes"):
        load_tokenizer(str(tmp_path), None, False)
