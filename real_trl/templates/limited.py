# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Jinja with limits of size, work, output and time, for templates that came with somebody's model. Jinja's sandbox keeps a template from
the machine, not from its time and memory: nested loops, `'a' * 10**10`, a macro that calls itself twice. The chat templates of the
tokenizers that are loaded here get the same limits in Transformers; all others are rendered as ever.

Whatever a template makes (results of calls, filters, operators, literals of variables) is measured when it is made, so that one
operation on it takes bounded time; what makes much of little is estimated before ([`~real_trl.templates.growth`]); each step is counted.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from time import monotonic, thread_time
from types import FunctionType
from typing import Any

from jinja2 import Template, TemplateError, TemplateSyntaxError, nodes, pass_context
from jinja2.runtime import Context, markup_join, str_join
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedEscapeFormatter, SandboxedFormatter
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer
from markupsafe import Markup
from transformers.utils import chat_template_utils

from real_trl.templates.day import strftime_now
from real_trl.templates.growth import (
    MAX_BITS,
    MeasuredFormatter,
    TemplateLimit,
    check_growth,
    check_printf,
    check_size,
    few,
    size_of,
)
from real_trl.templates.growth import (
    MAX_TEXT as MAX_TEXT,
)

MAX_SOURCE = 2**18
"""Characters of a template."""
MAX_NODES = 2**15
"""Of its syntax tree; a chat template of a model has a few thousand."""
MAX_WORK = 2**28
"""Characters that it makes altogether, a step counting as `_STEP`."""
MAX_SECONDS = 10
"""Of the processor, for one rendering."""
_STEP = 512
_MAX_TEMPLATES = 32  # of one tokenizer

TEMPLATE_ERRORS = (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError)
"""What a template can raise."""


class Budget:
    """What one rendering may still do."""

    def __init__(self) -> None:
        self.left = MAX_WORK
        self.due, self.since = monotonic() + MAX_SECONDS, thread_time()

    def spend(self, work: int) -> None:
        """`TemplateLimit` where there is no more work or time."""
        self.left -= work
        if self.left < 0:
            raise TemplateLimit(
                f"it does more than {MAX_WORK // _STEP:,} steps or makes {MAX_WORK:,} characters, the limits"
            )
        if monotonic() > self.due:  # by the clock on the wall, which also runs while the process waits
            left = MAX_SECONDS - (thread_time() - self.since)
            if left <= 0:
                raise TemplateLimit(f"it takes longer than {MAX_SECONDS} s, the limit")
            self.due = monotonic() + left

    def made(self, value: Any) -> Any:
        """`value`, measured."""
        self.spend(_STEP + size_of(value))
        return value


class _Formatter(MeasuredFormatter, SandboxedFormatter):
    pass


class _EscapeFormatter(MeasuredFormatter, SandboxedEscapeFormatter):
    pass


class _Namespace(Namespace):
    """It can hold itself, so it is not printed."""

    def __repr__(self) -> str:
        return "<Namespace>"


