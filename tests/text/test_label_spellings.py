# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A label in other tokens than its own: what is located and what the distribution says are one reading, in every engine."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from real_trl.engines import Decoding, TransformersEngine
from real_trl.engines.server_engine import ServerEngine
from real_trl.label_tree import LabelTree
from real_trl.score_space import DEFAULT_MARKER, ScoreSpace
from tests import tokenizers_zoo as zoo
from tests.helpers.tiny_server import MODEL_NAME, TinyServer, serve

RATIONALE = "The tone fits the task."


def spelled(space):
    """Label and tokens of what else spells the labels."""
    names = space.tokenizer.convert_ids_to_tokens
    return [(space.labels[label], tuple(names(path))) for label, path in space.tree.other_paths]


def test_what_else_spells_ten():
    for name, one in (("llama3", "1"), ("gpt2", "Ġ1")):
        assert spelled(ScoreSpace.from_labels("1-10", zoo.TOKENIZERS[name]())) == [("10", (one, "0"))]
    assert spelled(ScoreSpace.from_labels("1-10", zoo.mistral())) == [("10", ("1", "<0x30>"))]
    for name in ("smollm", "qwen", "words"):  # digits apart and no others; words have spaces between them
        assert spelled(ScoreSpace.from_labels("1-10", zoo.TOKENIZERS[name]())) == []
    for tokenizer in zoo.TOKENIZERS.values():  # no label begins another: one softmax, as before
        assert not ScoreSpace.from_labels("1-5", tokenizer()).tree.context_tokens


def test_what_else_spells_a_hundred():
    space = ScoreSpace.from_labels("1,2,10,100", zoo.llama3(), values=[1, 2, 10, 100])
    assert [zoo.llama3().convert_ids_to_tokens(path) for path in space.token_ids] == [["1"], ["2"], ["10"], ["100"]]
    assert sorted(spelled(space)) == [
        ("10", ("1", "0")),
        ("100", ("1", "0", "0")),
        ("100", ("10", "0")),
    ]  # "00" is no token of this vocabulary
    assert "00" not in zoo.llama3().get_vocab()


def test_words_that_go_on():
    """Up to four characters in all ways to cut them, more as the tokenizer does it."""
    tokenizer = zoo.llama3()
    labels = ["good", "goods", "A", "AB", "good, but wrong"]
    space = ScoreSpace.from_labels(labels, tokenizer, values=[1, 2, 3, 4, 5])
    for label, tokens in spelled(space):
        ids = [*space.marker_ids, *tokenizer.convert_tokens_to_ids(tokens)]
        assert tokenizer.decode(ids).endswith(DEFAULT_MARKER + label)
        assert space.locate(ids).label_index == space.labels.index(label)


def test_probabilities_of_two_spellings_by_hand():
    one, ten, zero, two = range(4)
    tree = LabelTree.from_paths([(one,), (two,), (ten,)], [(2, (one, zero))])
    assert tree.context_tokens == (one,) and tree.edges == ((0, one), (0, two), (0, ten), (1, zero))
    assert tree.is_other.tolist() == [False, False, False, True]
    assert tree.labels == {(one,): 0, (two,): 1, (ten,): 2, (one, zero): 2}
    # "1" 0.5, of which a fifth goes on to "0"; "10" in one token 0.3
    edges = torch.tensor([0.5, 0.2, 0.3, 0.2], dtype=torch.float64).log()
    assert tree.label_log_probs(edges).exp().tolist() == pytest.approx([0.4, 0.2, 0.4])
    rest = torch.tensor([0.8], dtype=torch.float64).log()
    assert tree.label_log_probs(edges, rest).exp().tolist() == pytest.approx([0.4, 0.2, 0.4])
    assert [tree.longest_label(text) for text in ([one, zero, zero], [one, two], [zero], [])] == [2, 0, None, None]
    for other in ((2, (one,)), (2, ())):
        with pytest.raises(ValueError, match="holds an empty path, or one twice"):
            LabelTree.from_paths([(one,), (two,), (ten,)], [other])


@pytest.mark.parametrize("name", zoo.SUBWORD)
@pytest.mark.parametrize("labels", ["1-10", "1,10,100", "1-3:0.5"])
def test_what_is_located_is_what_the_tree_counts(name, labels):
    """After every label and every first token of one, with all tokens of numbers and many others behind it."""
    tokenizer = zoo.TOKENIZERS[name]()
    values = [1, 10, 100] if labels == "1,10,100" else None
    space = ScoreSpace.from_labels(labels, tokenizer, values=values)
    start = [*zoo.encode(tokenizer, RATIONALE), *space.marker_ids]
    texts = [tokenizer.decode([token]) for token in range(len(tokenizer))]
    behind = [i for i, text in enumerate(texts) if i % 20 == 0 or any(c.isdigit() or c == "." for c in text)]
    found = 0
    for path in {begun for label in space.tree.labels for begun in (label[:1], label)}:
        for token in behind:
            written = [*path, token]
            text = tokenizer.decode([*start, *written])[len(tokenizer.decode(start[: -len(space.marker_ids)])) :]
            location = space.locate([*start, *written])
            if location.ok:
                found += 1
                assert location.label_index == space.tree.longest_label(written), text
            # Text that is a label is that label, whatever its tokens are
            said = text.removeprefix(f" {DEFAULT_MARKER}")
            if said in space.labels and space.tree.longest_label(written) is not None:
                assert location.ok and space.labels[location.label_index] == said, text
    assert found > 30


