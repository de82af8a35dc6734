# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Every command of the README and of docs/ is run here, by another test, or needs what CI has not; none is forgotten. What is
shortened is said beside the command: fewer steps, a tiny local model in the place of one on the Hub. Links lead somewhere.
"""

import ast
import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml

from real_trl.cli import STAGES
from real_trl.data.homework import build_model, build_tokenizer, make_dataset
from real_trl.judge_config import JudgeConfig
from real_trl.methods import CITATION
from real_trl.prompts.template import load_template
from real_trl.score_space import ScoreSpace

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path: path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]}
# The commands of docs/results/ are experiments of hours; tests/experiments runs tiny ones
TEXT = "\n".join(text for path, text in PAGES.items() if path.parent != ROOT / "docs" / "results")
LINKED_FROM = [*PAGES, *sorted({*ROOT.glob("*.md"), *ROOT.glob("recipes/**/*.md")} - {*PAGES})]
TINY = "--model_name_or_path tiny --report_to none"
FEW = "--max_steps 2 --logging_steps 1"
ENVIRONMENT = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def commands(text: str) -> list[str]:
    """The commands of all shell blocks, without comments, continued lines joined."""
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [" ".join(re.sub(r"\s+# .*", "", line).split()) for line in lines if line.strip()]


@dataclass(frozen=True)
class Run:
    """A command as it is written, with these options after it; a service is asked, and stopped."""

    command: str
    options: str = ""
    service: bool = False


# In the order in which they are run, in one folder
RUNS = [
    Run("real-trl evaluate --config recipes/quickstart/evaluate.yaml", "--max_rows 20"),
    Run(
        "real-trl self_generate --config recipes/quickstart/tract_self_generate.yaml",
        "--dataset_options '{\"size\": 64}' --malformed keep",
    ),
    Run("real-trl sft --config recipes/quickstart/tract.yaml", FEW),
    Run("real-trl sft --config my-raft.yaml", f"{TINY} {FEW}"),
    Run("real-trl rl --config my-real.yaml", f"{FEW} --max_completion_length 8 --report_to none --malformed force"),
    Run("real-trl evaluate --config my-evaluate.yaml", "--max_rows 8 --max_new_tokens 8"),
    Run(
        "real-trl evaluate --model outputs/my-real --output_dir outputs/eval --benchmarks mt_bench "
        """--benchmark_paths '{"mt_bench": "mt_bench_eval.json"}'""",
        "--max_new_tokens 8 --truncate_prompts true",
    ),
    Run("real-trl score answers.jsonl --model outputs/quickstart/seed-0/real", "--max_new_tokens 8"),
    Run("real-trl serve --model outputs/quickstart/seed-0/real", service=True),
    Run("real-trl push outputs/quickstart/seed-0/real --local_dir published"),
    Run("real-trl init scores.csv", "--yes --model tiny"),
    Run("real-trl sft --config scores-judge/raft.yaml", FEW),
    Run("real-trl evaluate --config scores-judge/evaluate.yaml", "--max_rows 8"),
    Run(
        "python -m benchmarks.step --workload judge --layers 8",
        "--layers 1 --prompt_tokens 40 --num_generations 2 --repeats 1",
    ),
    Run("real-trl plan --config recipes/qwen3-8b/real.yaml --gpus 8xA100-80GB"),
    Run("real-trl plan --config my-real.yaml --stage rl --zero 3 --gpus 2xA100-40GB"),
]
# Command → the test file that runs it, in parts at least
ELSEWHERE = {
    **{command: "tests/test_docs.py" for command in commands(TEXT) if command.startswith("curl ")},  # asks the service
    "real-trl compare systems.scored.jsonl --system model --human rating --group question": "tests/scripts/test_compare.py",
    "make quickstart": "tests/scripts/test_quickstart.py",
    "real-trl doctor --recipe recipes/qwen3-8b/real.yaml": "tests/doctor/test_doctor.py",
    "real-trl calibrate outputs/quickstart/seed-0/real held_out.jsonl": "tests/scripts/test_calibrate.py",
    "real-trl --accelerate_config recipes/accelerate_configs/zero3.yaml doctor": "tests/doctor/test_processes.py",
    "real-trl demo --model outputs/quickstart/seed-0/real": "tests/serving/test_pages.py",
    "real-trl sft --config my-pairs.yaml": "tests/scripts/test_pairs.py",
    "real-trl evaluate --config my-pairs-evaluate.yaml": "tests/scripts/test_pairs.py",
    "real-trl recipes": "tests/test_shipped.py",
    "real-trl recipes copy qwen3-8b": "tests/test_shipped.py",
    "python -m pytest -m gpu tests/gpu tests/forward": "Makefile",  # test-marked, on the CPU
    **{command: "tests/test_launch.py" for command in commands(TEXT) if command.startswith("sbatch ")},
    **{command: "tests/trainers/test_vllm_server.py" for command in commands(TEXT) if " vllm serve " in command},
}
# Command → what it needs
NEEDS = {
    "make test": "runs this",
    "source .venv/bin/activate": "a shell that stays open",
    'pip install -c constraints.txt -e ".[plots]"': "the Makefile's installation",
    'pip install -c constraints-gpu.txt -e ".[vllm,deepspeed,qlora,plots]"': "a GPU; `make resolve` resolves it",
    "git clone URL real_trl && cd real_trl": "the address of the repository",
    "docker build -f launch/Dockerfile -t real_trl .": "Docker; tests/test_launch.py reads the file",
    'docker run --rm --gpus all --shm-size 16g -v "$PWD/outputs:/real_trl/outputs" real_trl': "Docker and a GPU",
    "accelerate launch --config_file recipes/accelerate_configs/zero3.yaml -m real_trl.scripts.rl --config recipes/qwen3-8b/real.yaml": "eight GPUs and the Hub",
    "accelerate launch --config_file recipes/accelerate_configs/fsdp2.yaml -m real_trl.scripts.rl --config recipes/qwen3-8b/real.yaml": "eight GPUs and the Hub",
    "accelerate launch --config_file recipes/accelerate_configs/single.yaml -m real_trl.scripts.sft --config recipes/qwen3-8b-qlora/raft.yaml": "a GPU and the Hub",
    "real-trl push outputs/my-real --repo_id user/my-judge --evaluation outputs/my-real/evaluation": "the Hub; tests/publishing has a server that speaks its calls",
}


def yaml_blocks(text: str) -> dict[str, dict]:
    """File name in the first comment → content."""
    found = re.findall(r"```yaml\n# (\S+\.yaml)[^\n]*\n(.*?)```", text, re.DOTALL)
    return {name: yaml.safe_load(content) for name, content in found}


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(text: str) -> set[str]:
    """Of a page's headings, as GitHub and MkDocs make them."""
    titles = re.findall(r"^#+ (.*)$", without_code(text), re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", title).strip().lower().replace(" ", "-") for title in titles}


def test_every_command_is_accounted_for():
    accounted = [run.command for run in RUNS] + [*ELSEWHERE, *NEEDS]
    assert sorted(set(commands(TEXT))) == sorted(accounted)
    for path in ELSEWHERE.values():
        assert (ROOT / path).is_file()


def test_every_stage_is_in_the_pages():
    mentioned = {stage for stage in STAGES if re.search(rf"real-trl {stage}\b|make {stage}\b", TEXT)}
    assert set(STAGES) - mentioned == {"export_smollm2"}  # recipes/README.md has it


def test_the_readme_is_short():
    assert len(README.encode()) <= 9_000


def test_the_citation_is_that_of_the_cards():
    assert f"```bibtex\n{CITATION}\n```" in README


@pytest.mark.parametrize("page", LINKED_FROM, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page):
    text = without_code(page.read_text(encoding="utf-8"))
    for target, anchor in re.findall(r"\]\((?![a-z]+:)([^)#\s]*)#?([^)\s]*)\)", text):
        file = page.parent / target if target else page
        assert file.is_file(), target  # MkDocs has no page for a folder
        assert not anchor or anchor in anchors(file.read_text(encoding="utf-8")), f"{target}#{anchor}"


def test_the_site_has_every_page():
    def pages(nav):
        for entry in nav:
            (value,) = entry.values()
            yield from [value] if isinstance(value, str) else pages(value)

    nav = list(pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    in_docs = {path.relative_to(ROOT / "docs").as_posix() for path in PAGES if path.is_relative_to(ROOT / "docs")}
    assert {name for name in nav if not name.startswith("repository/")} == {"index.md", *in_docs}
    assert all((ROOT / name.removeprefix("repository/")).is_file() for name in nav if name.startswith("repository/"))


def test_python_blocks_are_valid():
    for page, text in PAGES.items():
        for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
            compile(block, str(page), "exec")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What the reader has when the commands are reached: recipes, data, and judges where the quickstart leaves them."""
    folder = tmp_path_factory.mktemp("reader")
    for name in ("recipes", "benchmarks", "real_trl"):
        (folder / name).symlink_to(ROOT / name)
    tokenizer = build_tokenizer()
    config = JudgeConfig.from_space(ScoreSpace.from_labels("1-5", tokenizer))
    config.use_template(load_template("homework"))
    for model in ("tiny", *(f"outputs/quickstart/seed-0/{judge}" for judge in ("untrained", "base", "raft", "real"))):
        build_model().save_pretrained(folder / model)
        tokenizer.save_pretrained(folder / model)
        if model.endswith(("base", "raft", "real")):
            config.save(folder / model)
    rows = make_dataset("sft", 60).to_pandas().drop(columns="rubric")
    scores = rows.rename(
        columns={
            "orig_instruction": "question",
            "orig_response": "answer",
            "orig_criteria": "criteria",
            "orig_score": "rating",
            "orig_feedback": "comment",
        }
    )[["question", "answer", "criteria", "rating", "comment"]]
    scores["question_id"] = [f"q{i // 3}" for i in range(len(scores))]
    (folder / "data").mkdir()
    scores.to_json(folder / "data" / "scores.jsonl", orient="records", lines=True)
    columns = {"question": "question", "answer": "answer", "rating": "score"}
    scores.rename(columns=columns)[[*columns.values()]].to_csv(folder / "scores.csv", index=False)
    answers = rows.rename(
        columns={"orig_instruction": "instruction", "orig_response": "response", "orig_criteria": "rubric"}
    )
    answers[["instruction", "response", "rubric"]].head(10).to_json(
        folder / "answers.jsonl", orient="records", lines=True
    )
    answer_format = '"Feedback: (write a feedback for criteria) [RESULT] (an integer number between 1 and 5)"'
    bench = [
        {
            "idx": i // 2,
            "category": "math",
            "response_source": "a",
            "instruction": f"{prompt} {answer_format}",
            "gpt4_score": [2, 3],
        }
        for i, prompt in enumerate(rows["prompt"].head(6))
    ]
    (folder / "mt_bench_eval.json").write_text(json.dumps(bench), encoding="utf-8")

    recipes = yaml_blocks(PAGES[ROOT / "docs" / "your-data.md"])
    same = {key: value for key, value in recipes["my-raft.yaml"].items() if key not in ("feedback_column",)}
    for name, content in recipes.items():
        (folder / name).write_text(yaml.safe_dump({**same, **content}), encoding="utf-8")
    return folder


def arguments(command: str) -> list[str]:
    """The command for this interpreter, wherever its scripts are."""
    program, *options = shlex.split(command)
    return [sys.executable, *(["-m", "real_trl.cli"] if program == "real-trl" else []), *options]


def run(folder: Path, command: str) -> subprocess.CompletedProcess:
    done = subprocess.run(arguments(command), cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, f"{command}\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}"
    return done


@pytest.mark.slow
def test_commands(folder):
    """One test, as later commands need what earlier ones leave behind."""
    for entry in RUNS:
        command = f"{entry.command} {entry.options}"
        if entry.service:
            ask(folder, command)
        else:
            run(folder, command)
    expected, probabilities = printed_by_the_block(README, folder).split(" ", 1)
    probabilities = ast.literal_eval(probabilities)
    assert float(expected) == pytest.approx(sum(int(label) * p for label, p in probabilities.items()), abs=1e-4)
    # Ridge regression on what `init` wrote
    printed = printed_by_the_block(PAGES[ROOT / "docs" / "your-data.md"], folder)
    assert re.fullmatch(RIDGE, printed)  # of twelve rows that a tiny vocabulary writes


RIDGE = r"(?s).*r × 100 = (?:-?[\d.]+|nan), RMSE ([\d.]+); always the mean: RMSE ([\d.]+)"


def test_ridge_regression_reads_what_init_wrote_of_two_graders_and_a_reference(tmp_path):
    draw = random.Random(0)
    lines = ["Question;Reference answer;Answer;Grader 1;Grader 2"]
    for number in range(90):
        answer = draw.choices(["good", "bad"], k=4)
        points = answer.count("good") + 1
        lines.append(f"Question {number}?;All good;{' '.join(answer)};{points},0;{'' if number % 5 else points}")
    (tmp_path / "scores.csv").write_text("\n".join(lines), encoding="utf-8")
    build_model().save_pretrained(tmp_path / "tiny")
    build_tokenizer().save_pretrained(tmp_path / "tiny")
    run(tmp_path, "real-trl init scores.csv --yes --model tiny")
    printed = printed_by_the_block(PAGES[ROOT / "docs" / "your-data.md"], tmp_path)
    ridge, mean = map(float, re.fullmatch(RIDGE, printed).groups())
    assert ridge < 0.7 * mean and 0.5 < mean < 1.5


def printed_by_the_block(page: str, folder: Path) -> str:
    """What the only block of Python in a page prints."""
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


def ask(folder: Path, command: str) -> None:
    """Starts a service, gives it the requests of the page, and stops it."""
    with subprocess.Popen(arguments(command), cwd=folder, env=ENVIRONMENT) as process:
        try:
            for _ in range(240):
                assert process.poll() is None
                try:
                    assert httpx.get("http://127.0.0.1:8000/health").status_code == 200
                    break
                except httpx.TransportError:
                    time.sleep(0.5)
            else:
                pytest.fail("the service did not answer")
            requests = [shlex.split(command) for command in commands(TEXT) if command.startswith("curl ")]
            answers = [
                httpx.post(request[1], json=json.loads(request[request.index("-d") + 1]), timeout=60)
                for request in requests
            ]
            assert [answer.status_code for answer in answers] == [200, 200]
            score, reward = (answer.json() for answer in answers)
            assert 0 < score["expected_score"] <= 5
            assert reward["reward"] == pytest.approx((max(score["expected_score"], 1) - 1) / 4, abs=1e-4)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
