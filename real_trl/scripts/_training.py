# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What the training stages do the same way: check the recipe against the judge they start from, load data and model, resume."""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState
from datasets import Dataset
from peft import AutoPeftModelForCausalLM, PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from trl import ModelConfig, get_peft_config, get_quantization_config

from real_trl.arguments.held_out import HeldOutArguments
from real_trl.arguments.open_options import OpenOptionError, naming_open_options
from real_trl.arguments.training import make_parser
from real_trl.data.arguments import DataArguments
from real_trl.data.loading import load_judge_dataset
from real_trl.judge_config import JUDGE_CONFIG_NAME, JudgeConfig, check_public
from real_trl.methods import METHODS
from real_trl.option_values import FieldError
from real_trl.prompts.format import PromptFormat
from real_trl.prompts.template import ASKS_FOR_RATIONALE, load_template
from real_trl.report import plot_training_curves
from real_trl.runs.command import user_errors
from real_trl.runs.disk import writing
from real_trl.runs.new_folder import replaced_files
from real_trl.runs.output_lock import only_writer
from real_trl.score_space import ScoreSpace
from real_trl.trainers import RAFTConfig, REALConfig
from real_trl.trainers.checkpoints import StopWithCheckpoint, without_nan
from real_trl.trainers.config_defaults import JUDGE_METRICS
from real_trl.trainers.context_check import check_held_out, config_of, held_out_tokens
from real_trl.trainers.evaluation_callback import JudgeEvaluationCallback
from real_trl.trainers.mixed_in import JudgeTrainer
from real_trl.trainers.recipe_check import check_recipe, checkpoint_to_resume, resolve_recipe
from real_trl.trainers.starting_judge import check_writes_rationales, stage_format
from real_trl.trainers.trackers import check_trackers
from real_trl.weights.files import check_weights
from real_trl.weights.merged import merge_whole
from real_trl.weights.pretrained import load_tokenizer, loading

logger = logging.getLogger(__name__)


@dataclass
class Stage:
    """
    A training stage whose recipe and data have been found good; no model is loaded yet.

    Attributes:
        data_args, training_args, model_args:
            The parsed recipe.
        space ([`ScoreSpace`]):
            Scale and marker, resolved against the tokenizer.
        prompt_format ([`PromptFormat`]):
            What stands around the prompts.
        recipe (`dict`):
            What the run is made of, for the manifests of its checkpoints.
        train_dataset, eval_dataset ([`~datasets.Dataset`]):
            In the canonical schema; `eval_dataset` is `None` without an `eval_strategy`.
        held_out (`dict[str, Dataset]`):
            Judged every `judge_eval_steps`, in the canonical schema.
        held_out_args ([`HeldOutArguments`]):
            When and how.
    """

    data_args: DataArguments
    training_args: Any
    model_args: ModelConfig
    tokenizer: PreTrainedTokenizerBase
    space: ScoreSpace
    prompt_format: PromptFormat
    checkpoint: str | None
    recipe: dict[str, Any]
    train_dataset: Dataset
    eval_dataset: Dataset | None
    held_out: dict[str, Dataset]
    held_out_args: HeldOutArguments


