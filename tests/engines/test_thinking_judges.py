# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A judge that thinks, from sampling on: in every engine and in training, what it thinks is no verdict."""

import json
from dataclasses import asdict

import pytest
import torch
from datasets import Dataset

from real_trl import Judge, JudgeConfig, RAFTConfig, RAFTTrainer, REALConfig, REALTrainer
from real_trl.engines import Decoding, ServerEngine, TransformersEngine
from real_trl.engines.averaging import average_judgments
from real_trl.judge_source import find_judge
from real_trl.report.rows import _judgment
from real_trl.runs.rationales import Rationales, find_rationale
from real_trl.score_space import ScoreSpace
from real_trl.scripts import self_generate
from real_trl.trainers.evaluation_callback import JudgeEvaluationCallback
from real_trl.trainers.rollout import make_rollout
from real_trl.trainers.row_checks import has_marker
from real_trl.trainers.starting_judge import check_start
from tests.engines.thinking_judges import MARKER, PROMPTS, THINKER, THOUGHT, opening_tokenizer, thinking_model
from tests.helpers.tiny_server import MODEL_NAME, TinyServer, serve
from tests.tiny import TOKENIZER, encode, prompt_dataset

SPACE = ScoreSpace.from_labels("1-5", THINKER)
TAGS = SPACE.thinking.tags
EOS, PAD = THINKER.eos_token_id, THINKER.pad_token_id
IN_THOUGHT = len(encode(f"<think> {THOUGHT}", eos=False, tokenizer=THINKER))  # tokens; the next one closes the block
CLOSING = f"\n</think>\n\n{MARKER}"


def ids_of(text, eos=False):
    return encode(text, eos=eos, tokenizer=THINKER)


def in_order(pairs):
    return [judgment for _, judgment in sorted(pairs, key=lambda pair: pair[0])]


def engine(opened=False, **decoding):
    tokenizer = opening_tokenizer() if opened else THINKER
    decoding = Decoding(**{"max_new_tokens": 48, "do_sample": False, "chat": opened, **decoding})
    return TransformersEngine(thinking_model(opened), tokenizer, SPACE, decoding)


def dense(model, ids):
    """The labels' probabilities after `ids`, by one plain forward."""
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, -1]
    return logits.softmax(-1)[[path[0] for path in SPACE.token_ids]].tolist()


# --- engines -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opened", [False, True], ids=["opened by the judge", "opened by the prompt"])
def test_the_verdict_is_the_one_behind_the_thinking(opened):
    judging = engine(opened)
    for prompt, judgment in zip(PROMPTS, in_order(judging.judge(PROMPTS)), strict=True):
        assert judgment.status == "ok"
        assert judgment.thinking == THOUGHT and judgment.rationale == "right."
        cot, _, score = judgment.completion.rpartition(" ")
        assert judgment.sampled_score == float(score)
        assert judgment.completion.startswith("<think>") is not opened
        expected = dense(judging.model, judging.encode([prompt])[0] + ids_of(cot))
        assert list(judgment.probabilities.values()) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("opened", [False, True], ids=["opened by the judge", "opened by the prompt"])
def test_cut_in_its_thinking_a_judge_has_not_answered(opened):
    """Though the thinking ends with the marker and a label. Forced, it reads what an answer would begin with."""
    cut = IN_THOUGHT - opened  # the opening tag is the prompt's
    judging = engine(opened, max_new_tokens=cut)
    for prompt, judgment in zip(PROMPTS, in_order(judging.judge(PROMPTS)), strict=True):
        assert judgment.completion.endswith(f"{MARKER} 5") and judgment.num_tokens == cut
        assert judgment.status == "unclosed" and judgment.thinking == THOUGHT and judgment.rationale == ""
        written = judging.encode([prompt])[0] + ids_of(f"{'' if opened else '<think> '}{THOUGHT}{CLOSING}")
        expected = dense(judging.model, written)
        assert list(judgment.probabilities.values()) == pytest.approx(expected, abs=1e-5)
        assert judgment.expected_score == pytest.approx(sum(k * p for k, p in enumerate(expected, 1)), abs=1e-5)
    for judgment in in_order(engine(opened, max_new_tokens=cut, malformed="drop").judge(PROMPTS)):
        assert judgment.status == "unclosed"
        assert judgment.sampled_score is judgment.expected_score is judgment.probabilities is None


