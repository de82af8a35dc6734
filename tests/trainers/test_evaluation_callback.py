# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Judging held-out data while a judge is trained."""

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import set_seed

from real_trl import Judge, REALConfig, REALTrainer
from real_trl.evaluation.metrics import evaluate_predictions
from real_trl.trainers.checkpoints import find_fault
from real_trl.trainers.evaluation_callback import JudgeEvaluationCallback
from tests.text.test_json_text import strict
from tests.tiny import LINES, PROMPT, TOKENIZER, lora_config, prompt_dataset, warm_model

TRAIN = prompt_dataset([1.0, 3.0, 5.0])


def held_out(rows=6):
    prompts = ["\n".join([PROMPT, *LINES[: 1 + row % 3]]) for row in range(rows)]
    return Dataset.from_dict({"prompt": prompts, "score": [1.0 + row % 5 for row in range(rows)]})


def make_trainer(tmp_path, steps=None, options=None, **kwargs):
    given = {"save_strategy": "no", "bf16": False, **(options or {})}
    args = REALConfig(
        str(tmp_path),
        num_generations=3,
        per_device_train_batch_size=3,
        max_completion_length=20,
        max_steps=3,
        learning_rate=1e-2,
        logging_steps=1,
        report_to="none",
        use_cpu=True,
        seed=7,
        **given,
    )
    set_seed(7)
    trainer = REALTrainer(model=warm_model(), args=args, train_dataset=TRAIN, processing_class=TOKENIZER, **kwargs)
    if steps:
        callback = JudgeEvaluationCallback(trainer, {"ood": held_out()}, steps, max_new_tokens=20, seed=3)
        trainer.add_callback(callback)
    return trainer


def logged(trainer, key="judge_eval/ood/rail/rmse"):
    return {entry["step"]: entry[key] for entry in trainer.state.log_history if key in entry}


def test_it_logs_what_an_evaluation_of_the_saved_judge_gives(tmp_path):
    trainer = make_trainer(tmp_path, steps=2)
    trainer.train()
    assert sorted(logged(trainer)) == [0, 2, 3] and logged(trainer)[0] != logged(trainer)[2]
    last = JudgeEvaluationCallback(trainer, {"ood": held_out()}, 1, max_new_tokens=20, seed=3).evaluate()
    trainer.save_model()

    judge = Judge.from_pretrained(tmp_path, max_new_tokens=20)
    rows = held_out()
    torch.manual_seed(3)
    judgments = dict(judge.engine.judge(rows["prompt"][:]))
    columns = {"target": rows["score"][:]}
    for name in ("status", "sampled_score", "expected_score"):
        columns[name] = [getattr(judgments[i], name) for i in range(len(rows))]
    expected = evaluate_predictions(columns)
    for inference in ("standard", "rail"):
        for metric in ("pearson", "spearman", "kendall", "rmse"):
            key = f"judge_eval/ood/{inference}/{metric}"
            if expected[inference][metric] == expected[inference][metric]:
                assert last[key] == pytest.approx(expected[inference][metric], abs=1e-5)
            else:
                assert key not in last
    lengths = [judgment.num_tokens for judgment in judgments.values()]
    assert last["judge_eval/ood/mean_tokens"] == pytest.approx(sum(lengths) / len(lengths))


def test_it_says_what_always_the_mean_reaches_and_when_figures_are_worth_nothing(tmp_path, caplog):
    trainer = make_trainer(tmp_path, steps=2)  # of a judge that draws its scores at random
    with caplog.at_level("WARNING"):
        trainer.train()
    # Labels are 1, 2, 3, 4, 5, 1: around their mean, 16/6, squares of 25/9, 4/9, 1/9, 16/9, 49/9 and 25/9
    constant = logged(trainer, "judge_eval/ood/rmse_of_the_mean")
    assert list(constant.values()) == pytest.approx([(120 / 9 / 6) ** 0.5] * 3)
    assert all(0 < mass <= 1.001 for mass in logged(trainer, "judge_eval/ood/mean_mass").values())
    said = [record.getMessage() for record in caplog.records if record.getMessage().startswith("judge_eval: ")]
    assert said and all("ood: the judge" in text for text in said)


def test_entropy_is_that_of_the_tokens_distributions(tmp_path):
    trainer = make_trainer(tmp_path, steps=1)
    entropy = trainer.callback_handler.callbacks[-1].evaluate()["judge_eval/ood/entropy"]
    judge = Judge.from_pretrained(save(trainer, tmp_path), max_new_tokens=20, batch_size=1)
    torch.manual_seed(3)
    model, per_row = judge.engine.model, []
    for row, judgment in judge.engine.judge(held_out()["prompt"][:]):
        prompt = TOKENIZER(held_out()["prompt"][row])["input_ids"]
        completion = TOKENIZER(judgment.completion)["input_ids"][: judgment.num_tokens]
        with torch.no_grad():
            logits = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 :][: judgment.num_tokens]
        per_row.append(torch.distributions.Categorical(logits=logits).entropy().mean().item())
    # The samples differ, since batches of one draw other numbers; the distributions are those of the same judge
    assert entropy == pytest.approx(sum(per_row) / len(per_row), rel=0.15)


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bf16"])
def test_it_judges_in_the_precision_of_the_training(tmp_path, bf16, lora):
    """Also where accelerate has not put autocast into the model's forward: before the first step, and around adapters."""
    trainer = make_trainer(tmp_path, steps=3, options={"bf16": bf16}, peft_config=lora_config() if lora else None)
    types = {}
    for name, module in trainer.model.named_modules():
        if name.endswith("down_proj") or module is trainer.model.get_output_embeddings():
            kind = "head" if "lm_head" in name else "body"
            module.register_forward_hook(lambda m, args, out, kind=kind: types.setdefault(kind, set()).add(out.dtype))
    callback = trainer.callback_handler.callbacks[-1]
    alone = callback.evaluate()
    expected = {"body": {torch.bfloat16 if bf16 else torch.float32}, "head": {torch.float32}}
    assert types == expected
    types.clear()
    trainer.accelerator.prepare(trainer.model)
    assert callback.evaluate() == alone and types == expected


