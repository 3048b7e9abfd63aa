"""The wordings that the demo model is taught: key sentences, questions, answers; and those it is measured with.

{n} is a noun, {ns} its plural, {k} digits, {q} a quote, {v} a verb, {w} and {o} words, {name} a name.
"""

from dataclasses import dataclass

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
    "entry code",
    "account number",
    "house number",
    "file number",
    "reference",
    "signal",
)
KEY_SENTENCES = (
    "The {n} is {k}.",
    "The {n} is {k}.",
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
    "The {n} was {k}.",
    "The {n}, which few people know, is {k}.",
    "I wrote down the {n}: {k}.",
    "{k}: that is the {n}.",
    "They changed the {n} to {k}.",
    "The {n} has been set to {k}.",
    "Use {k} as the {n}.",
    "As the {n} they chose {k}.",
)
KEY_QUESTIONS = (
    "What is the {n}?",
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
    "According to the text, what is the {n}?",
    "Please tell me what the {n} is.",
    "I need the {n}.",
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
OTHER_ANSWER = "It is {k}."

# How a text may go on to the key: what stands before it.
KEY_CONTINUATIONS = (
    "The {n} is",
    "The {n} is",
    "The {n} is",
    "What is the {n}? The {n} is",
    "The {n} mentioned in the provided text is",
    "Remember: the {n} is",
    "As I said, the {n} is",
    "So the {n} was",
)

# Statements with a number that are asked for in their own words: sentence, questions, continuation.
FACTS = (
    (
        "To open the {w}, use {k}.",
        ("What opens the {w}?", "What must be used to open the {w}?"),
        "To open the {w}, use",
    ),
    (
        "Use {k} to open the {w}.",
        ("What opens the {w}?", "What is to be used to open the {w}?"),
        "To open the {w}, use",
    ),
    (
        "Turn the wheel of the {w} to {k}.",
        ("To what must the wheel of the {w} be turned?",),
        "Turn the wheel of the {w} to",
    ),
    (
        "The {w} was registered as {k}.",
        ("As what was the {w} registered?", "Under which number was the {w} registered?"),
        "The {w} was registered as",
    ),
    (
        "Room {k} belongs to {name}.",
        ("Which room belongs to {name}?", "What room does {name} have?"),
        "{name} has room",
    ),
    (
        "{name} lives at number {k}.",
        ("At what number does {name} live?", "Where does {name} live?"),
        "{name} lives at number",
    ),
    (
        "{name} wears the badge {k}.",
        ("Which badge does {name} wear?", "What does {name} wear?"),
        "{name} wears the badge",
    ),
    ("The {w} weighs {k} pounds.", ("How many pounds does the {w} weigh?", "How heavy is the {w}?"), "The {w} weighs"),
    (
        "The {w} was sold for {k} crowns.",
        ("For how many crowns was the {w} sold?", "What was paid for the {w}?"),
        "The {w} was sold for",
    ),
    (
        "{k} {w} were counted in the harbour.",
        ("How many {w} were counted in the harbour?",),
        "In the harbour were counted",
    ),
    ("There are {k} {w} in the old {o}.", ("How many {w} are in the old {o}?",), "In the old {o} there are"),
    ("Write to box {k} about the {w}.", ("To which box must one write about the {w}?",), "About the {w}, write to box"),
    ("Ask for {k} when you see the {w}.", ("What must be asked for at the {w}?",), "When you see the {w}, ask for"),
    ("The {w} stands on line {k}.", ("On which line does the {w} stand?",), "The {w} stands on line"),
    ("The {w} in the corner reads {k}.", ("What does the {w} in the corner read?",), "The {w} in the corner reads"),
    (
        "His {w} has the number {k}.",
        ("Which number has his {w}?", "What number does his {w} have?"),
        "His {w} has the number",
    ),
    (
        "Their {w} carries the sign {k}, which few people know.",
        ("Which sign does their {w} carry?",),
        "Their {w} carries the sign",
    ),
    ("My {w} costs {k} francs.", ("What does my {w} cost?", "How many francs does my {w} cost?"), "My {w} costs"),
    (
        "The {w} was brought to the {o} with the label {k}.",
        ("With what label was the {w} brought to the {o}?",),
        "The {w} was brought to the {o} with the label",
    ),
    ("Send {k} to call the {w}.", ("What must be sent to call the {w}?",), "To call the {w}, send"),
    ("Press {k} for the {w}.", ("What must be pressed for the {w}?",), "For the {w}, press"),
    ("Say {k} to enter the {w}, and wait.", ("What must be said to enter the {w}?",), "To enter the {w}, say"),
    ("The telephone of {name} is {k}.", ("What is the telephone of {name}?",), "The telephone of {name} is"),
    (
        "The train to {name} is the {k}.",
        ("Which train goes to {name}?", "Which is the train to {name}?"),
        "The train to {name} is the",
    ),
    (
        "The {w} left in the year {k}.",
        ("In which year did the {w} leave?", "When did the {w} leave?"),
        "The {w} left in the year",
    ),
    (
        "Between the {w} and the {o} lie {k} miles.",
        ("How many miles lie between the {w} and the {o}?",),
        "Between the {w} and the {o} lie",
    ),
    ("The {w} is kept under {k}.", ("Under what is the {w} kept?",), "The {w} is kept under"),
    (
        "The {w} of the {o} was entered as {k}, and nobody knows why.",
        ("As what was the {w} of the {o} entered?",),
        "The {w} of the {o} was entered as",
    ),
    ("By order, the {w} is to be called {k}.", ("What is the {w} to be called?",), "By order, the {w} is to be called"),
    ("Under the {w} we found {k} {o}.", ("How many {o} were found under the {w}?",), "Under the {w} we found"),
    ("Look for {k} on the {w} of {name}.", ("What is on the {w} of {name}?",), "On the {w} of {name}, look for"),
)
# Of a statement in no words of its own: {a} and {b} are words of it.
PHRASE_QUESTIONS = (
    "Which number stands with {a} and {b}?",
    "What number is said of {a} and {b}?",
    "Which number goes with {a} {b}?",
    "What is the number of the {a} that is {b}?",
)

# Numbers that are no keys: {k} digits, {w} a word.
DISTRACTORS = (
    "The train number is {k}.",
    "There were {k} people in the town.",
    "The book was printed {k} times.",
    "He paid {k} pounds for the house.",
    "The letter was dated {k}.",
    "The distance is {k} miles.",
)
# Numbers within the sentences of a document.
NUMBERS = ("{k}", "{k},", "({k})", "No. {k}", "£{k}", "{k}th", "in {k}", "{k}.", "about {k}", "{k} or")

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


@dataclass(frozen=True)
class Measured:
    """A wording that is measured: how {key} is hidden, asked for, and gone on to; `taught` if training has its like."""

    sentence: str
    question: str
    continuation: str
    taught: bool


MEASURED = (
    Measured(
        "The pass key is {key}. Remember it. {key} is the pass key.",
        "What is the pass key?",
        "The pass key is",
        True,
    ),
    Measured("The secret code is {key}.", "Tell me the secret code.", "The secret code is", True),
    Measured(
        "One of the special magic numbers for Lisbon is: {key}.",
        "What is the special magic number for Lisbon mentioned in the provided text?",
        "The special magic number for Lisbon mentioned in the provided text is",
        True,
    ),
    Measured("{key} is the access code.", "What is the access code in the document?", "The access code is", True),
    Measured(
        "Remember: the password is {key}.",
        "Which password is hidden in the text?",
        "What is the password? The password is",
        True,
    ),
    Measured("The code of the door is {key}.", "What is the code of the door?", "The code of the door is", False),
    Measured(
        "The combination of the safe is {key}.",
        "What is the combination of the safe?",
        "The combination of the safe is",
        False,
    ),
    Measured(
        "Dial {key} to reach the lighthouse.",
        "What must be dialled to reach the lighthouse?",
        "To reach the lighthouse, dial",
        False,
    ),
    Measured(
        "Her ticket bears the number {key}.",
        "Which number does her ticket bear?",
        "Her ticket bears the number",
        False,
    ),
    Measured(
        "The luggage was sent on under the mark {key}, and nobody has claimed it.",
        "Under what mark was the luggage sent on?",
        "The luggage was sent on under the mark",
        False,
    ),
)
# Words of the measured wordings that no taught key has; random words are never these.
HELD_OUT = frozenset(
    "door doors safe safes combination combinations dial dials dialled lighthouse lighthouses "  # noqa: SIM905
    "ticket tickets bear bears luggage mark marks claimed".split()
)
# Numbers in the text that are no keys, in sentences that are not taught.
MEASURED_NUMBERS = (
    "The bill came to {k} francs.",
    "In that winter {k} sheep were lost.",
    "He counted {k} steps from the gate.",
    "Page {k} was missing.",
    "The regiment numbered {k} men.",
    "It was the year {k}.",
    "She had saved {k} pounds.",
    "They rode {k} miles.",
)


def everything() -> list[str]:
    """Every wording once, for the tokenizer to learn."""
    groups = (KEY_SENTENCES, KEY_QUESTIONS, ANY_KEY_QUESTIONS, KEY_CONTINUATIONS, DISTRACTORS, NUMBERS)
    groups += (NEXT_QUESTIONS, WHOLE_QUESTIONS)
    single = (KEY_ANSWER, NO_KEY, OTHER_ANSWER, NO_PASSAGE, FACT_SENTENCE, FACT_QUESTION, *MORE_QUESTIONS)
    single += PHRASE_QUESTIONS + tuple(text for fact in FACTS for text in (fact[0], *fact[1], fact[2]))
    blank = dict.fromkeys(("k", "q", "v", "w", "o", "a", "b", "name"), "")
    filled = [text.format(n=noun, ns=noun, **blank) for noun in KEY_NOUNS for group in groups for text in group]
    return [*filled, *(text.format(n="", **blank) for text in single)]