@pytest.mark.parametrize("opened", [False, True], ids=["opened by the judge", "opened by the prompt"])
@pytest.mark.parametrize("length", [48, IN_THOUGHT - 1, 8])
def test_a_server_that_takes_tokens_judges_alike(opened, length):
    local = engine(opened, max_new_tokens=length)
    with serve(TinyServer(local.model, THINKER, extensions=True)) as url:
        remote = ServerEngine(url, MODEL_NAME, local.tokenizer, SPACE, local.decoding)
        judged = in_order(remote.judge(PROMPTS))
    for judgment, expected in zip(judged, in_order(local.judge(PROMPTS)), strict=True):
        for name in ("completion", "thinking", "rationale", "status", "sampled_score"):
            assert getattr(judgment, name) == getattr(expected, name), name
        assert judgment.probabilities == pytest.approx(expected.probabilities, abs=1e-6)
    assert {judgment.status for judgment in judged} == {"ok" if length == 48 else "unclosed"}


def test_there_is_room_for_what_is_forced():
    judging = engine()
    context = judging.encode.context_length
    longest = " ".join(["right"] * (context - 48 - SPACE.most_forced - 1))
    judging.check([longest])
    with pytest.raises(ValueError, match="1 too many"):
        judging.check([f"{longest} right"])
    assert SPACE.most_forced == len(ids_of(CLOSING))


def test_an_average_has_the_thinking_of_its_text():
    samples = in_order(engine(do_sample=True).judge(PROMPTS[:1] * 4, seed=1))
    assert average_judgments(samples, SPACE.values).thinking in {sample.thinking for sample in samples} - {""}


# --- training ------------------------------------------------------------------------------------------------------------


def rollout(text, prompt="right", **options):
    options = {"score_in_policy": False, "force": False, "stop_ids": [EOS, PAD], **options}
    return make_rollout(SPACE, "", "", ids_of(prompt), ids_of(text, eos=True), 3.0, **options)


@pytest.mark.parametrize("opened", [False, True])
def test_the_policy_gradient_runs_over_the_thinking(opened):
    cot = f"{'' if opened else '<think> '}{THOUGHT}\n</think>\n\nright. {MARKER}"
    row = rollout(f"{cot} 4", prompt="right\n<think>\n" if opened else "right")
    assert (row.status, row.has_score, row.sampled_score) == ("ok", True, 4.0)
    assert row.score_position == sum(row.policy_mask) == len(ids_of(cot))


@pytest.mark.parametrize("opened", [False, True])
def test_an_unclosed_block_in_a_rollout(opened):
    text, prompt = ("", "right\n<think>\n") if opened else ("<think> ", "right")
    text += THOUGHT
    row = rollout(text, prompt)
    assert (row.status, row.has_score, row.is_right) == ("unclosed", False, False)
    assert row.sampled_score != row.sampled_score and row.policy_mask == [1] * len(ids_of(text, eos=True))
    forced = rollout(text, prompt, force=True)
    assert forced.status == "unclosed" and forced.has_score and not forced.is_right
    assert forced.completion_ids == ids_of(text + CLOSING)
    sampled = len(ids_of(text))
    assert forced.policy_mask == [1] * sampled + [0] * len(ids_of(CLOSING))
    assert forced.score_position == len(forced.completion_ids)