def test_a_model_whose_logits_are_no_numbers_has_no_figures(tmp_path):
    trainer = make_trainer(tmp_path, steps=1)
    trainer.model.get_output_embeddings().weight.data.fill_(float("nan"))
    logs = trainer.callback_handler.callbacks[-1].evaluate()
    assert logs["judge_eval/ood/unscored_rate"] == 1
    assert not any(key.split("/")[-1] in ("rmse", "pearson", "malformed_rate", "entropy") for key in logs)


def test_the_log_that_is_saved_is_json(tmp_path):
    trainer = make_trainer(tmp_path)
    trainer.state.log_history = [{"grad_norm": float("nan"), "loss": 0.5, "step": 1}, {"note": "NaN"}]
    trainer.save_state()
    saved = strict((tmp_path / "trainer_state.json").read_text())
    assert saved["log_history"] == [{"grad_norm": None, "loss": 0.5, "step": 1}, {"note": "NaN"}]
    trainer.create_optimizer_and_scheduler(num_training_steps=3)
    trainer._save_checkpoint(trainer.model, trial=None)
    checkpoint = tmp_path / "checkpoint-0"
    assert strict((checkpoint / "trainer_state.json").read_text())["log_history"][0]["grad_norm"] is None
    assert find_fault(checkpoint) is None  # the manifest is of the file as it is now


def save(trainer, folder):
    trainer.save_model(str(folder))
    return folder


def test_training_is_not_disturbed(tmp_path):
    plain, watched = make_trainer(tmp_path / "a"), make_trainer(tmp_path / "b", steps=1)
    for trainer in (plain, watched):
        set_seed(7)
        trainer.train()
    assert len(logged(watched)) == 4 and not logged(plain)
    for (name, one), other in zip(plain.model.named_parameters(), watched.model.parameters(), strict=True):
        assert torch.equal(one, other), name
    assert [e["loss"] for e in plain.state.log_history if "loss" in e] == [
        e["loss"] for e in watched.state.log_history if "loss" in e
    ]
    rewards = [[e["reward"] for e in t.state.log_history if "reward" in e] for t in (plain, watched)]
    assert rewards[0] == rewards[1] and len(rewards[0]) == 3


def test_a_lora_judge_is_evaluated_with_its_adapter(tmp_path):
    trainer = make_trainer(tmp_path, steps=3, peft_config=lora_config())
    trainer.train()
    values = logged(trainer)
    assert sorted(values) == [0, 3] and values[0] != values[3]


def test_impossible_settings_are_refused(tmp_path):
    trainer = make_trainer(tmp_path)
    with pytest.raises(ValueError, match="judge_eval_steps: got 0"):
        JudgeEvaluationCallback(trainer, {"ood": held_out()}, 0)
    with pytest.raises(ValueError, match="no dataset to evaluate on"):
        JudgeEvaluationCallback(trainer, {}, 1)
    with pytest.raises(ValueError, match="'ood' has no rows"):
        JudgeEvaluationCallback(trainer, {"ood": held_out().select([])}, 1)
    with pytest.raises(ValueError, match="judge_eval: dataset 'ood': prompt 0 .* too many"):
        JudgeEvaluationCallback(trainer, {"ood": held_out()}, 1, max_new_tokens=245)


BEST = {"metric_for_best_model": "judge_eval/ood/rail/rmse", "load_best_model_at_end": True}


@pytest.mark.parametrize("saving", [{"save_strategy": "best"}, {"save_strategy": "steps", "save_steps": 1}])
def test_the_best_model_is_that_of_a_held_out_figure(tmp_path, saving):
    trainer = make_trainer(tmp_path, steps=1, options={**BEST, **saving})
    assert trainer.args.greater_is_better is False
    trainer.train()
    figures = {step: value for step, value in logged(trainer).items() if step > 0}
    assert sorted(figures) == [1, 2, 3] and len(set(figures.values())) == 3
    best = min(figures, key=figures.get)
    assert trainer.state.best_metric == figures[best]
    assert trainer.state.best_model_checkpoint == str(tmp_path / f"checkpoint-{best}")
    saved = load_file(tmp_path / f"checkpoint-{best}" / "model.safetensors")
    now = trainer.model.state_dict()  # it was loaded
    assert all(torch.equal(now[name], value) for name, value in saved.items())


def test_of_correlations_the_largest_is_best(tmp_path):
    options = {"metric_for_best_model": "judge_eval/ood/rail/pearson", "save_strategy": "best"}
    trainer = make_trainer(tmp_path, options=options)
    assert trainer.args.greater_is_better is True and not trainer.args.load_best_model_at_end
    callback = JudgeEvaluationCallback(trainer, {"ood": held_out()}, 2, max_new_tokens=20)
    with pytest.raises(ValueError, match="metric_for_best_model: got .*judge_eval/id/rail/rmse"):
        JudgeEvaluationCallback(trainer, {"id": held_out()}, 2, max_new_tokens=20)
    for saving, message in (
        ({"save_strategy": "no"}, "save_strategy: got no"),
        ({"save_strategy": "steps", "save_steps": 3}, "save_steps: got 3"),
    ):
        vars(trainer.args).update(saving)
        with pytest.raises(ValueError, match=message):
            JudgeEvaluationCallback(trainer, callback.datasets, 2, max_new_tokens=20)
