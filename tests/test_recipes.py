# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Every recipe is one that its script takes, opens with the command that runs it, and names no particular machine; so is every
command in the recipes' READMEs. Recipes are found, not listed: one without a command that is known here fails.
"""

import json
import re
import shlex
from pathlib import Path
from string import Template

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from trl import ModelConfig

from real_trl.arguments.evaluation import EvaluateArguments, EvaluateDataArguments
from real_trl.arguments.parser import RecipeParser
from real_trl.arguments.training import make_parser
from real_trl.cli import STAGES
from real_trl.data.arguments import DataArguments
from real_trl.data.loading import load_judge_dataset
from real_trl.scale import Scale
from real_trl.scripts.plan import make_parser as make_plan_parser
from real_trl.scripts.self_generate import SelfGenerateArguments
from real_trl.trainers import RAFTConfig, REALConfig

ROOT = Path(__file__).parents[1]
RECIPES = sorted(path for path in ROOT.glob("recipes/**/*.yaml") if path.parent.name != "accelerate_configs")
ACCELERATE_CONFIGS = sorted(ROOT.glob("recipes/accelerate_configs/*.yaml"))
READMES = sorted(ROOT.glob("recipes/**/README.md"))
# Processes per accelerate config of the large models
LARGE = {"mistral-7b-instruct-v0.2": 8, "qwen3-8b": 8, "qwen3-32b": 16}
PARSERS = {
    "sft": lambda: make_parser(RAFTConfig),
    "rl": lambda: make_parser(REALConfig),
    "self_generate": lambda: RecipeParser((SelfGenerateArguments, DataArguments, ModelConfig)),
    "evaluate": lambda: RecipeParser((EvaluateArguments, EvaluateDataArguments, ModelConfig)),
}
COMMAND = re.compile(r"^#\s+accelerate launch .*-m real_trl\.scripts\.(\w+) .*--config (\S+)", re.MULTILINE)
MACHINE_PATH = re.compile(r"""(?:^|[\s"'=:\[{,])(?:/|~|[A-Za-z]:\\)[\w.~-]""")


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


each_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=name_of)


def header(path: Path) -> str:
    """The comment that opens a file, with continued lines joined."""
    lines = path.read_text(encoding="utf-8").splitlines(True)
    first = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    return re.sub(r"\\\n#\s+", "", "".join(lines[:first]))


def command(recipe: Path) -> tuple[str, str]:
    """Stage and recipe path of the command in the comment that opens the recipe."""
    found = COMMAND.search(header(recipe))
    assert found, f"{recipe}: no `accelerate launch … -m real_trl.scripts.<stage> --config …` in its first comment"
    return found[1], found[2]


@each_recipe
def test_opens_with_its_own_command(recipe):
    assert recipe.read_text(encoding="utf-8").startswith("# ")
    stage, path = command(recipe)
    assert ROOT / path == recipe
    assert stage in PARSERS
    for config in re.findall(r"--config_file (\S+)", header(recipe)):
        assert (ROOT / config).is_file()


@each_recipe
def test_is_taken_by_its_script(recipe):
    parsed = PARSERS[command(recipe)[0]]().parse_args_and_config(["--config", str(recipe)])
    if command(recipe)[0] in ("sft", "rl"):  # in half precision, without a copy in float32, weights are refused
        *_, config, model = parsed
        assert (model.use_peft or model.dtype == "float32") and not config.model_init_kwargs
    stated = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    taken = {name: getattr(part, name) for part in parsed for name in stated if hasattr(part, name)}
    assert stated.keys() - {"env"} == taken.keys()
    for name in {"model_name_or_path", "judges", "output_dir", "dataset_name", "benchmarks"} & stated.keys():
        assert stated[name] == taken[name]
    assert stated.keys() & {"model_name_or_path", "judges"} and stated.keys() & {"dataset_name", "benchmarks"}
    for name, value in stated.items():
        if isinstance(value, float):
            assert taken[name] == value, "a number that YAML reads as text, or that the parser changes"


@each_recipe
def test_starts_from_what_an_earlier_stage_writes(recipe):
    """Models and data under `outputs/` are those of another recipe, or what the folder's README or header says makes them."""
    outputs = {yaml.safe_load(path.read_text(encoding="utf-8"))["output_dir"] for path in recipe.parent.glob("*.yaml")}
    stated = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    for name in ("model_name_or_path", "dataset_name"):
        if stated.get(name, "").startswith(f"outputs/{recipe.parent.name}/") and recipe.parent.name in LARGE:
            assert stated[name] in outputs - {stated["output_dir"]}


@pytest.mark.parametrize("path", RECIPES + ACCELERATE_CONFIGS + READMES, ids=name_of)
def test_names_no_machine(path):
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if path.suffix == ".md":  # prose has numbers divided by numbers
            line = " ".join(re.findall(r"`([^`]*)`", line)) if not line.startswith("accelerate") else line
        assert not MACHINE_PATH.search(line.replace("://", "")), f"{path}:{number}: {line}"


