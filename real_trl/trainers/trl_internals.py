# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
The private names of TRL, Transformers and what is below them that real_trl uses or overrides, by where they are defined, and the
versions in which that was looked at. A test reads all of real_trl and compares. With another version: look at each of them
again, at the methods in `README.md` beside this file, and then change [`CHECKED`].
"""

CHECKED = {
    "trl": ("1.16",),
    "transformers": ("5.17", "5.24"),
    "accelerate": ("1.15",),
    "torch": ("2.13", "2.15"),
    "deepspeed": ("0.19",),
}

PRIVATE_NAMES = {
    "trl.trainer.base_trainer._BaseTrainer": ("_name", "_paper", "_tag_names"),
    "trl.trainer.rloo_trainer.RLOOTrainer": (
        *("_buffered_inputs", "_compute_loss", "_dist", "_generate", "_generate_and_score_completions"),
        *("_generate_single_turn", "_last_loaded_step", "_logs", "_metrics", "_prepare_inputs", "_step"),
        *("_tokenize_prompts", "_tokenizer"),
    ),
    "trl.trainer.sft_trainer.SFTTrainer": ("_prepare_dataset", "_total_train_tokens", "_tp_size"),
    "trl.trainer.utils": ("_fused_forward",),
    "trl.generation.vllm_generation.VLLMGeneration": (
        *("_dist", "_fix_param_name_to_vllm", "_iter_named_params", "_llm_weights_sleeping"),
    ),
    "transformers.trainer.Trainer": (
        *(
            "_determine_best_metric",
            "_get_grad_norm",
            "_get_output_dir",
            "_get_train_sampler",
            "_globalstep_last_logged",
            "_initial_global_step",
            "_internal_call",
        ),
        *("_load_from_checkpoint", "_load_optimizer_and_scheduler", "_load_rng_state", "_maybe_log_save_evaluate"),
        *("_push_from_checkpoint", "_run_epoch", "_save", "_save_checkpoint", "_set_signature_columns_if_needed"),
        *("_signature_columns", "_total_loss_scalar", "_tr_loss"),
    ),
    "transformers.configuration_utils.PreTrainedConfig": ("_attn_implementation",),
    "transformers.modeling_utils.PreTrainedModel": ("_finalize_model_loading",),
    "transformers.utils.chat_template_utils": ("_cached_compile_jinja_template", "_compile_jinja_template"),
    "transformers.utils.hub.cached_files": (
        *("_raise_exceptions_for_connection_errors", "_raise_exceptions_for_gated_repo"),
        *("_raise_exceptions_for_missing_entries",),
    ),
    "accelerate.accelerator.Accelerator": ("_original_forward",),
    # Put back after a recipe is read, which is not to decide where the doctor looks
    "accelerate.state.PartialState": ("_shared_state",),
    "torch.nn.Module": ("_parameters",),
    "torch.optim.lr_scheduler.LRScheduler": ("_last_lr",),
    "torch.distributed.fsdp._flat_param": ("_is_flat_param",),
    "torch.distributed.fsdp._fully_shard._fully_shard": ("_fsdp_param_groups", "_get_fsdp_state"),
    "torch.distributed.fsdp._fully_shard._fsdp_param_group": ("_reshard_after_forward",),
    # The public `varlen_attn` trains on a GPU; its own backward takes the output of its call for the whole of attention, where here it
    # is a part, so the operator below is called with the merged one
    "torch.ops.torch_attn": ("_varlen_attn_backward",),
    # What is public (`scaled_dot_product_attention`) does not return the log-sum-exp. On a GPU only to generate: of few queries and many
    # keys `varlen_attn` does not divide the keys among the processors of a GPU, as this one does
    "torch.ops.aten": (
        "_scaled_dot_product_flash_attention",
        *("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention_for_cpu_backward"),
    ),
    "deepspeed.utils.mixed_precision_linkage": ("_hp_mapping",),
}
