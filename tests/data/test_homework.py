# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The embedded task: exact scores, honest noise, disjoint splits, a tokenizer that gives text back."""

import hashlib
import json
import re

import pytest
import torch

from real_trl.data.arguments import DataArguments
from real_trl.data.homework import (
    MARKER,
    MAX_COMPLETION_TOKENS,
    MAX_PROMPT_TOKENS,
    SCORE_LABELS,
    build_model,
    build_tokenizer,
    make_dataset,
)
from real_trl.data.homework_sheets import SPLITS, TEST_SPLITS, Line, exact_score, verdict
from real_trl.data.loading import load_judge_dataset
from real_trl.score_space import ScoreSpace

SIZE = 200  # rows of a split in these tests
FEEDBACK_COLLECTION_COLUMNS = {
    "orig_instruction",
    "orig_response",
    "orig_criteria",
    "orig_reference_answer",
    "orig_feedback",
    "orig_score",
}


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="module")
def splits():
    return {split: make_dataset(split, SIZE) for split in SPLITS}


def completions(dataset):
    return [f"{row['feedback']} {MARKER}{row['score']:.0f}" for row in dataset]


def lines_of(response):
    lines = []
    for text in response.split("\n"):
        a, op, b, claim = re.fullmatch(r"\d\) (\d)([+-])(\d) = (-?\d+)", text).groups()
        lines.append(Line(int(a), op, int(b), int(claim)))
    return lines


@pytest.mark.parametrize(
    ("result", "claim", "expected"),
    [(-2, -2, "right"), (-2, -1, "close"), (-2, -3, "close"), (-2, 2, "wrong"), (7, 10, "wrong"), (0, -1, "close")],
)
def test_verdict(result, claim, expected):
    assert verdict(result, claim) == expected


def test_exact_score_by_hand():
    # 3+4 = 8 is close (one or one half), 2-5 = 3 is wrong (one), 4-4 = 0 is right.
    lines = [Line(3, "+", 4, 8), Line(2, "-", 5, 3), Line(4, "-", 4, 0)]
    assert exact_score(lines, "strict") == 3.0
    assert exact_score(lines, "lenient") == 3.5
    assert exact_score([Line(1, "+", 1, 5)] * 4, "strict") == 1.0


def test_the_floor_of_the_scale_is_one():
    assert exact_score([Line(1, "+", 1, 5)] * 6, "lenient") == 1.0


@pytest.mark.parametrize("split", SPLITS)
def test_columns_and_scores_follow_from_the_sheet(splits, split):
    dataset = splits[split]
    assert FEEDBACK_COLLECTION_COLUMNS | {"prompt", "score", "feedback"} <= set(dataset.column_names)
    for row in dataset:
        assert row["exact_score"] == exact_score(lines_of(row["orig_response"]), row["rubric"])
        assert row["prompt"].startswith(f"{row['orig_instruction']}\n{row['orig_criteria']}\n{row['orig_response']}\n")
        assert (row["score"], row["feedback"]) == (row["orig_score"], row["orig_feedback"])
        assert f"{row['score']:.0f}" in SCORE_LABELS
        if split in TEST_SPLITS:
            assert row["score"] == row["exact_score"]
        else:
            assert row["score"].is_integer()


def test_test_rationales_are_right_and_training_ones_drop_minus_signs(splits):
    def dropped(dataset):
        """Share of the negative results whose sign the rationale drops; every other number in it must be right."""
        negative = []
        for row in dataset:
            checks = re.findall(r"\d\) (\d)([+-])(\d) is (-?\d+), (-?\d+) is (\w+)\.", row["feedback"])
            lines = lines_of(row["orig_response"])
            assert len(checks) == len(lines)
            for line, (a, op, b, said, claim, word) in zip(lines, checks, strict=True):
                assert (line.expression, line.claim) == (f"{a}{op}{b}", int(claim))
                assert word == verdict(int(said), int(claim))
                if line.result < 0:
                    negative.append(int(said) == -line.result)
                if int(said) != line.result:
                    assert int(said) == -line.result > 0
        return sum(negative) / len(negative)

    assert dropped(splits["id"]) == 0
    assert dropped(splits["ood"]) == 0
    assert dropped(splits["sft"]) == pytest.approx(0.65, abs=0.1)
    assert dropped(make_dataset("sft", 50, teacher_flaw=0.0)) == 0
    assert dropped(make_dataset("sft", 50, teacher_flaw=1.0)) == 1