@pytest.mark.parametrize("length", [48, 8])
@pytest.mark.parametrize("malformed", ["penalize", "force"])
def test_a_thinking_judge_is_trained(tmp_path, length, malformed):
    trainer = REALTrainer(
        thinking_model(),
        REALConfig(
            str(tmp_path),
            num_generations=4,
            per_device_train_batch_size=12,
            max_completion_length=length,
            max_steps=1,
            malformed=malformed,
            logging_steps=1,
            preflight_scored_rate=0.0,
            report_to="none",
            save_strategy="no",
        ),
        prompt_dataset([1.0, 3.0, 5.0]),
        processing_class=THINKER,
    )
    trainer.train()
    log = trainer.state.log_history[0]
    rollouts = trainer._buffered_inputs[0]["rollouts"]
    unclosed = [
        THINKER.convert_tokens_to_ids("</think>") not in row.completion_ids[: sum(row.policy_mask)] for row in rollouts
    ]
    assert [row.status == "unclosed" for row in rollouts] == unclosed
    assert log["malformed/unclosed"] == pytest.approx(sum(unclosed) / 12) and all(unclosed) is (length == 8)
    statuses = ("missing", "truncated", "outside", "unclosed")
    assert log["malformed/rate"] == pytest.approx(sum(log[f"malformed/{name}"] for name in statuses))
    assert ("score/abs_error" in log) is (malformed == "force" or length == 48)
    assert trainer.judge_config.thinking == ["<think>", "</think>"]


def raft(tmp_path, *completions):
    rows = [{"prompt": "right", "completion": f" {text}", "score": 4.0} for text in completions]
    config = RAFTConfig(str(tmp_path), max_steps=1, report_to="none", save_strategy="no")
    return RAFTTrainer(thinking_model(), config, Dataset.from_list(rows), processing_class=THINKER)


def test_raft_on_completions_that_think(tmp_path):
    cot = f"<think> {THOUGHT}\n</think>\n\nright. {MARKER}"
    trainer = raft(tmp_path, f"{cot} 4", f"right. {MARKER} 4")
    thinks, plain = trainer.train_dataset
    assert thinks["score_position"] == len(ids_of("right") + ids_of(cot)) and thinks["written_label"] == 3
    assert plain["score_position"] == len(ids_of("right") + ids_of(f"right. {MARKER}"))
    trainer.train()


def test_raft_refuses_a_completion_whose_thinking_does_not_end(tmp_path):
    with pytest.raises(
        ValueError, match="no score after the marker .* in 1 of 2 completions.*Its thinking does not end"
    ):
        raft(tmp_path, f"<think> {THOUGHT}", f"right. {MARKER} 4")


def test_a_row_whose_marker_is_only_thought_of_has_none():
    inside, behind = f"<think> {MARKER} 4 </think> right.", f"<think> right </think> {MARKER} 4"
    assert not has_marker({"completion": inside}, SPACE) and has_marker({"completion": behind}, SPACE)
    assert not has_marker({"completion": f"<think> {MARKER} 4"}, SPACE)
    assert has_marker({"completion": [{"role": "assistant", "content": behind}]}, SPACE)


@pytest.mark.parametrize(("length", "malformed"), [(IN_THOUGHT, 1.0), (48, 0.0)])
def test_held_out_rows_are_judged_by_the_verdict(tmp_path, length, malformed):
    trainer = raft(tmp_path, f"right. {MARKER} 4")
    held_out = {"held out": prompt_dataset([1.0, 3.0, 5.0] * 4)}
    logs = JudgeEvaluationCallback(trainer, held_out, 1, max_new_tokens=length, seed=1).evaluate()
    assert logs["judge_eval/held out/malformed_rate"] == pytest.approx(malformed, abs=0.4)
    assert (logs["judge_eval/held out/malformed_rate"] == 1) is (length == IN_THOUGHT)


def test_the_page_of_an_evaluation_shows_the_thinking_apart():
    (judgment,) = in_order(engine().judge(PROMPTS[:1]))
    shown = _judgment(asdict(judgment) | {"prompt": PROMPTS[0]}, {})
    assert shown["head"] + shown["rationale"] + shown["tail"] == judgment.completion
    assert shown["rationale"] == "right." and THOUGHT in shown["head"] and THOUGHT not in shown["tail"]


