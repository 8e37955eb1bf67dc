// The guided tour: steps over the stages of the page, each with one sentence.

export const TOUR = [
  {stage: "question", symbol: "Q", says: "A question arrives, and the tokenizer cuts it into tokens."},
  {
    stage: "retrieval",
    symbol: "Passage_1 .. Passage_k",
    says: "An index of words finds k passages that share rare words with the question, without understanding them.",
  },
  {
    stage: "memory",
    symbol: "MemEnc(Passage_i)",
    says: "The first layers have read every passage long before the question: its states are only read from the store.",
  },
  {
    stage: "live_a",
    symbol: "H_i = [MemEnc(Q); MemEnc(Passage_i)]",
    says: "The question passes the same first layers, and its states are put in front of those of each passage.",
  },
  {
    stage: "live_a",
    symbol: "H'_i = LiveEncA(H_i)",
    says: "In live-A the question and a passage first see each other; choose a token to see where it looks.",
  },
  {
    stage: "scores",
    symbol: "Score(H'_i)",
    says: "The first token of each pair gives a score, which tells useful passages from those that only share words.",
  },
  {
    stage: "scores",
    symbol: "Rank[Score(H'_i)] = j <= m",
    says: "Only the best m passages go on: drag the line and watch which ones fade, and whether the answer changes.",
  },
  {
    stage: "live_b",
    symbol: "LiveEncB(R_j)",
    says: "The remaining layers work only for the selected pairs, and this is where GLIMMER saves most.",
  },
  {
    stage: "decoder",
    symbol: "Dec[Q; LiveEncB(R_1); .. LiveEncB(R_m)]",
    says: "The decoder writes token by token, and at each step it looks at the states of all selected pairs.",
  },
  {
    stage: "answer",
    symbol: "G",
    says: "The answer stands beside its log probability; ask another question, or let LUMEN or FiD answer this one.",
  },
  {
    stage: "cost",
    symbol: "F_FiD, F_lumen, F_glimmer",
    says: "FiD encodes all k passages anew, LUMEN runs all live layers for all k, GLIMMER the last ones for m only.",
  },
];
