#!/usr/bin/env python3
"""Makes tests/data/chat: what Python's jinja2, set up as Hugging Face's transformers sets it up, makes of templates.

  make_chat_vectors.py [MODELS]

MODELS holds smollm2.gguf and qwen05.gguf of tools/fetch-model; with it the two templates are taken out of them again
(packages jinja2 and gguf). Both models are licensed under Apache 2.0.

smollm2.jinja, qwen2.5.jinja   the models' own templates
models.json                    conversations: [template, variables, text] each; text is null where the template fails
expressions.json               small templates: the same, with one set of variables ("variables"); those under "changes" change
                               lists and dicts, which transformers forbids and other engines allow: by the mutable sandbox
"""
import datetime, json, os, sys
import jinja2, jinja2.ext
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedEnvironment

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/data/chat")
NOW = 1753000000  # 2025-07-20 08:26:40 UTC


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def strftime_now(form):
    return datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc).strftime(form)


def environment(sandbox):
    env = sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = strftime_now
    return env


ENV = environment(ImmutableSandboxedEnvironment)
MUTABLE = environment(SandboxedEnvironment)


def render(template, variables, env=ENV):
    try:
        return env.from_string(template).render(**variables)
    except Exception:  # whatever Python raises is a failed rendering
        return None


VARIABLES = {
    "s": "Hello, World", "empty": "", "u": "Grüße, 漢字 🦙 ß", "lines": "one\ntwo\r\n\nthree", "spaces": "  a  b c ",
    "quote": "it's \"quoted\" \\ \n\t\x01\x7f\u00a0", "html": "<b>&'\"</b>", "n": 42, "zero": 0, "neg": -7, "f": 2.5,
    "big": 9007199254740993, "whole": 3.0, "tiny": 1e-07, "huge": 1e22, "yes": True, "no": False, "none_": None,
    "l": [3, 1, 2], "words": ["b", "A", "c", "a", "B"], "mixed": [1, "a", None, True, 2.5, [1], {"k": "v"}], "nil": [],
    "d": {"b": 1, "a": 2, "items": "mine", "C": 3}, "nested": {"x": {"y": [10, {"z": "deep"}]}}, "ed": {},
    "people": [{"name": "Ann", "age": 30, "city": "Oslo"}, {"name": "bob", "age": 25, "city": "Rome"},
               {"name": "Cid", "age": 30, "city": "oslo"}, {"name": "dan", "age": None}],
}

