"""All relations of a world, filler sentences, and the templates of questions with two clues."""

from __future__ import annotations

from .companies_books import BOOKS, COMPANIES
from .people_towns import PEOPLE, TOWNS

RELATIONS = PEOPLE + TOWNS + COMPANIES + BOOKS

# Filler sentences, which state no fact. {s} is the page's subject; other braces stand for entities of these kinds.
FILLER = (
    "{s} was the topic of a long talk",
    "visitors speak well of {s}",
    "{person} once dreamt of {s}",
    "no two guidebooks agree about {s}",
    "an old song about {s} is still hummed",
    "{company} named a sandwich in honor of {s}",
    "some people refuse to discuss {s}",
    "rumors about {s} travel by boat",
    "{s} is mentioned twice in {book}",
    "children like to draw pictures of {s}",
    "very little rhymes with {s}",
    "somebody keeps a thick file on {s}",
    "a footnote somewhere is rude about {s}",
    "much ink was wasted on {s}",
)

# Questions with the clues a and b about one entity of a kind. The clues are in one passage, or in two.
ONE_PASSAGE = ("which {kind} {a} and {b}?", "name the {kind} that {a} and {b}.")
TWO_PASSAGES = ("which {kind} {a} and also {b}?", "find the {kind} that {a} and also {b}.")