# --- the engines -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def judge():
    """A model that writes "1" and then, nearly always, "0", with a tokenizer that has a token for "10"."""
    tokenizer = zoo.llama3()
    space = ScoreSpace.from_labels("1-10", tokenizer)
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=len(tokenizer), **shape, bos_token_id=None, eos_token_id=0)
    ).double()
    (one,), (zero,), eos = space.token_ids[0], zoo.spell(tokenizer, "0"), tokenizer.eos_token_id
    texts = [[one, zero, eos]] * 6 + [[one, eos], [*space.token_ids[9], eos], [*space.token_ids[6], eos]]
    prompt = tokenizer("Grade it.")["input_ids"]
    rationale = [*zoo.encode(tokenizer, f" {RATIONALE}"), *space.marker_ids]
    rows = [prompt + rationale + text for text in texts]
    width = max(map(len, rows))
    ids = torch.tensor([row + [eos] * (width - len(row)) for row in rows])
    labels = torch.tensor([row + [-100] * (width - len(row)) for row in rows])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        model(ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval(), space, prompt + rationale


def expected_probabilities(judge):
    """By what each of the next two tokens makes of the text."""
    model, space, context = judge
    (one,), (ten,) = space.token_ids[0], space.token_ids[9]
    (zero,) = zoo.spell(space.tokenizer, "0")
    with torch.no_grad():
        first = model(torch.tensor([context])).logits[0, -1].softmax(-1)
        second = model(torch.tensor([[*context, one]])).logits[0, -1].softmax(-1)
    probabilities = [first[path[0]].item() for path in space.token_ids]
    probabilities[0] = (first[one] * (1 - second[zero])).item()
    probabilities[9] = (first[ten] + first[one] * second[zero]).item()
    assert second[zero] > 0.5 and first[one] > 0.5  # it matters
    return probabilities


@pytest.mark.parametrize("way", ["transformers", "token ids", "text", "chat"])
def test_engines_read_ten(judge, way):
    model, space, _ = judge
    decoding = Decoding(do_sample=False, max_new_tokens=24, chat=way == "chat")
    if way == "transformers":
        ((_, judgment),) = TransformersEngine(model, space.tokenizer, space, decoding).judge(["Grade it."])
    else:
        with serve(TinyServer(model, space.tokenizer, extensions=way == "token ids", most_logprobs=600)) as url:
            api = "chat" if way == "chat" else "completions"
            engine = ServerEngine(url, MODEL_NAME, space.tokenizer, space, decoding, api=api, top_logprobs=533)
            ((_, judgment),) = engine.judge(["Grade it."])
    assert judgment.completion.endswith(f"{DEFAULT_MARKER}10")
    assert (judgment.status, judgment.sampled_score) == ("ok", 10.0)
    assert list(judgment.probabilities.values()) == pytest.approx(expected_probabilities(judge), abs=1e-6)
    assert judgment.expected_score == pytest.approx(
        sum(p * value for p, value in zip(judgment.probabilities.values(), space.values, strict=True)), abs=1e-6
    )


@pytest.mark.parametrize("extensions", [True, False])
def test_no_request_where_another_spelling_is_next_to_impossible(judge, extensions):
    """One request where "1" has less than 1e-6; the label is then known by its own tokens."""
    model, space, _ = judge
    (one,) = space.token_ids[0]
    model = type(model)(model.config).double()
    model.load_state_dict(judge[0].state_dict())
    with torch.no_grad():
        model.lm_head.weight[one] = 0  # far below what it writes
        model.lm_head.weight *= 3
    server = TinyServer(model.eval(), space.tokenizer, extensions=extensions, most_logprobs=600)
    with serve(server) as url:
        decoding = Decoding(do_sample=False, max_new_tokens=24)
        engine = ServerEngine(url, MODEL_NAME, space.tokenizer, space, decoding, top_logprobs=533)
        before = len(server.bodies)
        ((_, judgment),) = engine.judge(["Grade it."])
    assert len(server.bodies) - before == 1
    assert judgment.probabilities[space.labels[9]] > 0.1 and judgment.probabilities[space.labels[0]] < 1e-6