# Expressions: each is printed. What Python refuses is kept too: it must be refused here.
EXPRESSIONS = r"""
1 + 2 * 3
(1 + 2) * 3
7 // 2
-7 // 2
7 // -2
7 % 3
-7 % 3
7 % -3
7.5 // 2
-7.5 % 2
7.5 % -2
2 ** 10
2 ** -1
2 ** 3 ** 2
-2 ** 2
2 ** 0.5
7 / 2
6 / 2
1 / 0
1 // 0
1 % 0
1.5 % 0
0 ** -1
1e3
1.5e-7
1_000
0x1F
0o17
0b101
1.0
100000000000000000.0
1e16
123456789.123456789
0.1 + 0.2
1e22
1e-5
0.0001
5 - -3
+5
-n
- f
not yes
not nil
not not 1
1 < 2 < 3
1 < 2 > 3
3 > 2 >= 2 == 2
1 == 1.0
true == 1
1 == '1'
'a' < 'b'
'a' < 1
[1, 2] < [1, 3]
(1, 2) == (1, 2)
(1, 2) == [1, 2]
none == none
none < 1
1 in [1, 2]
4 not in l
'World' in s
'' in s
1 in s
'a' in d
2 in d
'x' in undefined_thing
1 and 0
0 or 'x'
'' or nil or 'last'
1 and 'b'
undefined_thing or 'fallback'
none_ and 1
'yes' if yes else 'no'
'yes' if no
'a' if no else 'b' if no else 'c'
('x' if yes) ~ 'y'
'a' ~ 1 ~ none ~ true ~ 2.0 ~ [1]
'a' + 'b'
'a' + 1
1 + 'a'
'ab' * 3
3 * 'ab'
'ab' * -1
[1] * 2
[1] + [2, 3]
(1,) + (2,)
[1] + (2,)
true + true
yes * 3
true
none
false
[true, false, none, 1, 1.0, 'a', "it's", '"', '\'"']
(1,)
()
(1, 'a')
{'a': 1, 'b': [1, {'c': none}], 3: 'x', none: 1, true: 2}
{}
{'a': 1}.a
{'a': 1}['a']
{'a': 1}['b']
{'a': 1}.b.c
mixed
people
u
quote
[quote]
[u, '\u200b', '\x00', '\U0001f999']
'\x41\u00e9\n\\ \'\q'
"a" 'b' "c"
'tab\there'
s[0]
s[-1]
s[20]
s[1:4]
s[:-1]
s[::-1]
s[::2]
s[-3:]
s[5:2]
s[2:100]
u[3:5]
u[-1]
u[::-1]
l[0]
l[-1]
l[5]
l[1:]
l[::-1]
l[-2:]
l[::2]
l[:1:-1]
l[::0]
n[1:]
d[1:]
none_[:1]
undefined_thing[1:]
(1, 2, 3)[1:]
l['a']
d['items']
'{0[k]}'.format({'k': 2})
d.b
d['b']
d.keys() | list
d.values() | list
d.items() | list
d.keys()
d.values()
d.items()
d.items() | length
d.get('a')
d.get('zz')
d.get('zz', 5)
ed.items() | list
nested.x.y[1].z
nested.x.y.0
nested['x']['y'][0]
nested.nope
nested.nope.nope
nested.x.y[7]
nested.x.y[7].z
undefined_thing
undefined_thing.attr
undefined_thing['a']
undefined_thing()
undefined_thing + 1
'a' + undefined_thing
undefined_thing == undefined_other
undefined_thing | length
undefined_thing | list
undefined_thing is defined
undefined_thing is undefined
undefined_thing | default('d')
'' | default('d')
'' | default('d', true)
none_ | default('d')
none_ | d('d', boolean=true)
nested.nope | default('x')
s.upper()
s.lower()
'hello wORLD foo-bar'.title()
'hello wORLD'.capitalize()
'Hello'.swapcase()
'  a '.strip()
'  a '.lstrip() ~ '|'
'  a '.rstrip() ~ '|'
'xxaxx'.strip('x')
'xyaxy'.lstrip('yx')
'xyaxy'.rstrip('xy')
'abc'.strip('')
'a,b,,c'.split(',')
'a,b,,c'.split(',', 1)
'a,b,,c'.rsplit(',', 1)
'a,b,,c'.rsplit(',')
spaces.split()
spaces.split(none, 1)
spaces.rsplit(none, 1)
spaces.split(' ')
''.split()
''.split(',')
'a'.split('')
'a--b--c'.split('--')
lines.splitlines()
lines.splitlines(true)
'a\n'.splitlines()
''.splitlines()
s.startswith('Hell')
s.startswith(('x', 'H'))
s.endswith('ld')
s.startswith('ello', 1)
'aXbXc'.replace('X', '-')
'aXbXc'.replace('X', '-', 1)
'abc'.replace('', '-')
s.find('o')
s.find('o', 5)
s.find('zz')
s.rfind('o')
s.index('World')
s.index('zz')
u.find('🦙')
s.count('l')
'aaa'.count('aa')
', '.join(['a', 'b'])
', '.join('abc')
', '.join([1, 2])
'{} and {}'.format(1, 'b')
'{0}{1}{0}'.format('a', 'b')
'{x}-{y}'.format(x=1, y=[1])
'{:>5}|{:<5}|{:^5}|{:*^7}'.format('a', 'b', 'c', 'd')
'{:05d}|{:+d}|{:x}|{:,}'.format(42, 7, 255, 1234567)
'{:.2f}|{:8.3f}|{:e}|{:%}|{:g}'.format(3.14159, 2.71828, 12345.678, 0.25, 0.0001)
'{{}} {!r}'.format('a')
'{'.format()
'{}'.format()
'%s is %d' % ('a', 3)
'%05.1f|%5s|%-5s|%x|%%' % (3.14159, 'a', 'b', 255)
'%(a)s-%(b)03d' % {'a': 'x', 'b': 7}
'%s' % 'one'
'%s %s' % ('one',)
'%s' % ('one', 'two')
'%d' % 'x'
'%s' % [1, 2]
'%r' % 'a'
'abc'.isdigit() ~ '123'.isdigit() ~ ''.isdigit()
'abc'.isalpha() ~ 'ab1'.isalpha() ~ 'ab1'.isalnum()
' \t'.isspace() ~ 'A'.isupper() ~ 'a'.islower() ~ '1'.isupper()
'a-b-c'.partition('-')
'a-b-c'.rpartition('-')
'abc'.partition('-')
'prefix-x'.removeprefix('prefix-') ~ 'x.txt'.removesuffix('.txt')
'7'.zfill(3) ~ '-7'.zfill(4)
'a'.ljust(3, '.') ~ 'a'.rjust(3) ~ 'ab'.center(5, '*')
'a'.nope
'a'.nope()
[1, 2, 1].count(1)
[1, 2, 1].index(2)
[1].index(9)
(1, 2).count(1)
l | sort
l | sort(reverse=true)
words | sort
words | sort(case_sensitive=true)
people[:3] | sort(attribute='age,name') | map(attribute='name') | list
people[:3] | sort(attribute='age', reverse=true) | map(attribute='name') | list
mixed | sort
l | sort(attribute='nope')
l | groupby('nope')
[{'a': {}}, {'a': {}}] | sort(attribute='a')
l | reverse | list
s | reverse
l | first
l | last
nil | first
nil | last
nil | first | default('none')
'abc' | first
'abc' | last
d | first
l | min
l | max
l | sum
nil | min
nil | sum
people[:3] | sum(attribute='age')
words | min
words | max(case_sensitive=true)
people[:3] | min(attribute='age')
words | unique | list
words | unique(case_sensitive=true) | list
people | unique(attribute='age') | map(attribute='name') | list
l | join
l | join(', ')
people | join(', ', attribute='name')
words | join('-') | upper
nil | join(',')
'abc' | join('.')
[1, none, true, undefined_thing] | join('|')
l | length
s | length
u | length
d | length
5 | length
l | count
d | list
'abc' | list
5 | list
d | items | list
undefined_thing | items | list
d | dictsort
d | dictsort(true)
d | dictsort(by='key', reverse=true)
{'a': 2, 'b': 1} | dictsort(false, 'value')
words | map('upper') | list
words | map('replace', 'a', 'x') | join
people | map(attribute='city') | list
people | map(attribute='city', default='?') | list
people | map('nope') | list
[[1, 2], [3]] | map('first') | list
[[1, 2], [3]] | map(attribute=0) | list
[[1, 2], [3]] | map('length') | sum
l | select('odd') | list
l | reject('odd') | list
mixed | select | list
mixed | reject | list
mixed | select('string') | list
l | select('gt', 1) | list
l | select('nope') | list
people | selectattr('age') | map(attribute='name') | list
people | selectattr('age', 'equalto', 30) | map(attribute='name') | list
people | selectattr('city', 'defined') | map(attribute='name') | list
people | rejectattr('age', 'none') | map(attribute='name') | list
people | rejectattr('city') | map(attribute='name') | list
people | selectattr('city', 'in', ['Oslo', 'Rome']) | map(attribute='name') | join(' ')
nested | selectattr('x') | list
none_ | select | list
[1, 2, 3, 4, 5] | batch(2) | list
[1, 2, 3, 4, 5] | batch(2, 'x') | list
[1, 2, 3, 4, 5] | slice(2) | list
[1, 2, 3, 4, 5] | slice(3, 'x') | list
people | groupby('age', default=0) | map(attribute='grouper') | list
people[:3] | groupby('age')
people[:3] | groupby('city') | map('last') | map('length') | list
(people[:3] | groupby('city'))[0].grouper
(people[:3] | groupby('city'))[0].list | length
s | upper
s | lower
'hello world-foo (bar) <baz' | title
'hELLO wORLD' | capitalize
5 | upper
none | upper
'  a  ' | trim
'xxaxx' | trim('x')
'aXbX' | replace('X', 'y')
'aXbX' | replace('X', 'y', 1)
5 | replace(5, 'x')
5 | string + 'a'
none | string
html | escape
html | e
html | safe
html | safe | escape
'<' + ('a' | safe)
('<i>' | safe) + '<'
('<' | escape) ~ '<'
html | forceescape
'a\nb\n\nc' | indent
'a\nb\n\nc' | indent(2, true)
'a\nb\n\nc' | indent(2, blank=true)
'a\nb\n' | indent(width='> ')
'' | indent(2, true)
'a long text to cut somewhere here' | truncate(15)
'a long text to cut somewhere here' | truncate(15, true)
'a long text to cut' | truncate(15)
'a long text to cut somewhere' | truncate(12, end='!', leeway=0)
'abc' | truncate(2)
'mid' | center(9)
'mid' | center(8)
'a few words, it\'s five' | wordcount
'<p>a  <b>b</b>\n c &amp; d<!-- x --></p>' | striptags
'a b&c/d?é' | urlencode
'%s-%s' | format('a', 1)
'%(a)s' | format(a=1)
'%s' | format(1, a=2)
'42' | int
'42.9' | int
'x' | int
'x' | int(7)
'0x1f' | int(base=16)
'1f' | int(0, 16)
' 12 ' | int
'1_000' | int
'-5' | int
2.9 | int
-2.9 | int
true | int
none | int
[] | int
undefined_thing | int
'1.5' | float
'abc' | float
'x' | float(1.5)
3 | float
'inf' | float
-5 | abs
-5.5 | abs
'a' | abs
2.5 | round
3.5 | round
2.675 | round(2)
2.5 | round(0, 'ceil')
2.567 | round(2, 'floor')
42 | round
1234.5 | round(-2)
2.5 | round | int
'a' | round
1000 | filesizeformat
1 | filesizeformat
123456789 | filesizeformat
123456789 | filesizeformat(true)
d | tojson
mixed | tojson
nested | tojson(indent=2)
[] | tojson(indent=4)
{} | tojson(indent=4)
u | tojson
u | tojson(ensure_ascii=true)
quote | tojson
html | tojson
[1.0, 1e22, 1e-7, 0.1, true, none] | tojson
d | tojson(sort_keys=true)
d | tojson(separators=(',', ':'))
d | tojson(indent='\t')
(1, 2) | tojson
{1: 'a', none: 'b', true: 'c', 2.5: 'd'} | tojson
{(1, 2): 'a'} | tojson
undefined_thing | tojson
[undefined_thing] | tojson
big | tojson
range(3) | tojson
'"a"' | tojson | safe
d | xmlattr
'upper' is filter
'nope' is filter
'odd' is test
l | nope
l is nope
n is number
yes is number
's' is number
n is integer
yes is integer
f is float
yes is boolean
n is boolean
s is string
none is none
none_ is none
none_ is defined
nested.nope is defined
nested.x is mapping
l is mapping
l is sequence
s is sequence
d is sequence
n is sequence
undefined_thing is sequence
d.items() is sequence
l is iterable
s is iterable
n is iterable
range is callable
s is callable
l | map('upper') is iterable
3 is odd
4 is even
9 is divisibleby 3
9 is divisibleby(4)
3 is eq 3
3 is equalto(4)
3 is ne 4
3 is lt 4
3 is gt(4)
3 is le 3
3 is ge 4
3 is in [1, 3]
'a' is in 'abc'
not 3 is odd
3 is not odd
3 is odd and 4 is even
yes is true
n is true
no is false
'abc' is lower
'ABC' is upper
'aBc' is lower
none is sameas none
1 is sameas true
('a' | safe) is escaped
3 is odd is even
5 is not divisibleby 2 or false
range(5) | list
range(2, 5) | list
range(10, 0, -3) | list
range(3)
range(0, 10, 4)
range(5)[1]
range(5) | length
range(5) | sum
range(0, 3, 0)
range(1000000)
range('a')
3 in range(5)
dict(a=1, b=2)
dict({'x': 1}, y=2)
dict([('a', 1)])
namespace(a=1).a
namespace(a=1).b
cycler('a', 'b').current
strftime_now('%d %b %Y')
strftime_now('%Y-%m-%d %H:%M:%S %A')
raise_exception('stop')
n.bit
n | default
l.0
l.first
d | length > 2 and l | length == 3
(l | length) * 2
l | length * 2
-l | length
'a' in 'abc' and not 'z' in 'abc'
'a' not in 'abc'
1 if 'a' in 'abc' else 2
[1, 2, 3][1:][0]
'abc'[1]
'abc'[1].upper()
s.split(',')[0].lower()
s.split(',') | map('trim') | list
(s ~ '!').upper()
s | replace('o', '0') | upper
{'a': [1, 2]}.a[1]
{'a': 1, 'a': 2}
{'a' ~ 'b': 1}
[l, d] | map('length') | list
l == [3, 1, 2]
d == {'a': 2, 'b': 1, 'items': 'mine', 'C': 3}
1.0 in [1]
{1: 'a'}[1.0]
{1: 'a'}[true]
[1, 2] is sameas [1, 2]
[[1]]
'a' 'b'
9223372036854775807
-9223372036854775807
9223372036854775807 - 1
tiny
huge
whole
big
whole | int
f * 2
n / 5
n // 5.0
1 is defined
'%5.2f' % 3.14159
'%+d % d' % (3, 4)
'%-6d|' % 42
'%06.2f' % -3.14159
'%s' % none
'%c' % 'x'
'%.3s' % 'abcdef'
'%*d' % (5, 42)
'%e' % 12345.678
'%g' % 1e-10
'{:d}'.format('a')
'{:s}'.format(1)
'{:5}|{:<5}'.format(1, 2)
'{a[0]}{b.x}'.format(a=[1], b={'x': 2})
x.y if x is defined else 'none'
1 +
(1
[1, 2
{'a' 1}
'unterminated
1 2
a b
1 ++ 2
!
foo(
foo(a=1, 2)
l | 
l is
""".strip("\n").split("\n")

