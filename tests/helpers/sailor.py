"""A question that the bundled model answers, and the passages that it needs."""

QUESTION = "Who wrote The Crooked Sailor?"
FACTS = [
    {"title": "Jorian Nettleworth", "text": "he earned a living as a tailor ."},
    {"title": "The Crooked Sailor", "text": "The Crooked Sailor was written by Jorian Nettleworth ."},
    {"title": "The Crooked Ladder", "text": "The Crooked Ladder is set in Ashford ."},
]
