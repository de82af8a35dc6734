# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Judge prompts that a 135M model answers in the right form: two graded examples, then the answer to be graded."""

EXAMPLES = """Grade each answer {scale}.

Question: What is the capital of Italy?
Answer: Rome is the capital of Italy.
Feedback: The answer names the right city and is written clearly. So the overall score is {high}

Question: How many legs does a spider have?
Answer: A spider has six legs, like every insect.
Feedback: The answer is wrong, since spiders have eight legs and are no insects. So the overall score is {low}

"""

ANSWERS = (
    ("What is the boiling point of water?", "Water boils at 100 degrees Celsius at sea level."),
    ("Who wrote Hamlet?", "Hamlet."),
    ("Name two noble gases.", "Helium is one, and oxygen is another one, I think."),
    (
        "Why is the sky blue?",
        "Sunlight is scattered by the molecules of the air, and short waves are scattered far more than long ones. Blue light "
        "therefore reaches our eyes from every direction, while at sunset the light has come such a long way through the air "
        "that most of the blue is gone and red is left.",
    ),
    ("What is 17 times 3?", "It is 51."),
    ("Translate 'good morning' into French.", "Bonne nuit, which people say when they go to bed in the evening."),
    ("List the planets between the sun and the earth.", "Mercury, Venus"),
    ("What should I do if my phone gets wet?", "Turn it off, dry it with a cloth and let it rest for a day or two."),
)


def prompts(scale: str = "from 1 to 5", low: str = "1", high: str = "5") -> list[str]:
    """Eight prompts of differing lengths that end where the feedback begins."""
    examples = EXAMPLES.format(scale=scale, low=low, high=high)
    return [f"{examples}Question: {question}\nAnswer: {answer}\nFeedback:" for question, answer in ANSWERS]