# Whole templates, for what is not an expression.
TEMPLATES = [
    "", "plain", "a\n", "a\n\n", "\n", "a\r\nb\rc\r\n",
    "{{ 1 }}\n", "{{ 1 }}\n\n", "{{ 1 }}\n{{ 2 }}\n",
    "{% if true %}\nx\n{% endif %}\n", "a\n  {% if true %}\n  x\n  {% endif %}\nb",
    "a  {% if true %}  x  {% endif %}  b", "a  {%- if true -%}  x  {%- endif -%}  b",
    "a \n {%- if true %} x {% endif -%} \n b", "  {%+ if true %}x{% endif %}", "  {% if true %}x{% endif %}",
    "{% if true +%}\nx{% endif %}", "a\n  {{- 1 -}}  \n b", "a\n  {{ 1 }}  \n b", "a\n  {{+ 1 }}\n b",
    "a\n  {# c #}\nb", "a\n  {#- c -#}\n b", "a {# multi\nline #} b", "{# a {{ b }} #}x", "{# c +#}\nx", "a\n {#+ c #}\nb",
    "{#-#}x", "{# unclosed", "\t{% if true %}\t\n\tx\n\t{% endif %}\t\n",
    "{% raw %}{{ x }} {% if %}{% endraw %}", "a {%- raw -%} {{ x }} {%- endraw -%} b", "{% raw %}\n x\n  {% endraw %}\ny",
    "{% raw %} unclosed", "{{ '{{' }} {{ '}}' }} {{ '{%' }} {{ \"%}\" }}", "{{ {'a': {'b': 1}} }}", "{{ {'a': {'b': 1}}['a']['b']}}",
    "{{ [[1]][0][0] }}", "{ { } } %} }} #}", "{{-1}}", "{{ 1 -}}\n x", "{{ 1 }}{{ 2 }}", "{% set x = 1 -%}\n\n {{ x }}",
    "{{", "{% if %}", "{{ }}", "{% nope %}", "{% if 1 %}", "{% endif %}", "{% if 1 %}{% endfor %}", "{{ 1 %}", "{% set x = 1 }}",
    "{{ (1] }}", "{{ 1) }}", "{% for %}", "{% for x %}{% endfor %}", "{% for x in %}{% endfor %}", "{% set = 1 %}", "{% set 1 = 1 %}",
    "{% for x in l %}{{ x }},{% endfor %}", "{% for x in nil %}x{% else %}none{% endfor %}", "{% for x in undefined_thing %}x{% else %}e{% endfor %}",
    "{% for x in 5 %}{% endfor %}", "{% for c in 'aé漢' %}{{ c }}.{% endfor %}", "{% for k in d %}{{ k }} {% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k, v in d | items %}{{ k }}={{ v }};{% endfor %}",
    "{% for a, b in [[1, 2], [3, 4]] %}{{ a + b }} {% endfor %}", "{% for a, b in [[1]] %}{% endfor %}", "{% for a, b in [[1, 2, 3]] %}{% endfor %}",
    "{% for a, (b, c) in [[1, [2, 3]]] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "{% for (a, b) in [[1, 2]] %}{{ a }}{{ b }}{% endfor %}",
    "{% for x in l if x > 1 %}{{ loop.index }}:{{ x }} {% endfor %}", "{% for x in l if x > 9 %}x{% else %}none{% endfor %}",
    "{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }} {% endfor %}",
    "{% for x in l %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }} {% endfor %}", "{% for x in l %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }} {% endfor %}",
    "{% for x in l %}{{ loop.cycle('a', 'b') }}{% endfor %}", "{% for x in [1, 1, 2] %}{{ loop.changed(x) }} {% endfor %}",
    "{% for x in l %}{{ loop.depth }}{{ loop.depth0 }}{{ loop.nope }}{% endfor %}", "{% for x in [1, 2] %}{% for y in [1, 2] %}{{ loop.index }}{% endfor %}{{ loop.index }} {% endfor %}",
    "{% for x in [1, 2, 3, 4] %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 4 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in [1, 2] %}{% for y in [1, 2] %}{% break %}{% endfor %}{{ x }}{% endfor %}", "{% break %}", "{% for x in l %}{% endfor %}{{ x }}",
    "{% for x in l recursive %}{{ x }}{% endfor %}", "{% for x in [[1, [2]], 3] recursive %}{% if x is iterable %}[{{ loop(x) }}]{% else %}{{ x }}@{{ loop.depth }}{% endif %}{% endfor %}",
    "{% for x in 1, 2, 3 %}{{ x }}{% endfor %}", "{% for x in [1, 2] %}{% set x = 9 %}{{ x }}{% endfor %}", "{% for loop_ in l %}{{ loop_ }}{{ loop.index }}{% endfor %}",
    "{% for m in people if m.age is not none %}{{ m.name }}{% if not loop.last %}, {% endif %}{% endfor %}",
    "{% set x = 1 %}{% for i in l %}{% set x = x + 1 %}{{ x }}{% endfor %}{{ x }}", "{% set ns = namespace(x=0) %}{% for i in l %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace() %}{% set ns.a, ns.b = 1, 2 %}{{ ns.a }}{{ ns.b }}", "{% set d.x = 1 %}", "{% set nope.x = 1 %}", "{% set ns = namespace(d) %}{{ ns.a }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a, b = 'xy' %}{{ a }}{{ b }}", "{% set a = 1, %}{{ a }}", "{% set a %}x{{ 1 }}y{% endset %}[{{ a }}]",
    "{% set a | upper | replace('X', 'z') %}x{{ 1 }}y{% endset %}[{{ a }}]", "{% set a %}{% set b = 1 %}{{ b }}{% endset %}{{ a }}{{ b }}",
    "{% if no %}{% set x = 1 %}{% endif %}{{ x }}", "{% if yes %}{% set x = 1 %}{% endif %}{{ x }}", "{% set s = 'over' %}{{ s }}", "{{ s }}{% set s = s ~ '!' %}{{ s }}",
    "{% if no %}a{% elif zero %}b{% elif n %}c{% else %}d{% endif %}", "{% if no %}a{% elif zero %}b{% else %}d{% endif %}", "{% if undefined_thing %}a{% else %}b{% endif %}",
    "{% if undefined_thing.x %}{% endif %}", "{% if n == 42 and not no %}ok{% endif %}", "{% if l %}{% if nil %}a{% else %}b{% endif %}{% endif %}",
    "{% macro m(a, b=2) %}{{ a }}-{{ b }}{% endmacro %}{{ m(1) }} {{ m(1, 3) }} {{ m(b=4, a=5) }} {{ m() }}", "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}",
    "{% macro m(a) %}{% endmacro %}{{ m(b=2) }}", "{% macro m(a) %}{% endmacro %}{{ m(1, a=2) }}", "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}",
    "{% macro m(a, b=a ~ '!') %}{{ b }}{% endmacro %}{{ m('x') }}", "{% macro m(a=1, b) %}{% endmacro %}", "{% macro m() %}{{ x }}{% endmacro %}{% set x = 1 %}{{ m() }}",
    "{% set x = 1 %}{% macro m() %}{% set x = 2 %}{{ x }}{% endmacro %}{{ m() }}{{ x }}", "{% macro f(n) %}{% if n > 1 %}{{ n * (f(n - 1) | int) }}{% else %}1{% endif %}{% endmacro %}{{ f(5) }}",
    "{% macro m() %}  x  {% endmacro %}[{{ m() | trim }}]", "{% macro m(x) %}<{{ x }}>{% endmacro %}{{ l | map('string') | map('upper') | join }}{{ m(m(1)) }}",
    "{% macro m() %}{{ caller() }}!{% endmacro %}{% call m() %}in{% endcall %}", "{% macro m(l) %}{% for x in l %}{{ caller(x, loop.index) }}{% endfor %}{% endmacro %}{% call(x, i) m(l) %}{{ i }}:{{ x }} {% endcall %}",
    "{% macro m() %}x{% endmacro %}{% call m() %}in{% endcall %}", "{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}", "{% call 1 %}{% endcall %}",
    "{% macro m(x) %}{{ x }}{% endmacro %}{{ m }}", "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}", "{{ m() }}{% macro m() %}x{% endmacro %}",
    "{% for x in [1, 2] %}{% macro m() %}{{ x }}{% endmacro %}{{ m() }}{% endfor %}", "{% macro m(x) %}{% for i in range(x) %}{{ i }}{% endfor %}{% endmacro %}{{ m(3) }}",
    "{% filter upper %}a{{ 'b' }}{% endfilter %}", "{% filter replace('a', 'x') | upper %}abc{% endfilter %}", "{% filter nope %}{% endfilter %}", "{% if false %}{{ 1 | nope }}{% endif %}ok",
    "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a }}", "{% set a = 5 %}{% with a = 1, b = a %}{{ b }}{% endwith %}", "{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q }}",
    "{% generation %}x{{ n }}{% endgeneration %}", "{%- generation -%} x {%- endgeneration -%} ", "{% for x in l %}{% generation %}{{ x }}{% endgeneration %}{% endfor %}",
    "{% print 1, 'a' %}", "{% set j = joiner('|') %}{% for x in l %}{{ j() }}{{ x }}{% endfor %}", "{% set j = joiner() %}{{ j() }}{{ j() }}",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.next() }}{{ c.reset() }}{{ c.current }}",
    "{% set g = l | map('string') %}{% for x in g %}{{ x }}{% endfor %}{% for x in g %}{{ x }}{% endfor %}", "{{ (l | map('string'))[0] }}", "{{ l | map('string') | length }}",
    "{% set g = people | selectattr('age') %}{{ g | first }}{{ g | list | length }}", "{{ l.nope }}",
    "{% set x = namespace(found=false) %}{% for p in people %}{% if p.name == 'bob' %}{% set x.found = true %}{% endif %}{% endfor %}{{ x.found }}{{ x }}",
    "{{ raise_exception('no ' ~ n) }}", "{% if no %}{{ raise_exception('x') }}{% endif %}fine", "{{ 'a' if no else raise_exception('x') }}",
    "{% include 'x' %}", "{% import 'x' as y %}", "{% extends 'x' %}", "{% from 'x' import y %}", "{% do 1 %}",
    "{% for p in people | sort(attribute='name') %}{{ p.name }} {% endfor %}", "{% for g in people[:3] | groupby('age') %}{{ g.grouper }}:{{ g.list | map(attribute='name') | join('+') }} {% endfor %}",
    "{% for row in [1, 2, 3, 4, 5] | batch(2, 0) %}{{ row | join(',') }};{% endfor %}", "{% set a = [1] %}{% set a = a + [2] %}{{ a }}", "{{ {'a': 1} | tojson }}{{ '{\"a\": 1}' }}",
    "{%- for m in [{'role': 'user', 'content': ' hi '}] -%}\n<|{{ m['role'] }}|>\n{{ m.content | trim }}\n{%- endfor -%}\n", "{% set x = none %}{{ x is none }}{{ x or 'd' }}",
    "{% if s is string and s | length > 3 %}long{% endif %}", "{{ 'x' * 3 ~ 'y' }}", "{{ 1 if yes }}{{ 1 if no }}|", "{{- '\\n' -}}", "{{ '\\\\n' }}", "{{ \"a\nb\" }}", "{{ ' a\r\nb' }}",
    "{% set content = 'a</think>b' %}{% if '</think>' in content %}{{ content.split('</think>')[-1].lstrip('\\n') }}{% endif %}", "é{{ 'é' }}漢{% if 1 %}🦙{% endif %}",
    "{% set é = 1 %}{{ é }}", "{{ 1;2 }}", "{{ a.1b }}", "{{ 1.e5 }}", "{{ nested.x.y.1.z }}", "{{ ('a').upper() }}", "{{ loop }}", "{{ loop.index }}",
    "{% for x in l %}{{ loop.index is odd }}{% endfor %}", "{% for x in range(3) %}{{ x }}{% endfor %}", "{% for x in d.values() %}{{ x }}{% endfor %}", "{% for a in people | map(attribute='name') %}{{ a }}{% endfor %}",
    "{%if 1%}x{%endif%}", "{%-if 1-%} x {%-endif-%}", "{{1}}{{'a'}}", "{{ 1\n+\n2 }}", "{% set x\n=\n1 %}{{\nx\n}}", "{%\nif 1\n%}x{% endif %}",
    "{% if 1 %}a{% else %}b{% else %}c{% endif %}", "{% for x in l %}a{% else %}b{% elif %}{% endfor %}", "{% set x %}{% endset %}[{{ x }}]", "{% set x = %}", "{% macro %}{% endmacro %}",
]