def test_rater_noise():
    # Without noise only the rounding of halves is left; with it, about one label in five moves (fewer at the ends).
    quiet = make_dataset("rl", 500, rater_noise=0.0)
    assert all(abs(row["score"] - row["exact_score"]) <= 0.5 for row in quiet)
    assert {0.0, 0.5} == {abs(row["score"] - row["exact_score"]) for row in quiet}
    noisy = make_dataset("rl", 500, rater_noise=0.2)
    moved = sum(abs(row["score"] - row["exact_score"]) >= 0.75 for row in noisy) / 500
    assert 0.08 < moved < 0.25
    bias = sum(row["score"] - row["exact_score"] for row in noisy if 2 <= row["exact_score"] <= 4) / 500
    assert abs(bias) < 0.06


def test_the_seed_decides_and_a_longer_dataset_begins_with_the_shorter():
    assert make_dataset("sft", 30, seed=3).to_dict() == make_dataset("sft", 30, seed=3).to_dict()
    assert make_dataset("sft", 30, seed=3)["prompt"][:] != make_dataset("sft", 30, seed=4)["prompt"][:]
    assert make_dataset("sft", 60, seed=3)["prompt"][:30] == make_dataset("sft", 30, seed=3)["prompt"][:]


def test_splits_share_no_prompt_whatever_the_seed(splits):
    seen = {}
    for split in SPLITS:
        for dataset in (splits[split], make_dataset(split, SIZE, seed=1)):
            for prompt in dataset["prompt"]:
                assert seen.setdefault(prompt, split) == split
        assert len(set(splits[split]["prompt"])) == SIZE


def test_out_of_domain_sheets_are_combinations_that_training_never_shows(splits):
    def combinations(*names):
        return {(row["rubric"], row["operation"]) for name in names for row in splits[name]}

    assert combinations("base", "sft", "rl") == combinations("id")
    assert not combinations("id") & combinations("ood")


def test_tokenizer_gives_the_text_back(tokenizer, splits):
    for dataset in splits.values():
        for text in [*dataset["prompt"], *completions(dataset)]:
            ids = tokenizer(text)["input_ids"]
            assert tokenizer.unk_token_id not in ids
            assert tokenizer.decode(ids) == text


def test_tokenizer_keeps_prompt_and_completion_apart(tokenizer, splits):
    row = splits["sft"][0]
    completion = " " + completions(splits["sft"])[0]
    both = tokenizer(row["prompt"] + completion)["input_ids"]
    assert both == tokenizer(row["prompt"])["input_ids"] + tokenizer(completion)["input_ids"]


def test_lengths_fit_the_documented_limits(tokenizer, splits):
    # One more token for the end of the sequence.
    assert (
        max(len(ids) for d in splits.values() for ids in tokenizer(list(d["prompt"]))["input_ids"])
        <= MAX_PROMPT_TOKENS
    )
    longest = max(len(ids) for d in splits.values() for ids in tokenizer(completions(d))["input_ids"])
    assert longest + 1 == MAX_COMPLETION_TOKENS


def test_each_score_is_one_token_right_after_the_marker(tokenizer):
    marker = tokenizer(MARKER)["input_ids"]
    ids = [tokenizer(MARKER + label)["input_ids"] for label in SCORE_LABELS]
    assert all(one[:-1] == marker for one in ids)
    assert len({one[-1] for one in ids} - {tokenizer.unk_token_id}) == len(SCORE_LABELS)
    assert tokenizer.chat_template is None


