//! Template text to tokens.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Error,
    Bool,
    Char,
    CharConstant,
    Complex,
    Assign,
    Declare,
    Eof,
    Field,
    Identifier,
    LeftDelim,
    LeftParen,
    Number,
    Pipe,
    RawString,
    RightDelim,
    RightParen,
    Space,
    Str,
    Text,
    Variable,
    Block,
    Break,
    Continue,
    Dot,
    Define,
    Else,
    End,
    If,
    Nil,
    Range,
    Template,
    With,
}

impl Kind {
    fn is_keyword(self) -> bool {
        matches!(
            self,
            Self::Block
                | Self::Break
                | Self::Continue
                | Self::Dot
                | Self::Define
                | Self::Else
                | Self::End
                | Self::If
                | Self::Nil
                | Self::Range
                | Self::Template
                | Self::With
        )
    }
}

#[derive(Clone, Debug)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) pos: usize,
    pub(super) text: std::borrow::Cow<'a, str>,
    pub(super) line: usize,
}

impl Token<'_> {
    /// The token as parse errors show it.
    pub(super) fn describe(&self) -> String {
        match self.kind {
            Kind::Eof => "EOF".to_owned(),
            Kind::Error => self.text.clone().into_owned(),
            kind if kind.is_keyword() => format!("<{}>", self.text),
            _ if self.text.len() > 10 => {
                let short: String = self.text.chars().take(10).collect();
                format!("{}...", super::printf::quote(&short))
            }
            _ => super::printf::quote(&self.text),
        }
    }
}

pub(super) struct Lexer<'a> {
    input: &'a str,
    pos: usize,
    line: usize,
    paren_depth: usize,
    inside_action: bool,
    failed: bool,
}

const LEFT: &str = "{{";
const RIGHT: &str = "}}";

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_alphanumeric(c: char) -> bool {
    c == '_' || c.is_alphabetic() || c.is_numeric()
}

fn has_left_trim(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 2 && bytes[0] == b'-' && is_space(char::from(bytes[1]))
}

fn has_right_trim(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 2 && is_space(char::from(bytes[0])) && bytes[1] == b'-'
}

impl<'a> Lexer<'a> {
    pub(super) fn new(input: &'a str) -> Self {
        Self { input, pos: 0, line: 1, paren_depth: 0, inside_action: false, failed: false }
    }

    fn rest(&self) -> &'a str {
        &self.input[self.pos..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// A token of the text from `start` to here; moves the line count on.
    fn token(&mut self, kind: Kind, start: usize) -> Token<'a> {
        let text = &self.input[start..self.pos];
        let token = Token { kind, pos: start, text: text.into(), line: self.line };
        self.line += text.bytes().filter(|&b| b == b'\n').count();
        token
    }

    fn advance(&mut self, to: usize) {
        self.line += self.input[self.pos..to].bytes().filter(|&b| b == b'\n').count();
        self.pos = to;
    }