def open_stage(config_class: type, argv: Sequence[str] | None, held: ExitStack) -> Stage:
    """
    Parse a training recipe and load its tokenizer and data.

    Args:
        config_class (`type`):
            [`RAFTConfig`] or [`REALConfig`].
        argv (`Sequence[str]`, *optional*):
            Command line; `None` for the process's own.
        held (`contextlib.ExitStack`):
            What is to be given up at the end: the lock of `output_dir`.

    Raises:
        ValueError: naming field, value and fix, if anything in the recipe or the data is wrong.
    """
    stage_args, data_args, training_args, model_args = make_parser(config_class).parse_args_and_config(argv)
    check_trackers(training_args.report_to)
    state = PartialState() if training_args.world_size > 1 else None
    held.enter_context(
        only_writer(training_args.output_dir, state=state)
    )  # from here on all ranks see the same checkpoints
    checkpoint = checkpoint_to_resume(training_args)
    tokenizer = load_tokenizer(
        model_args.model_name_or_path, model_args.model_revision, training_args.trust_remote_code
    )
    space = ScoreSpace.from_labels(
        training_args.score_labels,
        tokenizer,
        marker=training_args.score_marker,
        values=training_args.score_values,
        thinking=training_args.thinking,
    )
    prompt_format = stage_format(
        (model_args.model_name_or_path, model_args.model_revision),
        tokenizer,
        space,
        stage_args.chat,
        stage_args.system_prompt,
        training_args.chat_template_kwargs,
    )
    training_args.chat_template_kwargs = dict(prompt_format.chat_template_kwargs) or None
    if data_args.prompt_template:
        check_public(prompt_template=load_template(data_args.prompt_template).source, criteria=data_args.criteria)

    samples = config_class is REALConfig
    if samples:
        check_writes_rationales(model_args.model_name_or_path, model_args.model_revision)
    require_feedback = False if samples else training_args.rationale

    def load(split: str) -> Dataset:
        return load_judge_dataset(
            data_args,
            split,
            scale=space.scale,
            require_feedback=require_feedback,
            marker=space.marker,
            pairs=METHODS[training_args.reward].pairs if samples else bool(data_args.pair_columns),
        )

    train = load(data_args.dataset_train_split)
    if not samples:
        _choose_rationale(training_args, data_args, train)
    evaluation = load(data_args.dataset_test_split) if training_args.eval_strategy != "no" else None
    recipe = resolve_recipe(training_args, data_args, model_args, prompt_format, train)
    if checkpoint is not None:
        for line in check_recipe(checkpoint, recipe, allow_changed=stage_args.allow_changed_recipe):
            if training_args.process_index == 0:
                print(line)
    training_args.model_init_kwargs = {
        "revision": model_args.model_revision,
        "attn_implementation": model_args.attn_implementation,
        "dtype": model_args.dtype,
        "use_safetensors": True,
        **(training_args.model_init_kwargs or {}),
    }
    return Stage(
        data_args=data_args,
        training_args=training_args,
        model_args=model_args,
        tokenizer=tokenizer,
        space=space,
        prompt_format=prompt_format,
        checkpoint=checkpoint,
        recipe=recipe,
        train_dataset=train,
        eval_dataset=evaluation,
        held_out=stage_args.held_out(data_args, space),
        held_out_args=stage_args,
    )


def _choose_rationale(training_args: RAFTConfig, data_args: DataArguments, train: Dataset) -> None:
    """Set `rationale` as the data have them, where the recipe does not say, and tell what is trained."""
    if training_args.rationale is None:
        training_args.rationale = "feedback" in train.column_names
        if not training_args.rationale and training_args.process_index == 0:
            print(
                "No rationales in the data (feedback_column): a direct judge is trained, which answers with its score at once. For a judge "
                "that gives reasons, let a model write some first (real-trl self_generate)."
            )
    if not training_args.rationale and data_args.prompt_template in ASKS_FOR_RATIONALE:
        logger.warning(
            "prompt_template=%r asks for a rationale, which a direct judge does not write. Set it to 'direct' (with criteria, "
            "'direct_criteria'), which asks for the score alone.",
            data_args.prompt_template,
        )


def make_trainer(
    trainer_class: Callable[..., JudgeTrainer], stage: Stage, to_rows: Callable[[Dataset], Dataset]
) -> JudgeTrainer:
    """The stage's trainer on `to_rows(dataset)`. This loads the model."""
    with naming_open_options(stage.recipe, stage.training_args, stage.model_args):
        return _make_trainer(trainer_class, stage, to_rows)


def _make_trainer(
    trainer_class: Callable[..., JudgeTrainer], stage: Stage, to_rows: Callable[[Dataset], Dataset]
) -> JudgeTrainer:
    train_dataset = to_rows(stage.train_dataset)
    eval_dataset = to_rows(stage.eval_dataset) if stage.eval_dataset is not None else None
    _check_held_out(stage)
    model = load_policy(stage)
    with loading(stage.model_args.model_name_or_path, "model", within="create_model_from_path"):
        trainer = trainer_class(
            model=model,
            args=stage.training_args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=stage.tokenizer,
            quantization_config=get_quantization_config(stage.model_args) if isinstance(model, str) else None,
            # An adapter that is already there goes on being trained
            peft_config=None if isinstance(model, PeftModel) else get_peft_config(stage.model_args),
        )
    trainer.recipe = stage.recipe
    template = stage.data_args.prompt_template
    trainer.judge_config.use_template(load_template(template) if template else None)
    trainer.judge_config.criteria = stage.data_args.criteria
    if stage.held_out:
        seed = stage.training_args.seed
        trainer.add_callback(
            JudgeEvaluationCallback(
                trainer,
                stage.held_out,
                stage.held_out_args.judge_eval_steps,
                max_new_tokens=stage.held_out_args.judge_eval_max_new_tokens,
                seed=seed,
            )
        )
    return trainer


def _check_held_out(stage: Stage) -> None:
    """What does not fit is said before the model is loaded, where its configuration can be read without it."""
    name, args = stage.model_args.model_name_or_path, stage.training_args
    if not stage.held_out and (args.metric_for_best_model or "").startswith(JUDGE_METRICS):
        said = f": got {args.metric_for_best_model!r}, but nothing is judged while training"
        raise FieldError("metric_for_best_model", args.metric_for_best_model, "Set judge_eval_steps.", said)
    config = config_of(name, args) if stage.held_out else None
    if config is not None:
        tokens = held_out_tokens(config, args, stage.held_out_args.judge_eval_max_new_tokens)
        check_held_out(stage.held_out, tokens, config, stage.space, stage.tokenizer, stage.prompt_format)