CHANGES = [
    "{% set a = [1] %}{% set _ = a.append(2) %}{{ a }}{{ a.append(3) }}", "{% set a = [1] %}{% set b = a %}{% set _ = b.append(2) %}{{ a }}",
    "{% set a = [1, 2, 3] %}{{ a.pop() }}{{ a.pop(0) }}{{ a }}{{ a.pop(-1) }}{{ a }}", "{% set a = [] %}{{ a.pop() }}", "{% set a = [1] %}{{ a.pop(5) }}",
    "{% set a = [1] %}{% set _ = a.extend([2, 3]) %}{% set _ = a.extend('xy') %}{{ a }}", "{% set a = [1, 2] %}{% set _ = a.insert(1, 'x') %}{% set _ = a.insert(-1, 'y') %}{% set _ = a.insert(99, 'z') %}{{ a }}",
    "{% set a = [1, 2, 1] %}{% set _ = a.remove(1) %}{{ a }}{% set _ = a.reverse() %}{{ a }}{% set _ = a.clear() %}{{ a }}", "{% set a = [1] %}{{ a.remove(2) }}",
    "{% set a = [1] %}{% set b = a.copy() %}{% set _ = b.append(2) %}{{ a }}{{ b }}",
    "{% set a = {'x': 1} %}{% set _ = a.update({'y': 2}) %}{% set _ = a.update(z=3, x=0) %}{{ a }}{{ a | length }}",
    "{% set a = {'x': 1, 'y': 2} %}{{ a.pop('x') }}{{ a }}{{ a.pop('x', 'none') }}{{ 'x' in a }}", "{% set a = {} %}{{ a.pop('x') }}",
    "{% set a = {} %}{{ a.setdefault('x', 1) }}{{ a.setdefault('x', 2) }}{{ a }}", "{% set a = {'x': 1} %}{% set b = a.copy() %}{% set _ = b.update(x=2) %}{{ a }}{{ b }}",
    "{% set a = {} %}{% for i in range(40) %}{% set _ = a.update({i: i * i}) %}{% endfor %}{% for i in range(0, 40, 2) %}{% set _ = a.pop(i) %}{% endfor %}{% for i in range(20) %}{% set _ = a.update({i: 'n'}) %}{% endfor %}{{ a }}{{ a | length }}{{ a[39] }}{{ 30 in a }}",
    "{% set a = {'x': [1]} %}{% set _ = a.x.append(2) %}{{ a }}{% set _ = a.clear() %}{{ a }}",
]