    fn error(&mut self, start: usize, message: String) -> Token<'a> {
        self.failed = true;
        Token { kind: Kind::Error, pos: start, text: message.into(), line: self.line }
    }

    pub(super) fn next(&mut self) -> Token<'a> {
        if self.failed {
            return Token { kind: Kind::Eof, pos: self.pos, text: "EOF".into(), line: self.line };
        }
        if self.inside_action { self.action() } else { self.text() }
    }

    fn text(&mut self) -> Token<'a> {
        loop {
            let start = self.pos;
            let Some(offset) = self.rest().find(LEFT) else {
                self.pos = self.input.len();
                if self.pos > start {
                    return self.token(Kind::Text, start);
                }
                return Token { kind: Kind::Eof, pos: self.pos, text: "EOF".into(), line: self.line };
            };
            if offset > 0 {
                let delim = start + offset;
                let mut end = delim;
                if has_left_trim(&self.input[delim + LEFT.len()..]) {
                    end = start + self.input[start..delim].trim_end_matches(is_space).len();
                }
                self.pos = end;
                let token = self.token(Kind::Text, start);
                self.advance(delim);
                if !token.text.is_empty() {
                    return token;
                }
            }
            if let Some(token) = self.left_delim() {
                return token;
            }
        }
    }

    /// At `{{`: `None` after a comment, which leaves nothing.
    fn left_delim(&mut self) -> Option<Token<'a>> {
        let start = self.pos;
        let after = start + LEFT.len();
        let marker = if has_left_trim(&self.input[after..]) { 2 } else { 0 };
        if self.input[after + marker..].starts_with("/*") {
            return self.comment(after + marker);
        }
        self.pos = after;
        let token = self.token(Kind::LeftDelim, start);
        self.inside_action = true;
        self.advance(after + marker);
        self.paren_depth = 0;
        Some(token)
    }

    fn comment(&mut self, start: usize) -> Option<Token<'a>> {
        self.advance(start);
        let Some(length) = self.input[start + 2..].find("*/") else {
            return Some(self.error(start, "unclosed comment".to_owned()));
        };
        let end = start + 2 + length + 2;
        let (delim, trim) = at_right_delim(&self.input[end..]);
        if !delim {
            return Some(self.error(start, "comment ends before closing delimiter".to_owned()));
        }
        let mut to = end + if trim { 2 } else { 0 } + RIGHT.len();
        if trim {
            to = self.skip_spaces(to);
        }
        self.advance(to);
        None
    }

    fn skip_spaces(&self, from: usize) -> usize {
        let rest = &self.input[from..];
        from + rest.len() - rest.trim_start_matches(is_space).len()
    }

    fn right_delim(&mut self) -> Token<'a> {
        let (_, trim) = at_right_delim(self.rest());
        if trim {
            self.advance(self.pos + 2);
        }
        let start = self.pos;
        self.pos += RIGHT.len();
        let token = self.token(Kind::RightDelim, start);
        if trim {
            let to = self.skip_spaces(self.pos);
            self.advance(to);
        }
        self.inside_action = false;
        token
    }

    fn action(&mut self) -> Token<'a> {
        let start = self.pos;
        if at_right_delim(self.rest()).0 {
            if self.paren_depth == 0 {
                return self.right_delim();
            }
            return self.error(start, "unclosed left paren".to_owned());
        }
        let Some(c) = self.peek() else { return self.error(start, "unclosed action".to_owned()) };
        match c {
            _ if is_space(c) => self.space(),
            '=' => self.single(Kind::Assign),
            ':' => {
                if !self.rest().starts_with(":=") {
                    return self.error(start, "expected :=".to_owned());
                }
                self.pos += 2;
                self.token(Kind::Declare, start)
            }
            '|' => self.single(Kind::Pipe),
            '"' => self.quoted('"', Kind::Str, "unterminated quoted string"),
            '`' => self.raw_quoted(),
            '$' => {
                self.pos += 1;
                self.field_or_variable(start, Kind::Variable)
            }
            '\'' => self.quoted('\'', Kind::CharConstant, "unterminated character constant"),
            '.' if !self.input[start + 1..].starts_with(|c: char| c.is_ascii_digit()) => {
                if start + 1 >= self.input.len() {
                    return self.number();
                }
                self.pos += 1;
                self.field_or_variable(start, Kind::Field)
            }
            '.' | '+' | '-' | '0'..='9' => self.number(),
            _ if is_alphanumeric(c) => self.identifier(),
            '(' => {
                self.paren_depth += 1;
                self.single(Kind::LeftParen)
            }
            ')' => {
                if self.paren_depth == 0 {
                    return self.error(start, "unexpected right paren".to_owned());
                }
                self.paren_depth -= 1;
                self.single(Kind::RightParen)
            }
            ' '..='~' => self.single(Kind::Char),
            _ => {
                let message = format!("unrecognized character in action: {}", code_point(c));
                self.error(start, message)
            }
        }
    }

    fn single(&mut self, kind: Kind) -> Token<'a> {
        let start = self.pos;
        self.pos += 1;
        self.token(kind, start)
    }

    fn space(&mut self) -> Token<'a> {
        let start = self.pos;
        let end = self.skip_spaces(start);
        // The last space may belong to a trim marker.
        let last = end - 1;
        if has_right_trim(&self.input[last..]) && self.input[last + 2..].starts_with(RIGHT) {
            if end - start == 1 {
                return self.right_delim();
            }
            self.pos = last;
        } else {
            self.pos = end;
        }
        self.token(Kind::Space, start)
    }

    fn at_terminator(&self) -> bool {
        match self.peek() {
            None | Some('.' | ',' | '|' | ':' | ')' | '(') => true,
            Some(c) if is_space(c) => true,
            _ => self.rest().starts_with(RIGHT),
        }
    }

    fn bad_character(&mut self, start: usize) -> Token<'a> {
        let message = match self.peek() {
            Some(c) => format!("bad character {}", code_point(c)),
            None => "bad character U+FFFFFFFFFFFFFFFF".to_owned(),
        };
        self.error(start, message)
    }

    fn skip_word(&mut self) {
        let rest = self.rest();
        self.pos += rest.len() - rest.trim_start_matches(is_alphanumeric).len();
    }

    fn identifier(&mut self) -> Token<'a> {
        let start = self.pos;
        self.skip_word();
        if !self.at_terminator() {
            return self.bad_character(start);
        }
        let kind = match &self.input[start..self.pos] {
            "block" => Kind::Block,
            "break" => Kind::Break,
            "continue" => Kind::Continue,
            "define" => Kind::Define,
            "else" => Kind::Else,
            "end" => Kind::End,
            "if" => Kind::If,
            "nil" => Kind::Nil,
            "range" => Kind::Range,
            "template" => Kind::Template,
            "with" => Kind::With,
            "true" | "false" => Kind::Bool,
            _ => Kind::Identifier,
        };
        self.token(kind, start)
    }

    fn field_or_variable(&mut self, start: usize, kind: Kind) -> Token<'a> {
        if self.at_terminator() {
            let kind = if kind == Kind::Variable { Kind::Variable } else { Kind::Dot };
            return self.token(kind, start);
        }
        self.skip_word();
        if !self.at_terminator() {
            return self.bad_character(start);
        }
        self.token(kind, start)
    }

    fn quoted(&mut self, quote: char, kind: Kind, unterminated: &str) -> Token<'a> {
        let start = self.pos;
        let mut chars = self.input[start + 1..].char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => match chars.next() {
                    None | Some((_, '\n')) => break,
                    Some(_) => {}
                },
                '\n' => break,
                _ if c == quote => {
                    self.pos = start + 1 + at + 1;
                    return self.token(kind, start);
                }
                _ => {}
            }
        }
        self.error(start, unterminated.to_owned())
    }

    fn raw_quoted(&mut self) -> Token<'a> {
        let start = self.pos;
        match self.input[start + 1..].find('`') {
            Some(length) => {
                self.pos = start + 1 + length + 1;
                self.token(Kind::RawString, start)
            }
            None => self.error(start, "unterminated raw quoted string".to_owned()),
        }
    }

    fn accept(&mut self, valid: &str) -> bool {
        match self.peek() {
            Some(c) if valid.contains(c) => {
                self.pos += c.len_utf8();
                true
            }
            _ => false,
        }
    }

    fn accept_run(&mut self, valid: &str) {
        while self.accept(valid) {}
    }

    fn number(&mut self) -> Token<'a> {
        let start = self.pos;
        if !self.scan_number() {
            let message =
                format!("bad number syntax: {}", super::printf::quote(&self.input[start..self.pos]));
            return self.error(start, message);
        }
        if matches!(self.peek(), Some('+' | '-')) {
            if !self.scan_number() || !self.input[..self.pos].ends_with('i') {
                let message =
                    format!("bad number syntax: {}", super::printf::quote(&self.input[start..self.pos]));
                return self.error(start, message);
            }
            return self.token(Kind::Complex, start);
        }
        self.token(Kind::Number, start)
    }

    fn scan_number(&mut self) -> bool {
        self.accept("+-");
        let mut digits = "0123456789_";
        if self.accept("0") {
            if self.accept("xX") {
                digits = "0123456789abcdefABCDEF_";
            } else if self.accept("oO") {
                digits = "01234567_";
            } else if self.accept("bB") {
                digits = "01_";
            }
        }
        self.accept_run(digits);
        if self.accept(".") {
            self.accept_run(digits);
        }
        if digits.len() == 11 && self.accept("eE") {
            self.accept("+-");
            self.accept_run("0123456789_");
        }
        if digits.len() == 23 && self.accept("pP") {
            self.accept("+-");
            self.accept_run("0123456789_");
        }
        self.accept("i");
        if let Some(c) = self.peek().filter(|&c| is_alphanumeric(c)) {
            self.pos += c.len_utf8();
            return false;
        }
        true
    }
}

fn at_right_delim(text: &str) -> (bool, bool) {
    if has_right_trim(text) && text[2..].starts_with(RIGHT) {
        return (true, true);
    }
    (text.starts_with(RIGHT), false)
}

/// Go's `%#U`.
fn code_point(c: char) -> String {
    if c.is_control() { format!("U+{:04X}", u32::from(c)) } else { format!("U+{:04X} '{c}'", u32::from(c)) }
}