def load_policy(stage: Stage) -> str | PreTrainedModel | PeftModel:
    """
    What to train: the name of a model, which the trainer loads; or, for a directory that holds a LoRA adapter (the
    output of an earlier stage with `use_peft`), with `use_peft` that adapter itself, ready to be trained on, and without
    it the model with the adapter merged, ready for full training.

    Raises:
        ValueError: for weights that are damaged, lacking or pickles; for full training from an adapter with a KL penalty, whose
            reference model would not exist on disk.
    """
    name, args = stage.model_args.model_name_or_path, stage.training_args
    if not Path(name, "adapter_config.json").is_file():
        return name
    continues = stage.model_args.use_peft
    if getattr(args, "beta", 0.0) and not continues:
        said = f": got {args.beta} with full training of a LoRA judge ({name!r}), which leaves no reference model on disk to load"
        fix = "Set beta to 0, set use_peft to true, or merge the adapter into a model directory first."
        raise FieldError("beta", args.beta, fix, said)
    kwargs, args.model_init_kwargs = args.model_init_kwargs, None
    if quantization := get_quantization_config(stage.model_args):
        kwargs["quantization_config"] = quantization
    with loading(name, "model"):
        check_weights(name)
        model = AutoPeftModelForCausalLM.from_pretrained(
            name, is_trainable=continues, trust_remote_code=args.trust_remote_code, **kwargs
        )
    # PEFT froze the base weights, which full training needs
    return model if continues else merge_whole(model, "use_peft", "Set use_peft to true").requires_grad_(True)


def train_and_save(trainer: JudgeTrainer, stage: Stage) -> None:
    """Train, and save the judge and the training log to `output_dir`. A run that cannot go on says why, with status 2."""
    with writing(
        stage.training_args.output_dir, "Complete checkpoints, and a judge that was there before, are as they were"
    ):
        _train_and_save(trainer, stage)


def _train_and_save(trainer: JudgeTrainer, stage: Stage) -> None:
    args = stage.training_args
    calibration, done = _calibration(args.output_dir), _steps_done(stage.checkpoint)
    try:
        with naming_open_options(stage.recipe, args, stage.model_args, trainer=trainer):
            trainer.train(resume_from_checkpoint=stage.checkpoint)
        trainer.check_learned()
        trainer.check_weights()
    except (StopWithCheckpoint, OpenOptionError) as error:
        with user_errors():
            raise ValueError(str(error)) from error
    if done == trainer.state.global_step:
        trainer.accelerator.print(f"Nothing was left to train: {stage.checkpoint} is the end of the run.")
        trainer.judge_config.calibration = calibration  # which is of these weights
    elif calibration is not None:
        trainer.accelerator.print(
            "The judge that was here had been calibrated. The weights are others now: run `real-trl calibrate` again."
        )
    # Judge and training log, beside what is there until all of it is written
    with replaced_files(Path(args.output_dir), args.should_save, trainer.accelerator.wait_for_everyone) as new:
        trainer.save_model(str(new), _internal_call=True)
        if args.should_save:
            trainer.state.save_to_json(str(new / TRAINER_STATE_NAME))
            without_nan(new / TRAINER_STATE_NAME)
    if stage.held_out and trainer.is_world_process_zero():
        _save_curves(trainer, stage)
    trainer.accelerator.print(f"Judge saved to {args.output_dir}")
    if args.push_to_hub:
        with user_errors():
            trainer.push_to_hub(dataset_name=stage.data_args.dataset_name)


def _calibration(folder: str) -> dict[str, Any] | None:
    """Of the judge that is there already; a configuration that cannot be read is replaced at the end."""
    if not Path(folder, JUDGE_CONFIG_NAME).is_file():
        return None
    with suppress(ValueError):
        return JudgeConfig.load(folder).calibration
    return None


def _steps_done(checkpoint: str | None) -> int:
    """At the checkpoint, which the run may delete."""
    if checkpoint is None:
        return 0
    return TrainerState.load_from_json(str(Path(checkpoint, TRAINER_STATE_NAME))).global_step


def _save_curves(trainer: JudgeTrainer, stage: Stage) -> None:
    """Draw what was logged of the held-out data (Fig. 2 and 4)."""
    path = Path(stage.training_args.output_dir, "training_curves.png")
    try:
        plot_training_curves({trainer.judge_config.method: trainer.state.log_history}).savefig(path)
    except ImportError as error:
        print(f"note: no {path.name} ({error})")
    else:
        print(f"Held-out figures over the training: {path}")
