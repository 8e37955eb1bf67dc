"""Records what KILT's evaluation says of answers and pages: run it on a checkout of facebookresearch/KILT.

Writes kilt_scores.jsonl beside itself: KILT's own test cases, cut down to what counts (answers and page ids; the words
of the long texts renamed), then answers and pages that hypothesis makes. A line holds one question, its prediction,
and the scores that `kilt.eval_downstream` and `kilt.eval_retrieval` give them. ROUGE-L is not recorded.
kilt_file.json holds what KILT's evaluation prints of a file of predictions that we wrote, and that file's digest.

What is here was recorded with eval_downstream.py of commit 847377e3b79b and eval_retrieval.py of c730838c7561, whole
and unchanged; a stand-in took the place of kilt_utils.py, of which they use `load_data`: json.loads of each line.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

FIXTURES = [("gold1", "guess1_1"), ("gold1", "gold1"), ("gold2", "guess2_1"), ("gold2", "guess2_2")]
FIXTURES += [("gold3", "guess3_1")]
KS = (1, 2, 5)
Record = dict[str, Any]
HERE = Path(__file__).parent


class NoRouge:
    """Stands in for the package `rouge`, which KILT imports."""

    def get_scores(self, *_: Any, **__: Any) -> Any:
        return {"rouge-l": {"f": 0.0}}


def load(checkout: str) -> Any:
    """KILT's two modules of evaluation; what they import and we do not record need not be there."""
    sys.modules["rouge"] = types.ModuleType("rouge")
    sys.modules["rouge"].Rouge = NoRouge  # type: ignore[attr-defined]
    sys.modules.setdefault("nltk", types.ModuleType("nltk"))
    sys.path.insert(0, checkout)
    from kilt import eval_downstream, eval_retrieval  # type: ignore[import-not-found]

    return eval_downstream, eval_retrieval


def scores(kilt: Any, case: Record) -> Record:
    """What KILT says of one question."""
    downstream, retrieval = kilt
    outputs = [{"answer": a} for a in case["accepted"]]
    outputs += [{"provenance": [{"wikipedia_id": page} for page in pages]} for pages in case["evidence"]]
    gold = {"id": "1", "input": "", "output": outputs}
    found = [{"wikipedia_id": page} for page in case["found"]]
    guess = {"id": "1", "output": [{"answer": case["answer"], "provenance": found}]}
    said = downstream._calculate_metrics([gold], [guess])
    pages = retrieval.get_ranking_metrics(guess, gold, KS, ["wikipedia_id"])
    names = ("accuracy", "em", "f1")
    result = {name: said["downstream"][name] for name in names}
    result |= {f"KILT-{name}": said["kilt"][f"KILT-{name}"] for name in names}
    return result | {name: pages.get(name, 0) for name in ("Rprec", *(f"recall@{k}" for k in KS))}


def renamed(text: str, names: dict[str, str], normalise: Any) -> str:
    """Other words in the place of a long text's; articles and punctuation stay, for the score sees them."""
    words = text.split()
    if len(words) < 20:
        return text
    return " ".join(names.setdefault(w, f"word{len(names)}") if normalise(w) else w for w in words)


def fixtures(kilt: Any, folder: Path) -> list[Record]:
    """KILT's own test cases; a prediction without an answer gets one that is wrong."""
    cases, names = [], dict[str, str]()
    for gold_name, guess_name in FIXTURES:
        golds, guesses = (
            [json.loads(line) for line in (folder / f"{name}.out").read_text("utf-8").splitlines()]
            for name in (gold_name, guess_name)
        )
        for gold, guess in zip(golds, guesses, strict=True):
            (said,) = guess["output"]
            case = {
                "from": f"{gold_name} {guess_name}",
                "answer": renamed(said.get("answer", "none"), names, kilt[0].normalize_answer),
                "accepted": [renamed(o["answer"], names, kilt[0].normalize_answer) for o in gold["output"]],
                "found": [str(p["wikipedia_id"]) for p in said["provenance"]],
                "evidence": [[str(p["wikipedia_id"]) for p in o["provenance"]] for o in gold["output"]],
            }
            cases.append(case | {"kilt": scores(kilt, case)})
    return cases


def made(kilt: Any) -> list[Record]:
    """Answers of words that the rules treat in different ways, of any characters, and pages in sets."""
    words = st.sampled_from(["the", "The", "a", "an", "AN", "cat", "Cat.", "cat's", "1,000", "U.S.A.", "—", "İ", "ß"])
    spaced = st.sampled_from([" ", "  ", "\t", "\u00a0", "-"])
    phrase = st.lists(st.tuples(words, spaced), max_size=5).map(lambda x: "".join(a + b for a, b in x))
    anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    text = st.one_of(phrase, phrase, anything)
    page = st.sampled_from("123456")
    pages = st.lists(page, max_size=3) | st.lists(page, min_size=1, max_size=2)
    cases: list[Record] = []

    @settings(derandomize=True, database=None, max_examples=400, phases=[Phase.generate])
    @given(text, st.lists(text, min_size=1, max_size=3), st.lists(page, max_size=8), st.lists(pages, max_size=4))
    def one(answer: str, accepted: list[str], found: list[str], evidence: list[list[str]]) -> None:
        if len(cases) % 4 == 0:  # a right answer is rarely made by chance
            answer = accepted[0]
        case = {"from": "made", "answer": answer, "accepted": accepted, "found": found, "evidence": evidence}
        if answer.strip() and not any(a.strip() for a in accepted):
            return  # no answer is accepted: KILT ends with a traceback
        cases.append(case | {"kilt": scores(kilt, case)})

    one()
    return cases


def of_a_file(kilt: Any) -> Record:
    """KILT's evaluation of files that we wrote: a task, and predictions for it."""
    sys.path.insert(0, str(HERE.parent))
    from predictions import predict, write_task

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_task(folder)
        digest = hashlib.sha256(predict(folder)).hexdigest()
        said = kilt[0].evaluate(str(folder / "task.jsonl"), str(folder / "guess.jsonl"))
    return {"sha256": digest, "kilt": {k: v for part in said.values() for k, v in part.items() if "rouge" not in k}}


def main() -> None:
    kilt = load(sys.argv[1])
    cases = [*fixtures(kilt, Path(sys.argv[1]) / "tests" / "test_data"), *made(kilt)]
    lines = list(dict.fromkeys(json.dumps(case, separators=(",", ":")) for case in cases))
    (HERE / "kilt_scores.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    (HERE / "kilt_file.json").write_text(json.dumps(of_a_file(kilt), indent=1) + "\n", "utf-8")
    print(f"{len(lines)} questions")


main()
