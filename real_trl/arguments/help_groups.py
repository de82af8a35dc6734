# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Which options people set first, by groups: what `--help` of a command that takes recipes shows, of those that the command has."""

_MODEL = "use_peft lora_r lora_target_modules load_in_4bit"
_DATA = """
    dataset_name dataset_train_split dataset_test_split prompt_template columns prompt_column score_column feedback_column pair_columns
    preference_column criteria raters group_column holdout_fraction holdout_group keep_columns max_rows
"""
_SCALE = "score_labels score_values score_marker thinking rationale"

TRAINING = {
    "Model and output": "model_name_or_path output_dir trust_remote_code chat system_prompt allow_changed_recipe",
    "Data": _DATA,
    "Scale and answer": _SCALE,
    "Method": "reward regression_weight log_likelihood_weight prediction_weight malformed group_filter beta",
    "Completions": "num_generations max_completion_length max_length temperature use_vllm vllm_mode log_completions",
    "Optimisation": """
        learning_rate lr_scheduler_type warmup_steps num_train_epochs max_steps per_device_train_batch_size
        gradient_accumulation_steps seed
    """,
    "Memory": f"bf16 gradient_checkpointing use_cpu {_MODEL}",
    "Held-out data during training": "judge_eval_steps judge_eval_splits judge_eval_benchmarks judge_eval_rows",
    "Logging and saving": "logging_steps report_to save_steps save_total_limit push_to_hub hub_model_id",
}
_JUDGE = {"Judge": "model_name_or_path judges preset tokenizer trust_remote_code"}
_USE = {
    "A model that was not trained as a judge": f"{_SCALE} chat system_prompt normalize_expectation",
    "Engine": "engine engine_options device dtype load_in_4bit batch_size truncate_prompts",
    "Completions": "do_sample temperature top_p max_new_tokens num_samples seed malformed max_distance show_score",
}
JUDGING = {
    **_JUDGE,
    "What is judged": f"data output output_dir {_DATA} benchmarks benchmark_paths eval_splits rubric reference prefix",
    **_USE,
    "What is reported": "breakdown probes num_resamples coverage interval_group",
}
SERVING = {
    **_JUDGE,
    "Service": "host port api_key_env max_rows max_waiting request_timeout max_connections",
    "Prompts": "prompt_template",
    **_USE,
}
_GROUPS = {"sft": TRAINING, "rl": TRAINING, "serve": SERVING, "demo": SERVING}  # of others JUDGING


def groups_of(command: str) -> dict[str, list[str]]:
    """Title → names of options, of a command that takes recipes; the command may lack some."""
    named: set[str] = set()
    groups = {}
    for title, names in _GROUPS.get(command, JUDGING).items():
        groups[title] = [name for name in names.split() if name not in named]
        named.update(groups[title])
    return groups