class _Context(Context):
    """The variables of one rendering, and its budget."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.budget = Budget()

    def derived(self, locals: dict[str, Any] | None = None) -> Context:
        context = super().derived(locals)
        context.budget = self.budget
        return context


class _Template(Template):
    def render(self, *args: Any, **kwargs: Any) -> str:
        return "".join(self.generate(*args, **kwargs))

    def generate(self, *args: Any, **kwargs: Any) -> Iterator[str]:
        size = 0
        try:
            for piece in super().generate(*args, **kwargs):
                size += len(piece)
                check_size(size)
                yield piece
        except (RecursionError, MemoryError) as error:
            raise TemplateLimit(f"its macros or values are too deep or too large ({type(error).__name__})") from None


class _Limiter(NodeTransformer):
    """Puts the measuring into a parsed template."""

    def __init__(self, environment: "LimitedEnvironment") -> None:
        self.filters, self.found = environment.filters, 0

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> Any:
        self.found += 1
        if self.found > MAX_NODES:
            raise TemplateSyntaxError(f"it has more than {MAX_NODES:,} parts, the limit", node.lineno)
        return super().visit(node, *args, **kwargs)

    def _counted(self, node: Any) -> Any:
        """A loop or macro: each time counts, with the text that stands in it."""
        text = sum(len(each.data) for each in node.find_all(nodes.TemplateData))
        node = self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(_filter("_step", nodes.Const(None), node, nodes.Const(text))))
        if getattr(node, "test", None) is not None:
            node.test = _filter("_step", node.test, node, nodes.Const(0))
        return node

    visit_For = visit_Macro = visit_CallBlock = _counted  # noqa: N815 (names of jinja2)

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:  # noqa: N802
        node = self.generic_visit(node)
        if node.name in self.filters:
            node.args.insert(0, nodes.Const(node.name))
            node.name = "_filtered"
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        parts = self.generic_visit(node).nodes
        return _filter("_concat", nodes.Tuple(parts, "load"), node)

    def _measured(self, node: Any) -> Any:
        constant = all(isinstance(each, nodes.Const) for each in node.items)
        node = self.generic_visit(node)
        return node if constant or getattr(node, "ctx", "load") != "load" else _filter("_made", node, node)

    visit_List = visit_Tuple = visit_Dict = _measured  # noqa: N815


def _filter(name: str, value: Any, at: nodes.Node, *args: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(value, name, list(args), [], None, None, lineno=at.lineno)


@pass_context
def _step(context: Any, value: Any, size: int) -> Any:
    context.budget.spend(_STEP + size)
    return value


@pass_context
def _made(context: Any, value: Any) -> Any:
    return context.budget.made(value)


@pass_context
def _concat(context: Any, parts: Sequence[Any]) -> str:
    size_of(parts)
    return context.budget.made((markup_join if context.eval_ctx.autoescape else str_join)(parts))


@pass_context
def _filtered(context: Any, value: Any, name: str, /, *args: Any, **kwargs: Any) -> Any:
    return context.environment.call_filter(name, value, args, kwargs, context=context)


@pass_context
def _printed(context: Any, value: Any) -> Any:
    context.budget.made(value)
    return value


class LimitedEnvironment(ImmutableSandboxedEnvironment):
    """
    Jinja's sandbox with limits; its arguments are those of [`~jinja2.Environment`].

    Raises, when a template is compiled: `TemplateSyntaxError` if it is larger or nested deeper than may be. When it is rendered:
    [`TemplateLimit`], a `TemplateError`.
    """

    intercepted_binops = frozenset({"+", "*", "**", "%"})
    context_class = _Context
    template_class = _Template

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, finalize=_printed, **kwargs)
        self.filters |= {"_step": _step, "_made": _made, "_concat": _concat, "_filtered": _filtered}
        self.globals["namespace"] = _Namespace
        del self.globals["lipsum"]

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        if len(source) > MAX_SOURCE:
            raise TemplateSyntaxError(
                f"it has {len(source):,} characters; the limit is {MAX_SOURCE:,}", 1, name, filename
            )
        tree = self._shallow(super()._parse, source, name, filename)
        self._shallow(_Limiter(self).visit, tree)
        tree.set_environment(self)
        return tree

    def _generate(self, *args: Any, **kwargs: Any) -> str:
        return self._shallow(super()._generate, *args, **kwargs)

    def _compile(self, *args: Any) -> Any:
        return self._shallow(super()._compile, *args)

    def _shallow(self, act: Callable, *args: Any, **kwargs: Any) -> Any:
        try:
            return act(*args, **kwargs)
        except (RecursionError, SyntaxError, MemoryError, ValueError) as error:  # of Python, to which it is translated
            raise TemplateSyntaxError(f"it cannot be compiled ({error})", 1) from None

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        match operator, left, right:
            case "**", int(), int() | float():
                if left.bit_length() * abs(right) > MAX_BITS:
                    raise TemplateLimit(f"it makes a number of more than {MAX_BITS:,} bits, the limit")
            case "*", int(), _ if hasattr(right, "__len__"):
                check_size(left * size_of(right))
            case "*", _, int() if hasattr(left, "__len__"):
                check_size(right * size_of(left))
            case "%", str(), _:
                check_printf(left, right)
        return context.budget.made(super().call_binop(context, operator, left, right))

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: B902, N805 (as in jinja2)
        __context.budget.spend(_STEP)
        owner, called = getattr(__obj, "__self__", None), getattr(__obj, "__name__", None)
        if args and (__obj is dict or owner is dict or called == "strftime_now"):
            args = (args[0] if isinstance(args[0], str) else few(args[0], called), *args[1:])
            check_growth(called, None, args)
        elif isinstance(owner, str | bytes | int | float):
            if __obj.__name__ == "join" and args:
                args = (list(args[0]), *args[1:])
            check_growth(__obj.__name__, owner, [*args, *kwargs.values()])
        return __context.budget.made(super().call(__context, __obj, *args, **kwargs))

    def call_filter(self, name: str, value: Any, args: Any = None, kwargs: Any = None, **more: Any) -> Any:
        budget = more["context"].budget
        budget.spend(_STEP)
        if name == "join":
            value = list(value)
        if name == "unique":
            value = few(value, name)
        if name == "format" and kwargs:
            check_printf(str(value), kwargs)
        named = sorted((kwargs or {}).items(), key=lambda each: each[0] != "old")  # of replace, before "new"
        check_growth(name, value, [*(args or ()), *(each for _, each in named)])
        return budget.made(super().call_filter(name, value, args, kwargs, **more))

    def call_test(self, name: str, value: Any, args: Any = None, kwargs: Any = None, *more: Any, **named: Any) -> Any:
        context = more[0] if more else named.get("context")
        if context is not None:  # of select, reject and their like, which test each of many
            context.budget.spend(_STEP + sum(len(each) for each in args or () if hasattr(each, "__len__")))
        return super().call_test(name, value, args, kwargs, *more, **named)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        if super().wrap_str_format(value) is None:
            return None
        text = value.__self__

        def limited(*args: Any, **kwargs: Any) -> str:
            escape = {"escape": text.escape} if isinstance(text, Markup) else {}
            formatter = (_EscapeFormatter if escape else _Formatter)(self, **escape)
            if value.__name__ == "format_map":
                (kwargs,), args = args, ()
            return type(text)(formatter.vformat(text, args, kwargs))

        return limited


_compile_any, _compile_anew = (
    chat_template_utils._compile_jinja_template,
    chat_template_utils._cached_compile_jinja_template,
)
# Transformers makes an environment for each chat template, of the class of this name
_compile_limited = lru_cache(
    FunctionType(
        _compile_anew.__code__, {**vars(chat_template_utils), "ImmutableSandboxedEnvironment": LimitedEnvironment}
    )
)
_limited: set[str] = set()  # the chat templates of the tokenizers that were loaded here


def _compile(chat_template: Any) -> Template:
    compiled = (_compile_limited if chat_template in _limited else _compile_any)(chat_template)
    compiled.globals["strftime_now"] = strftime_now  # not as an argument: Transformers 5.24 takes no functions
    return compiled


chat_template_utils._compile_jinja_template = _compile


def check_chat_template(tokenizer: Any, name: str) -> None:
    """
    From here on the chat templates of the tokenizer have limits, for all of this process that render them. `ValueError` if one of
    them is no template, or goes beyond a limit for a word of a user's.
    """
    found = tokenizer.chat_template or {}
    found = found if isinstance(found, dict) else {"default": found}
    where = f"{name}: its chat template (chat_template.jinja, additional_chat_templates/, or in tokenizer_config.json)"
    if len(found) > _MAX_TEMPLATES:
        raise ValueError(f"{where}: there are {len(found)} of them; the limit is {_MAX_TEMPLATES}. Remove some.")
    for template in found.values():
        try:
            if not isinstance(template, str):
                raise TemplateSyntaxError(f"it is a {type(template).__name__}, not text", 1)
            _limited.add(template)
            compiled = _compile(template)
        except TEMPLATE_ERRORS as error:
            raise ValueError(f"{where} cannot be used: {error}. Correct or remove it.") from error
        try:
            compiled.render(
                messages=[{"role": "user", "content": "x"}], tools=None, documents=None, add_generation_prompt=True
            )
        except TemplateLimit as error:
            raise ValueError(f"{where} cannot be used: {error}. Correct or remove it.") from error
        except TEMPLATE_ERRORS:  # it may need more than one message; that is for those who use it
            continue
