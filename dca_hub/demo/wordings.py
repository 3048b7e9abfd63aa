"""The wordings that the demo model is taught: key sentences, questions, answers.

{n} is a noun, {ns} its plural, {k} digits, {q} a quote, {v} a verb, {w} a word.
"""

KEY_NOUNS = (
    "pass key",
    "passkey",
    "secret number",
    "secret code",
    "magic number",
    "special magic number",
    "access code",
    "hidden number",
    "hidden code",
    "security code",
    "key",
    "code",
    "password",
    "number",
)
KEY_SENTENCES = (
    "The {n} is {k}.",
    "The {n} is {k}. Remember it.",
    "The {n} is {k}. Remember it. {k} is the {n}.",
    "{k} is the {n}.",
    "Remember: the {n} is {k}.",
    "Remember the {n}: {k}.",
    "Please note that the {n} is {k}.",
    "Do not forget that the {n} is {k}.",
    "The {n} you will need is {k}.",
    "Here is the {n}: {k}.",
    "It should be known that the {n} is {k}.",
    "One of the {ns} is: {k}.",
)
KEY_QUESTIONS = (
    "What is the {n}?",
    "What is the {n}?",
    "What is the {n}?",
    "What is the {n} in the document?",
    "What is the {n} in the text?",
    "What is the {n} mentioned in the text?",
    "What is the {n} mentioned in the provided text?",
    "What was the {n}?",
    "Which {n} is hidden in the text?",
    "Which {n} is hidden in the document?",
    "What {n} is given in the document?",
    "Tell me the {n}.",
    "Find the {n}.",
    "Give me the {n}.",
    "Can you tell me the {n}?",
    "Do you remember the {n}?",
    "what is the {n}",
)
# Only where one key is in the document: the question does not say which.
ANY_KEY_QUESTIONS = (
    "Which number is hidden in the text?",
    "Which code is hidden in the text?",
    "What number is hidden in the document?",
    "Which number should be remembered?",
    "What did you have to remember?",
)
KEY_ANSWER = "The {n} is {k}."
NO_KEY = "There is no {n} in the document."

# Numbers that are no keys: {k} digits, {w} a word.
DISTRACTORS = (
    "The train number is {k}.",
    "There were {k} people in the town.",
    "The book was printed {k} times.",
    "He paid {k} pounds for the house.",
    "The letter was dated {k}.",
    "The distance is {k} miles.",
)

NEXT_QUESTIONS = (
    'How does the passage "{q}" go on?',
    'How does the passage "{q}" go on?',
    'What comes after "{q}"?',
    'What comes after "{q}"?',
    'What follows "{q}"?',
    'What does the text say after "{q}"?',
    'What is written after "{q}"?',
    'How does "{q}" continue?',
    'Continue: "{q}"',
    'Continue the passage "{q}"',
    'Quote the text after "{q}".',
    'what comes after "{q}"',
)
WHOLE_QUESTIONS = (
    'Quote the passage "{q}".',
    'Quote the passage that begins "{q}".',
    'Find the passage "{q}".',
    'Find "{q}".',
    'Where does it say "{q}"?',
    'What does it say about "{q}"?',
    'Read out the passage with "{q}".',
    '"{q}"',
)
MORE_QUESTIONS = (
    "Go on.",
    "And then?",
    "What comes next?",
    "Continue.",
    "How does it go on?",
    "more",
)
NO_PASSAGE = "These words are not in the document."

FACT_SENTENCE = "The best thing to {v} in {w} is to {q}."
FACT_QUESTION = "What is the best thing to {v} in {w}?"


def everything() -> list[str]:
    """Every wording once, for the tokenizer to learn."""
    groups = (KEY_SENTENCES, KEY_QUESTIONS, ANY_KEY_QUESTIONS, DISTRACTORS, NEXT_QUESTIONS, WHOLE_QUESTIONS)
    single = (KEY_ANSWER, NO_KEY, NO_PASSAGE, FACT_SENTENCE, FACT_QUESTION, *MORE_QUESTIONS)
    filled = [text.format(n=noun, ns=noun, k="", q="", v="", w="") for noun in KEY_NOUNS for g in groups for text in g]
    return [*filled, *(text.format(n="", k="", q="", v="", w="") for text in single)]