def test_tokenizer_survives_saving(tokenizer, splits, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    again = type(tokenizer).from_pretrained(tmp_path)
    text = completions(splits["sft"])[0]
    assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert again.decode(again(text)["input_ids"]) == text
    assert (again.pad_token, again.eos_token, again.padding_side) == ("<pad>", "<eos>", "left")


def test_model_is_tiny_float32_and_seeded(tokenizer):
    first, same, other = build_model(seed=1), build_model(seed=1), build_model(seed=2)
    assert 200_000 < sum(p.numel() for p in first.parameters()) < 500_000
    assert {p.dtype for p in first.parameters()} == {torch.float32}
    assert first.config.vocab_size == len(tokenizer)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), same.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_building_a_model_leaves_the_random_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build_model(seed=9)
    assert torch.equal(torch.rand(3), expected)


def test_model_learns(tokenizer):
    """A few steps on one batch lower the loss well below the uniform distribution's."""
    dataset = make_dataset("base", 8)
    texts = [f"{p} {c}" for p, c in zip(dataset["prompt"], completions(dataset), strict=True)]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    model = build_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        loss = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "train", "size": 5}, "split='train'.*base, sft, rl, id, ood"),
        ({"split": "sft", "size": 0}, "size=0"),
        ({"split": "sft", "size": 5, "rater_noise": 1.5}, "rater_noise=1.5"),
        ({"split": "sft", "size": 5, "teacher_flaw": -0.1}, "teacher_flaw=-0.1"),
        ({"split": "sft", "size": 5, "score_range": "1-100"}, "score_range='1-100' is unknown; use one of 1-5, 0-100"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_dataset(**arguments)


# --- the same sheets on 0-100


@pytest.fixture(scope="module")
def wide_tokenizer():
    return build_tokenizer("0-100")


@pytest.fixture(scope="module")
def wide_splits():
    return {split: make_dataset(split, SIZE, score_range="0-100") for split in SPLITS}


def test_rows_are_those_that_the_published_figures_were_made_with(splits):
    """Changing them makes the figures of RESULTS.md void."""
    text = json.dumps({split: dataset.to_dict() for split, dataset in splits.items()})
    assert (
        hashlib.sha256(text.encode()).hexdigest() == "61c9df62fca5508039089f3164374befb6186da514ed6ee9f2bf5f07cc5afdf7"
    )


def test_wide_scale_has_the_same_sheets_and_rationales(splits, wide_splits):
    instruction, wide_instruction = "Grade this homework from 1 to 5.", "Grade this homework from 0 to 100."
    for split in SPLITS:
        for row, wide in zip(splits[split], wide_splits[split], strict=True):
            assert wide["prompt"] == row["prompt"].replace(instruction, wide_instruction) != row["prompt"]
            assert wide["orig_instruction"] == wide_instruction
            assert wide["exact_score"] == 25 * (row["exact_score"] - 1)
            assert wide["score"] == wide["orig_score"]
            same = ("feedback", "orig_response", "orig_criteria", "orig_reference_answer", "rubric", "operation")
            assert all(wide[column] == row[column] for column in same)


def test_wide_scores_are_exact_in_tests_and_whole_in_training(wide_splits):
    for split, dataset in wide_splits.items():
        for row in dataset:
            if split in TEST_SPLITS:
                assert row["score"] == row["exact_score"]
            else:
                assert row["score"].is_integer() and 0 <= row["score"] <= 100
    quiet = make_dataset("rl", 300, rater_noise=0.0, score_range="0-100")
    assert {abs(row["score"] - row["exact_score"]) for row in quiet} == {0.0, 0.5}
    noisy = make_dataset("rl", 300, rater_noise=1.0, score_range="0-100")
    inside = [row for row in noisy if 25 < row["exact_score"] < 75]
    assert {abs(row["score"] - row["exact_score"]) for row in inside} <= {24.5, 25.0, 25.5} and len(inside) > 30
    assert min(noisy["score"]) == 0.0 and max(noisy["score"]) == 100.0


def test_wide_tokenizer_writes_the_score_digit_by_digit(tokenizer, wide_tokenizer):
    """The rest, numbers before the score included, is read as on 1-5."""
    for number in range(101):
        text = f"1) 5+5 is 10, 13 is wrong. {MARKER}{number}"
        ids = wide_tokenizer(text)["input_ids"]
        assert wide_tokenizer.decode(ids) == text
        tokens = wide_tokenizer.convert_ids_to_tokens(ids)
        before = tokenizer.tokenize(f"1) 5+5 is 10, 13 is wrong. {MARKER}")
        assert tokens == [*before, *str(number)]
    assert tokenizer.tokenize(f"{MARKER}12")[-1] == "12"
    assert wide_tokenizer.tokenize("score is 12")[-1] == "12"  # not the marker
    assert set(wide_tokenizer.get_vocab()) - set(tokenizer.get_vocab()) == {"100"}
    assert set(tokenizer.get_vocab()) <= set(wide_tokenizer.get_vocab())


def test_wide_tokenizer_gives_the_text_back_and_survives_saving(wide_tokenizer, wide_splits, tmp_path):
    wide_tokenizer.save_pretrained(tmp_path)
    again = type(wide_tokenizer).from_pretrained(tmp_path)
    longest = 0
    for split in SPLITS:
        dataset = wide_splits[split]
        for text in [*dataset["prompt"], *completions(dataset)]:
            ids = wide_tokenizer(text)["input_ids"]
            assert wide_tokenizer.unk_token_id not in ids
            assert wide_tokenizer.decode(ids) == again.decode(ids) == text
            assert again(text)["input_ids"] == ids
        assert max(map(len, wide_tokenizer(list(dataset["prompt"]))["input_ids"])) <= MAX_PROMPT_TOKENS
        longest = max(longest, *map(len, wide_tokenizer(completions(dataset))["input_ids"]))
    assert longest + 1 <= MAX_COMPLETION_TOKENS + 2


def test_wide_labels_are_resolved_and_found(wide_tokenizer, wide_splits):
    space = ScoreSpace.from_labels("0-100", wide_tokenizer, marker=MARKER)
    digits = {digit: wide_tokenizer.convert_tokens_to_ids(digit) for digit in "0123456789"}
    assert space.token_ids == tuple(tuple(digits[digit] for digit in label) for label in space.labels)
    for row, text in zip(wide_splits["rl"], completions(wide_splits["rl"]), strict=True):
        ids = wide_tokenizer(text)["input_ids"]
        location = space.locate([*ids, wide_tokenizer.eos_token_id])
        assert location.ok and space.values[location.label_index] == row["score"]
        assert ids[location.position :] == list(space.token_ids[location.label_index])
    for answer in ("1000", "101", "007", "-3", "right"):
        assert space.locate(wide_tokenizer(f"{MARKER}{answer}")["input_ids"]).status == "outside", answer


def test_wide_model_and_data_arguments():
    model = build_model(seed=1, score_range="0-100")
    assert model.config.vocab_size == len(build_tokenizer("0-100"))
    space = ScoreSpace.from_labels("0-100", build_tokenizer("0-100"), marker=MARKER)
    args = DataArguments("synthetic", dataset_options={"size": 50, "score_range": "0-100"})
    dataset = load_judge_dataset(args, "sft", scale=space.scale, marker=MARKER, require_feedback=True)
    assert dataset["score"][:] == make_dataset("sft", 50, score_range="0-100")["score"][:]
    with pytest.raises(ValueError, match="score_range='0-10' is unknown"):
        build_tokenizer("0-10")
