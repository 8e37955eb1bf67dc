//! A small reader of JSON.

pub enum Json {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Json>),
    Map(Vec<(String, Json)>),
}

impl Json {
    /// The value of a key, as in `config.get("glimmer").get("m")`; null if there is none.
    pub fn get(&self, key: &str) -> &Json {
        match self {
            Json::Map(pairs) => pairs.iter().find(|(name, _)| name == key).map_or(&Json::Null, |(_, x)| x),
            _ => &Json::Null,
        }
    }

    pub fn number(&self) -> Option<f64> {
        if let Json::Number(x) = self { Some(*x) } else { None }
    }

    /// A whole number, such as a size.
    pub fn size(&self) -> usize {
        self.number().expect("a number") as usize
    }

    pub fn text(&self) -> Option<&str> {
        if let Json::Text(x) = self { Some(x) } else { None }
    }

    pub fn truth(&self) -> bool {
        matches!(self, Json::Bool(true))
    }

    pub fn list(&self) -> &[Json] {
        if let Json::List(x) = self { x } else { &[] }
    }

    pub fn map(&self) -> &[(String, Json)] {
        if let Json::Map(x) = self { x } else { &[] }
    }

    pub fn parse(text: &str) -> Json {
        let mut reader = Reader { text: text.as_bytes(), at: 0 };
        let value = reader.value();
        assert!(reader.peek() == 0, "JSON ends at byte {}, but more follows", reader.at);
        value
    }
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    /// The next byte that is no space; 0 at the end.
    fn peek(&mut self) -> u8 {
        while self.at < self.text.len() && self.text[self.at].is_ascii_whitespace() {
            self.at += 1;
        }
        *self.text.get(self.at).unwrap_or(&0)
    }

    fn take(&mut self, byte: u8) {
        assert!(self.peek() == byte, "JSON: expected {:?} at byte {}", byte as char, self.at);
        self.at += 1;
    }

    /// Calls `each` for every item between two brackets.
    fn items(&mut self, begin: u8, end: u8, mut each: impl FnMut(&mut Self)) {
        self.take(begin);
        while self.peek() != end {
            each(self);
            if self.peek() != end {
                self.take(b',');
            }
        }
        self.take(end);
    }

    fn value(&mut self) -> Json {
        match self.peek() {
            b'{' => {
                let mut pairs = Vec::new();
                self.items(b'{', b'}', |r| {
                    let key = r.string();
                    r.take(b':');
                    pairs.push((key, r.value()));
                });
                Json::Map(pairs)
            }
            b'[' => {
                let mut list = Vec::new();
                self.items(b'[', b']', |r| list.push(r.value()));
                Json::List(list)
            }
            b'"' => Json::Text(self.string()),
            _ => self.word(),
        }
    }

    fn word(&mut self) -> Json {
        let begin = self.at;
        while self.at < self.text.len() && (self.text[self.at].is_ascii_alphanumeric() || b"+-.".contains(&self.text[self.at])) {
            self.at += 1;
        }
        match std::str::from_utf8(&self.text[begin..self.at]).unwrap() {
            "null" => Json::Null,
            "true" => Json::Bool(true),
            "false" => Json::Bool(false),
            word => Json::Number(word.parse().unwrap_or_else(|_| panic!("JSON: {word:?} at byte {begin}"))),
        }
    }

    fn string(&mut self) -> String {
        self.take(b'"');
        let mut bytes = Vec::new();
        loop {
            let byte = self.text[self.at];
            self.at += 1;
            match byte {
                b'"' => return String::from_utf8(bytes).expect("UTF-8"),
                b'\\' => {
                    let escaped = self.text[self.at];
                    self.at += 1;
                    let c = match escaped {
                        b'n' => '\n',
                        b't' => '\t',
                        b'r' => '\r',
                        b'b' => '\u{8}',
                        b'f' => '\u{c}',
                        b'u' => {
                            let digits = std::str::from_utf8(&self.text[self.at..self.at + 4]).unwrap();
                            self.at += 4;
                            char::from_u32(u32::from_str_radix(digits, 16).unwrap()).unwrap_or('?')
                        }
                        other => other as char,
                    };
                    bytes.extend(c.to_string().bytes());
                }
                other => bytes.push(other),
            }
        }
    }
}