# --- what is saved -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("judge")
    thinking_model().save_pretrained(path)
    THINKER.save_pretrained(path)
    JudgeConfig.from_space(SPACE).save(path)
    return path


def test_the_tags_are_saved_with_the_judge(folder, tmp_path):
    assert json.loads((folder / "judge_config.json").read_text())["thinking"] == ["<think>", "</think>"]
    judge = Judge.from_pretrained(folder, max_new_tokens=48, do_sample=False)
    assert judge.score(prompt=PROMPTS[0]).thinking == THOUGHT
    with pytest.raises(ValueError, match=r"thinking: got \[\], but the judge .* was trained with \['<think>'"):
        find_judge(folder, thinking="none")
    assert find_judge(folder, thinking="<think> </think>").space.thinking.tags == TAGS


def test_judges_of_before_get_their_tokenizers_tags(folder, tmp_path):
    THINKER.save_pretrained(tmp_path)
    config = json.loads((folder / "judge_config.json").read_text())
    del config["thinking"]
    (tmp_path / "judge_config.json").write_text(json.dumps(config))
    found = find_judge(tmp_path)
    assert found.config.thinking == ["<think>", "</think>"] and found.space.thinking.tags == TAGS
    assert find_judge(tmp_path, thinking="none").config.thinking == []
    assert find_judge(tmp_path, thinking="none").space.locate(ids_of(f"<think> {MARKER} 5")).ok


def test_training_does_not_go_on_with_other_tags(folder, tmp_path):
    assert check_start(str(folder), None, SPACE, None) is False
    for other in ("none", "right wrong"):
        space = ScoreSpace.from_labels("1-5", THINKER, thinking=other)
        with pytest.raises(ValueError, match=r"thinking: got .*, but the judge .* was trained with \['<think>'"):
            check_start(str(folder), None, space, None)
    TOKENIZER.save_pretrained(tmp_path)
    JudgeConfig.from_space(SPACE).save(tmp_path)
    with pytest.raises(ValueError, match=r"thinking: got \[\], but"):  # of a tokenizer that has lost them
        check_start(str(tmp_path), None, ScoreSpace.from_labels("1-5", TOKENIZER), None)


# --- TRACT ---------------------------------------------------------------------------------------------------------------


def test_the_rationale_is_what_follows_the_thinking(folder, tmp_path):
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in prompt_dataset([4.0, 2.0, 1.0])))
    options = ["--model_name_or_path", folder, "--dataset_name", data, "--dataset_train_split", "train"]
    options += ["--output_dir", tmp_path / "made", "--do_sample", "false"]
    self_generate.main([*map(str, options), "--max_new_tokens", "48"])
    rows = [json.loads(line) for line in (tmp_path / "made" / "train.jsonl").read_text().splitlines()]
    assert [row["feedback"] for row in rows] == ["right."] * 3 and [row["score"] for row in rows] == [4.0, 2.0, 1.0]


@pytest.mark.parametrize("malformed", ["drop", "keep"])
def test_unclosed_thinking_gives_no_rationale(malformed):
    assert find_rationale(f"<think> {THOUGHT}", "unclosed", SPACE, malformed) is None
    whole = f"<think> {THOUGHT}\n</think>\n\nright."
    assert find_rationale(f"{whole} {MARKER} 4", "ok", SPACE, malformed) == "right."
    assert find_rationale(whole, "missing", SPACE, malformed) == (None if malformed == "drop" else "right.")
    generated = [
        {"row": 0, "sample": 0, "status": "unclosed", "sampled_score": None, "completion": f"<think> {THOUGHT}"},
        {"row": 1, "sample": 0, "status": "ok", "sampled_score": 4.0, "completion": f"{whole} {MARKER} 4"},
    ]
    rows, dropped, counts = Rationales(prompt_dataset([4.0, 2.0]), SPACE, malformed).make_rows(generated)
    assert [row["feedback"] for row in rows] == ["right."] and [row["reason"] for row in dropped] == ["unclosed"]
    assert counts["malformed"] == {"unclosed": 1} and counts["dropped"] == {"unclosed": 1}
