// Substitution of names that are not in the vocabulary, as in `world/name_substitution.py`, which states the rules.

const GROUP_BEFORE = new Map([["River", "river"], ["Prize", "prize"]]);  // the word behind a name -> the name's group
const KIND = "company kind", COMPANY = "company", PROVINCE = "province", TOWN = "town";
const TITLE = ["title adjective", "title noun"], PERSON = ["given name", "surname"];

const capital = word => /^\p{Uppercase}/u.test(word);

export class NameSubstituter {
  /** groups: group name -> ids of its tokens, as in groups.json. Any token may stand for any other of its group. */
  constructor(tokenizer, groups) {
    Object.assign(this, {tokenizer, groups});
    this.unknown = tokenizer.unknown_id;
    this.group = new Map(Object.entries(groups).flatMap(([name, ids]) => ids.map(id => [id, name])));
  }

  /**
   * The substitutions before, and one more for each new name in some texts, in order of appearance.
   * Substitutions are {names: word -> token id, used: ids that no further word may take}.
   */
  substitute(texts, before = {names: new Map(), used: new Set()}) {
    const lines = texts.map(text => this.tokenizer.words(text)), names = new Map(before.names);
    const given = new Set([...before.names.values()].filter(id => id !== this.unknown));
    const used = new Set([...before.used, ...lines.flatMap(line => line.map(([id]) => id))]);
    for (const [word, group] of this.new_names(lines, before.names, given)) {
      const token = (this.groups[group] ?? []).find(id => !used.has(id)) ?? this.unknown;
      names.set(word, token);
      used.add(token);
    }
    return {names, used};
  }

  /**
   * How a question and its passages are read: the tokenizer, substituted: word -> the name that replaces it, and the
   * unknown words. The passages are read first, so that a name has the same token everywhere.
   */
  read(question, passages) {
    const {names} = this.substitute([question], this.substitute(passages));
    const tokenizer = this.tokenizer.substituting(names);
    const lines = [question, ...passages].map(text => tokenizer.words(text));
    const words = new Map(lines.flat().map(([id, word]) => [word, id]));
    const unknown = [...words.keys()].filter(word => words.get(word) === this.unknown);
    const replaced = [...words.keys()].filter(word => names.has(word) && words.get(word) !== this.unknown);
    const substituted = new Map(replaced.map(word => [word, this.tokenizer.pieces([words.get(word)])[0]]));
    return {tokenizer, substituted, unknown};
  }

  /** Words that need a token, each with the group that most of its occurrences suggest. */
  new_names(lines, names, given) {
    const guesses = new Map();
    for (const line of lines) {
      line.forEach(([id, word], at) => {
        if (names.has(word) || !(given.has(id) || this.is_unknown_name(id, word))) return;
        if (!guesses.has(word)) guesses.set(word, new Map());
        const group = given.has(id) ? this.group.get(id) : this.guess(line, at), found = guesses.get(word);
        if (group) found.set(group, (found.get(group) ?? 0) + 1);
      });
    }
    return [...guesses].map(([word, found]) => [word, [...found].sort((a, b) => b[1] - a[1])[0]?.[0] ?? TOWN]);
  }

  is_unknown_name(id, word) {
    return id === this.unknown && capital(word);
  }

  is_name(id, word) {
    return this.is_unknown_name(id, word) || (this.group.has(id) && capital(word));
  }

  /** The group that the neighbours of a word suggest; empty if they suggest none. */
  guess(line, at) {
    const word_at = i => line[i]?.[1];
    if (at + 1 < line.length) {
      const [id, word] = line[at + 1];
      if (GROUP_BEFORE.has(word) || this.group.get(id) === KIND) return GROUP_BEFORE.get(word) ?? COMPANY;
    }
    if (word_at(at - 2) === "province" && word_at(at - 1) === "of") return PROVINCE;
    let start = at, end = at;
    while (start > 0 && this.is_name(...line[start - 1])) start--;
    while (end < line.length && this.is_name(...line[end])) end++;
    if (word_at(start - 1) === "The") return TITLE[at > start || end - start === 1 ? 1 : 0];
    return end - start > 1 ? PERSON[at > start ? 1 : 0] : "";
  }
}