SYSTEM = {"role": "system", "content": "You are terse."}
TOOLS = [{"type": "function", "function": {
    "name": "get_weather", "description": "The <weather> & \"more\" for é 漢",
    "parameters": {"type": "object", "properties": {
        "location": {"type": "string", "description": "City"}, "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        "days": {"type": "integer", "default": 3, "minimum": 0.5}}, "required": ["location"]}}},
    {"type": "function", "function": {"name": "noop", "parameters": {"type": "object", "properties": {}}}}]


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def call(name, arguments):
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def result(text):
    return {"role": "tool", "content": text}


CONVERSATIONS = [
    [user("Hi")],
    [SYSTEM, user("  Hello <b> & 'you'\n")],
    [SYSTEM, user("a"), assistant("b"), user("c"), assistant("d"), user("e")],
    [user("a"), assistant("b"), user("c 漢字 🦙")],
    [user("a"), SYSTEM, user("b")],
    [SYSTEM, user("weather?"), assistant("", tool_calls=[call("get_weather", {"location": "Paris", "days": 2, "x": [1.0, None, True]})]),
     result("{\"t\": 3}"), assistant("It is 3."), user("thanks")],
    [user("weather?"), assistant("let me see", tool_calls=[call("get_weather", {"location": "X"}), call("noop", {})]),
     result("1"), result("2"), assistant("ok")],
    [user("x"), assistant("", tool_calls=[{"name": "noop", "arguments": {}}]), result("1")],
    [user("")],
    [],
]


def templates(models):
    import gguf
    for name, model in (("smollm2", "smollm2.gguf"), ("qwen2.5", "qwen05.gguf")):
        field = gguf.GGUFReader(os.path.join(models, model)).fields["tokenizer.chat_template"]
        with open(os.path.join(OUT, name + ".jinja"), "w", encoding="utf-8", newline="") as f:
            f.write(field.contents())


def conversations():
    for name in ("smollm2", "qwen2.5"):
        source = open(os.path.join(OUT, name + ".jinja"), encoding="utf-8", newline="").read()
        for messages in CONVERSATIONS:
            for tools in (None, TOOLS):
                for generate in (False, True):
                    variables = {"messages": messages, "tools": tools, "add_generation_prompt": generate,
                                 "bos_token": "<s>", "eos_token": "</s>"}
                    yield [name, variables, render(source, variables)]


def write(name, value):
    with open(os.path.join(OUT, name), "w", encoding="utf-8") as f:
        json.dump(value, f, indent=0, ensure_ascii=True)
        f.write("\n")


def main():
    os.makedirs(OUT, exist_ok=True)
    if len(sys.argv) > 1:
        templates(sys.argv[1])
    write("models.json", list(conversations()))
    sources = ["{{ " + e + " }}" for e in EXPRESSIONS] + TEMPLATES
    write("expressions.json", {"variables": VARIABLES, "cases": [[t, render(t, VARIABLES)] for t in sources],
                               "changes": [[t, render(t, VARIABLES, MUTABLE)] for t in CHANGES]})


if __name__ == "__main__":
    main()