@pytest.mark.parametrize(("reward", "weight"), [("accuracy", 0.0), ("log_likelihood", 1.0), ("regression", 0.01)])
def test_baselines_are_one_override_away(reward, weight):
    recipe = str(ROOT / "recipes" / "quickstart" / "real.yaml")
    _, _, config, _ = make_parser(REALConfig).parse_args_and_config(["--config", recipe, "--reward", reward])
    assert (config.reward, config.prediction_weight) == (reward, weight)


# accelerate's configurations


@pytest.mark.parametrize("path", ACCELERATE_CONFIGS, ids=name_of)
def test_accelerate_reads_the_configuration(path):
    config = load_config_from_file(str(path))  # refuses unknown keys
    stated = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert config.num_processes == stated["num_processes"]
    assert str(getattr(config.distributed_type, "value", config.distributed_type)) == stated["distributed_type"]
    assert config.deepspeed_config == stated.get("deepspeed_config", {})
    assert (config.num_processes == 1) == (path.stem == "single")
    assert (config.num_machines == 2) == ("2nodes" in path.stem)
    for stage in (2, 3):
        assert (stated.get("deepspeed_config", {}).get("zero_stage") == stage) == (f"zero{stage}" in path.stem)


@pytest.mark.parametrize("path", ACCELERATE_CONFIGS, ids=name_of)
def test_an_accelerate_configuration_opens_with_a_command_that_uses_it(path):
    assert f"--config_file recipes/accelerate_configs/{path.name}" in header(path)
    for recipe in re.findall(r"--config (\S+)", header(path)):
        assert ROOT / recipe in RECIPES


# The commands in the READMEs


