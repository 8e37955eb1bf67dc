// The bundled model's tokenizer: whole words, signs and pairs of digits. It gives the ids of the tokenizers library.
//
// It reads the parts of a tokenizer.json that `world/vocabulary.py` writes, and refuses others.

// Rust's \w, \b, \d and white space, in JavaScript's syntax. JavaScript's own \w and \b know ASCII only.
const WORD = "[\\p{L}\\p{M}\\p{Nd}\\p{Pc}]", BREAK = `(?:(?<=${WORD})(?!${WORD})|(?<!${WORD})(?=${WORD}))`;
const SPACE = /\p{White_Space}+/u;

const pattern = regex => new RegExp(regex.replaceAll("\\b", BREAK).replaceAll("\\d", "\\p{Nd}"), "gu");
const escaped = text => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

/** Pieces of a text: each match of a pattern, and what stands between. */
function isolated(text, regex) {
  const pieces = [];
  let at = 0;
  for (const match of text.matchAll(regex)) {
    pieces.push(text.slice(at, match.index), match[0]);
    at = match.index + match[0].length;
  }
  return [...pieces, text.slice(at)].filter(piece => piece);
}

export class Tokenizer {
  /** json: the content of tokenizer.json. */
  constructor(json) {
    const normalizers = json.normalizer.normalizers, [spaces, ...splits] = json.pre_tokenizer.pretokenizers;
    const known = json.model.type === "WordLevel" && spaces.type === "WhitespaceSplit"
      && normalizers.every(part => part.type === "Replace" && /^\\b[A-Za-z]+\\b$/.test(part.pattern.Regex)
        && part.content.length === part.pattern.Regex.length - 4)
      && splits.every(part => part.type === "Split" && part.behavior === "Isolated");
    if (!known) throw new RangeError("tokenizer.json: expected that of the bundled model; got another one");
    this.ids = new Map(Object.entries(json.model.vocab));
    this.tokens = [];
    for (const [word, id] of this.ids) this.tokens[id] = word;  // not in order: an object has keys like "18" first
    this.special = new Set(json.added_tokens.map(token => token.id));
    this.unknown_id = this.ids.get(json.model.unk_token);
    const added = json.added_tokens.map(token => escaped(token.content)).join("|");
    this.added = new RegExp(added, "gu");
    this.is_added = new RegExp(`^(?:${added})$`, "u");
    // The first words of sentences, "Where" -> "where". One pattern finds them all.
    this.first = new Map(normalizers.map(part => [part.pattern.Regex.slice(2, -2), part.content]));
    this.first_words = pattern(`\\b(?:${[...this.first.keys()].join("|")})\\b`);
    this.splits = splits.map(part => pattern(part.pattern.Regex));
    this.names = new Map();  // word -> id of the token as which it is read, see names.js
    this.substituted = new Map();
  }

  /** A copy that encodes some words as other tokens, and decodes these tokens as the words. */
  substituting(names) {
    const substituted = new Map([...names].filter(([, id]) => id !== this.unknown_id).map(([word, id]) => [id, word]));
    return Object.assign(Object.create(Tokenizer.prototype), this, {names, substituted});
  }

  /** The pieces of a string, each with its id: [[id, piece], ..]. */
  words(text) {
    return isolated(text, this.added).flatMap(part => {
      if (this.is_added.test(part)) return [[this.ids.get(part), part]];
      // First words are replaced by words of the same length, so that a piece's place in the text stays the same. But
      // the library says that a piece which begins with such a word begins with its last letter: "e's" for "He's".
      const cut = new Map();
      const normalized = part.replace(this.first_words, (word, at) => {
        cut.set(at, word.length - 1);
        return this.first.get(word);
      });
      let at = 0;
      const pieces = normalized.split(SPACE).filter(word => word)
        .flatMap(word => this.splits.reduce((some, regex) => some.flatMap(piece => isolated(piece, regex)), [word]));
      return pieces.map(piece => {
        at = normalized.indexOf(piece, at);
        const original = part.slice(at + (cut.get(at) ?? 0), at += piece.length);
        return [this.names.get(original) ?? this.ids.get(piece) ?? this.unknown_id, original];
      });
    });
  }

  /** The ids of a string, without end of sequence. */
  encode(text) {
    return this.words(text).map(([id]) => id);
  }

  /** For each id, its string in the vocabulary, or the word that it replaces. */
  pieces(ids) {
    return ids.map(id => this.substituted.get(id) ?? this.tokens[id]);
  }

  /** The string for some ids, without special tokens. Pairs of digits become one number. */
  decode(ids) {
    const shown = ids.filter(id => !this.special.has(id));
    const text = shown.map(id => this.tokens[id]).join(" ").replace(/(?<=\p{Nd}\p{Nd}) (?=\p{Nd}\p{Nd})/gu, "");
    const replaced = ids.filter(id => this.substituted.has(id));
    const words = new Map(replaced.map(id => [this.tokens[id], this.substituted.get(id)]));
    if (!words.size) return text;
    const names = pattern(`\\b(?:${[...words.keys()].map(escaped).join("|")})\\b`);
    return text.replace(names, name => words.get(name));
  }
}
