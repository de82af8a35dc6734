# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A page to try a judge on: the fields of its prompt, its rationale, its score, and the distribution as bars."""

import os

from starlette.middleware import Middleware

from real_trl.judge import Judge
from real_trl.serving.fields import check_size, prompt_fields
from real_trl.serving.guard import Guard
from real_trl.serving.judgment_html import STYLE, error_html, judgment_html
from real_trl.serving.page_requests import PageRequests

# Read when gradio is imported: no usage statistics, no look for newer versions
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
import gradio as gr  # noqa: E402

_SYSTEM_FONTS = ("system-ui", "sans-serif")
_LINES = {"instruction": 3, "response": 8, "rubric": 4, "reference": 4, "prompt": 16}


def build_page(judge: Judge, name: str) -> gr.Blocks:
    """
    The page.

    Args:
        judge ([`Judge`]):
            The judge. One question is judged at a time.
        name (`str`):
            What the page calls it.
    """
    fields = prompt_fields(judge.config)
    filled_in = {"rubric": next(iter(judge.criteria.values()), None)}

    def score(*texts: str) -> tuple[str, str]:
        row = {field: text for field, text in zip(fields, texts, strict=True) if text and text.strip()}
        try:
            check_size(judge, judge.prompts([row])[0])
            judgment = judge.score([row])[0]
        except (ValueError, OSError) as error:  # a server may be away, too busy, or refuse the key
            return error_html(str(error)), ""
        return judgment_html(judgment, judge.labels), judgment.rationale

    with gr.Blocks(title=f"{name}: try the judge", analytics_enabled=False) as page:
        gr.Markdown(f"# Try the judge `{name.replace('`', '')}`")
        with gr.Row():
            with gr.Column():
                inputs = [
                    gr.Textbox(
                        filled_in.get(field),
                        label=field.capitalize(),
                        lines=_LINES.get(field, 3),
                        max_lines=24,
                        elem_id=f"field-{field}",
                    )
                    for field in fields
                ]
                button = gr.Button("Score", variant="primary", elem_id="score")
            with gr.Column():
                result = gr.HTML('<div class="judgment">Fill in the fields and press Score.</div>', elem_id="result")
                rationale = gr.Textbox(
                    label="Rationale",
                    lines=6,
                    max_lines=24,
                    interactive=False,
                    elem_id="rationale",
                    visible=judge.config.rationale,
                )
        button.click(score, inputs, [result, rationale], concurrency_limit=1, api_name="score")
    return page


def launch(page: gr.Blocks, host: str, port: int) -> None:
    """Serve the page, without blocking: nothing is loaded from elsewhere, nothing is shared, and no files are taken."""
    limits = {"max_body_bytes": 2**20, "body_timeout": 30.0, "max_held_bytes": 2**26}
    page.launch(
        server_name=host,
        server_port=port,
        share=False,
        prevent_thread_lock=True,
        quiet=True,
        ssr_mode=False,
        footer_links=[],
        theme=gr.themes.Default(font=_SYSTEM_FONTS, font_mono=("ui-monospace", "monospace")),
        css=STYLE,
        max_file_size=1,
        app_kwargs={"middleware": [Middleware(Guard, key=None, **limits), Middleware(PageRequests)]},
    )