def readme_commands() -> list[tuple[Path, list[str]]]:
    """Every command in a block of shell code of the recipes' READMEs, its variables filled in."""
    commands = []
    for path in READMES:
        for block in re.findall(r"```bash\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
            variables: dict[str, str] = {}
            for line in block.replace("\\\n", " ").splitlines():
                if assignment := re.fullmatch(r'([A-Z]+)="(.*)"', line):
                    variables[assignment[1]] = assignment[2]
                elif words := shlex.split(Template(line).substitute(variables), comments=True):
                    commands.append((path, words))
    return commands


COMMANDS = readme_commands()


def stage_of(words: list[str]) -> tuple[str, list[str]] | None:
    """Stage and options of a command, or `None` if it is none of this package's that takes a recipe."""
    text = " ".join(words)
    if found := re.search(r"-m real_trl\.scripts\.(\w+)", text):
        return found[1], words[words.index(f"real_trl.scripts.{found[1]}") + 1 :]
    if words[0] == "real-trl":
        stage = next(word for word in words[1:] if word in STAGES)
        return stage, words[words.index(stage) + 1 :]
    return None


@pytest.mark.parametrize(
    ("readme", "words"),
    COMMANDS,
    ids=[f"{path.parent.name}-{number}" for number, (path, _) in enumerate(COMMANDS)],
)
def test_a_readme_command_is_taken_by_its_script(readme, words):
    found = stage_of(words)
    if found is None or "--config" not in found[1]:
        assert words[0] in ("make", "python", "real-trl"), words
        return
    stage, options = found
    for name in ("--config", "--config_file", "--accelerate_config"):
        if name in words:
            assert (ROOT / words[words.index(name) + 1]).is_file(), words
    if stage == "plan":
        args, rest = make_plan_parser().parse_known_args(options)
        stage, options = command(ROOT / args.config)[0], ["--config", str(args.config), *rest]
    index = options.index("--config") + 1
    recipe = ROOT / options[index]
    options = [*options[:index], str(recipe), *options[index + 1 :]]
    assert command(recipe)[0] == stage
    parsed = PARSERS[stage]().parse_args_and_config(options)
    if stage == "rl" and readme.parent.name in LARGE:
        config = parsed[2]
        prompts = config.per_device_train_batch_size * config.steps_per_generation * LARGE[readme.parent.name]
        assert prompts / config.num_generations == 256, "the released code's 256 prompts a generation"


@pytest.mark.parametrize("folder", LARGE)
def test_a_readme_tells_of_every_recipe(folder):
    readme = ROOT / "recipes" / folder / "README.md"
    mentioned = [words for path, words in COMMANDS if path == readme]
    for recipe in (ROOT / "recipes" / folder).glob("*.yaml"):
        assert any(f"recipes/{folder}/{recipe.name}" in words for words in mentioned), recipe


# What the recipes of the paper's scale state


@pytest.mark.parametrize("recipe", [path for path in RECIPES if path.parent.name in LARGE], ids=name_of)
def test_says_whose_its_options_are(recipe):
    assert all(f"# {whose}: " in header(recipe) for whose in ("The paper's", "Ours")), recipe
    assert "The released code's: " in header(recipe), recipe
    stated = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    if stated.get("learning_rate") == 5e-8:
        text = " ".join(header(recipe).replace("#", " ").split())
        assert (
            "see 1.3 % of the intended change after 20 steps" in text
            and "float32_outputs: true saves all of it" in text
        )


@pytest.mark.parametrize("folder", LARGE)
def test_the_papers_hyperparameters(folder):
    rate = 5e-8 if folder.startswith("mistral") else 1e-6
    for recipe in sorted((ROOT / "recipes" / folder).glob("*.yaml")):
        stage, _ = command(recipe)
        if stage != "rl":
            continue
        _, data, config, model = PARSERS["rl"]().parse_args_and_config(["--config", str(recipe)])
        assert config.learning_rate == rate
        assert (config.num_generations, config.max_completion_length, config.temperature) == (16, 1024, 1.0)
        assert (config.log_likelihood_weight, config.group_filter) == (1.0, "0 < acc < 1")
        assert config.weight_decay == 0.01, "that of the optimizer that the released REAL uses"
        assert config.gradient_checkpointing
        assert config.use_vllm
        assert config.vllm_mode == "colocate"
        assert not model.use_peft
        assert data.dataset_name == "prometheus-eval/Feedback-Collection"
        if recipe.stem in ("real", "real_from_base"):
            assert (config.prediction_weight, config.loss_aggregation, config.top_p) == (0.01, "sequence", 1.0)
            assert config.steps_per_generation == config.gradient_accumulation_steps, "one update a batch (Alg. 2)"


@pytest.fixture(scope="module")
def feedback_collection(tmp_path_factory) -> Path:
    """One row with the columns of Feedback-Collection, whose scores are text."""
    row = {
        "instruction": "the complete prompt, in Prometheus' form",
        "output": "Good. So the overall score is 4. [RESULT] 4",
        "orig_instruction": "Name a prime.",
        "orig_response": "Four.",
        "orig_reference_answer": "Seven.",
        "orig_criteria": "Is the answer right?",
        **{f"orig_score{score}_description": f"Right in {score} of 5 ways." for score in range(1, 6)},
        "orig_feedback": "Four is no prime. So the overall score is 1",
        "orig_score": "1",
    }
    path = tmp_path_factory.mktemp("data") / "feedback.jsonl"
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    return path


HUB_RECIPES = [path for path in RECIPES if "dataset_name: prometheus-eval/" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("recipe", HUB_RECIPES, ids=name_of)
def test_reads_the_columns_of_feedback_collection(recipe, feedback_collection):
    stage, _ = command(recipe)
    argv = ["--config", str(recipe), "--dataset_name", str(feedback_collection)]
    data = next(part for part in PARSERS[stage]().parse_args_and_config(argv) if isinstance(part, DataArguments))
    dataset = load_judge_dataset(data, scale=Scale.parse("1-5"), require_feedback=stage == "sft")
    prompt, score, feedback = dataset[0]["prompt"], dataset[0]["score"], dataset[0]["feedback"]
    assert score == 1.0
    assert feedback == "Four is no prime."
    for text in ("Name a prime.", "Four.", "Seven.", "[Is the answer right?]", "Score 5: Right in 5 of 5 ways."):
        assert text in prompt
    assert "So the overall score is (an integer number between 1 and 5)" in prompt
    assert data.prompt_score_reminder == (recipe.stem in ("base_warmup", "real_from_base"))
    assert prompt.endswith('write "So the overall score is (score)".') == data.prompt_score_reminder


@pytest.mark.parametrize("folder", ["mistral-7b-instruct-v0.2", "qwen3-8b"])
def test_jepo_is_made_of_its_rewards(folder):
    for stem, reward in (("jepo", "log_likelihood"), ("jepo_multi", "log_marginal")):
        recipe = ROOT / "recipes" / folder / f"{stem}.yaml"
        _, _, config, _ = PARSERS["rl"]().parse_args_and_config(["--config", str(recipe)])
        assert (config.reward, config.prediction_weight) == (reward, 1.0)


@pytest.mark.parametrize("folder", ["mistral-7b-instruct-v0.2", "qwen3-8b"])
def test_the_released_variant_is_made_of_ordinary_options(folder):
    recipe = ROOT / "recipes" / folder / "real_released.yaml"
    _, _, config, _ = PARSERS["rl"]().parse_args_and_config(["--config", str(recipe)])
    assert (config.likelihood_form, config.advantage_streams) == ("probability", "separate")
    assert (config.loss_aggregation, config.reuse_correction) == ("token", "none")
    assert (config.top_p, config.prediction_weight) == (0.9, 0.0)
    # 4,096 completions in 4 mini-batches of 1,024, three times
    assert config.steps_per_generation / config.gradient_accumulation_steps * config.num_iterations == 12
