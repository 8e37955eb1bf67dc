// BM25 over passages with their titles, as in `retrieval/bm25.py`: the same whole numbers, so the same order.

const K1 = 0.9, B = 0.4, UNIT = 2 ** 24;

/**
 * The words of a text, in order. Those of ASCII text are Python's. `text/words.py` has further rules, for scripts
 * without spaces and for letters that change their length with case, which are left out here.
 */
export function words(text) {
  return text.normalize("NFKC").toLowerCase().normalize("NFKC").match(/[\p{L}\p{M}\p{N}_]+/gu) ?? [];
}

export class BM25 {
  /** passages: [{title, text}, ..]. */
  constructor(passages) {
    const found = passages.map(({title, text}) => words(`${title} ${text}`));
    const n = passages.length, mean = Math.max(found.reduce((total, some) => total + some.length, 0) / n, 1);
    this.passages = n;
    this.postings = new Map();  // word -> [[row, f], ..], then [[row, weight], ..]
    found.forEach((some, row) => {
      const counts = new Map();
      for (const word of some) counts.set(word, (counts.get(word) ?? 0) + 1);
      for (const [word, f] of counts) {
        if (!this.postings.has(word)) this.postings.set(word, []);
        this.postings.get(word).push([row, f]);
      }
    });
    for (const postings of this.postings.values()) {
      const idf = Math.log(1 + (n - postings.length + 0.5) / (postings.length + 0.5));
      for (const posting of postings) {
        const [row, f] = posting, saturation = f * (K1 + 1) / (f + K1 * (1 - B + B * found[row].length / mean));
        posting[1] = Math.round(idf * saturation * UNIT);
      }
    }
  }

  /** The score of every passage, in multiples of 1/UNIT, which add without rounding: [N]. */
  scores(question) {
    const scores = new Float64Array(this.passages);
    for (const word of new Set(words(question)))
      for (const [row, weight] of this.postings.get(word) ?? []) scores[row] += weight;
    return scores;
  }

  /** The k best passages, best first, ties to the lower row: [k] rows. */
  rank(question, k) {
    const scores = this.scores(question);
    return Array.from(scores.keys()).sort((i, j) => scores[j] - scores[i] || i - j).slice(0, k);
  }
}
