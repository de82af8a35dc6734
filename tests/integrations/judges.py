# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A tiny judge in a folder, for the tests of what judges are plugged into."""

import random
from functools import cache
from pathlib import Path

import torch

from real_trl import Judge, JudgeConfig, Judgment, ScoreSpace
from real_trl.prompts.template import PromptTemplate
from tests.tiny import LINES, PROMPT, TOKENIZER, build_model, encode

SPACE = ScoreSpace.from_labels("1-5", TOKENIZER)
TEMPLATE = PromptTemplate("{{ instruction }}\n{{ rubric }}\n{{ response }}\nGrade this", "homework.jinja")
RUBRIC = "right close wrong"
# Ten rows for the tools that evaluate
INSTRUCTIONS = [f"{PROMPT} {LINES[i % 3]}" + " the" * i for i in range(10)]
RESPONSES = [" ".join(["right", "close", "wrong", "."][: 1 + i % 4] * (1 + i // 4)) for i in range(10)]
TOO_LONG = "right " * 400
SETTINGS = {"max_new_tokens": 24}


@cache
def _weights() -> dict[str, torch.Tensor]:
    """A model that writes a word and the score sentence after whatever it reads, mostly."""
    model, rng = build_model(initializer_range=0.02).train(), random.Random(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(200):
        rows = []
        for _ in range(16):
            words = rng.choices([*LINES, "right", "close", "wrong", ".", ","], k=rng.randint(1, 6))
            score = {"right": 5, "close": 3, "wrong": 1}.get(words[-1]) or rng.randint(1, 5)
            prompt = f"{PROMPT}\n{rng.choice(LINES)}\n{RUBRIC}\n{' '.join(words)}\nGrade this"
            completion = encode(f"{rng.choice(['right', 'wrong'])}. So the overall score is {score}")
            rows.append((TOKENIZER(prompt)["input_ids"], completion))
        length = max(len(prompt) + len(completion) for prompt, completion in rows)
        ids = torch.tensor([p + c + [TOKENIZER.pad_token_id] * (length - len(p) - len(c)) for p, c in rows])
        labels = torch.full_like(ids, -100)
        for row, (prompt, completion) in enumerate(rows):
            labels[row, len(prompt) : len(prompt) + len(completion)] = torch.tensor(completion)
        model(ids, attention_mask=(ids != TOKENIZER.pad_token_id).long(), labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.state_dict()


def save_judge(folder: Path, template: PromptTemplate | None = TEMPLATE) -> Path:
    """A judge that answers in the right form, most of the time."""
    model = build_model()
    model.load_state_dict(_weights())
    model.save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    config = JudgeConfig.from_space(SPACE)
    config.use_template(template)
    config.save(folder)
    return folder


def own_judgments(folder: Path) -> list[Judgment]:
    """What a judge in a folder says of the ten rows, without any tool. They are told apart by more than rounding."""
    judge = Judge.from_pretrained(folder, do_sample=False, **SETTINGS)
    judgments = judge.score(instruction=INSTRUCTIONS, response=RESPONSES, rubric=RUBRIC)
    assert len({round(judgment.expected_score, 3) for judgment in judgments}) > 5
    return judgments


class Watched(Judge):
    """Remembers how many prompts each call had."""

    sizes = ()

    def judge(self, prompts, **options):
        self.sizes += (len(prompts),)
        return super().judge(prompts, **options)
