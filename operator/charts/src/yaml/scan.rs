//! Text to tokens: the scanner half of a YAML 1.1 reader.
//!
//! It follows the decisions of libyaml (which Go's YAML library is a port of), because charts lean on what that
//! reader accepts: tabs after a key, `:` inside plain scalars, indentless sequences, keys without a space in flow maps.

use std::{borrow::Cow, collections::VecDeque};

use super::YamlError;

/// A place in the text: bytes from the start, line and column from zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) index: usize,
    pub(super) line: usize,
    pub(super) column: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    StreamEnd,
    VersionDirective,
    TagDirective,
    DocumentStart,
    DocumentEnd,
    BlockSequenceStart,
    BlockMappingStart,
    BlockEnd,
    FlowSequenceStart,
    FlowSequenceEnd,
    FlowMappingStart,
    FlowMappingEnd,
    BlockEntry,
    FlowEntry,
    Key,
    Value,
    Alias,
    Anchor,
    Tag,
    PlainScalar,
    QuotedScalar,
    BlockScalar,
}

#[derive(Clone, Debug)]
pub(super) struct Token<'a> {
    pub(super) kind: TokenKind,
    pub(super) start: Mark,
    /// Scalar text, anchor name, tag handle.
    pub(super) value: Cow<'a, str>,
    /// Tag suffix or the prefix of a tag directive; `major.minor` of a version directive.
    pub(super) suffix: Cow<'a, str>,
}

#[derive(Clone, Copy, Debug, Default)]
struct SimpleKey {
    possible: bool,
    required: bool,
    token_number: usize,
    mark: Mark,
}

/// How deep collections may nest. Go stops at 10,000; here the result is walked by recursion, and no real document comes near this.
pub(super) const MAX_DEPTH: usize = 200;

pub(super) struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    mark: Mark,
    tokens: VecDeque<Token<'a>>,
    tokens_parsed: usize,
    indent: isize,
    indents: Vec<isize>,
    simple_key_allowed: bool,
    simple_keys: Vec<SimpleKey>,
    flow_level: usize,
    stream_end: bool,
}

type Scan<T> = Result<T, YamlError>;

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Scan<Self> {
        if !text.chars().all(is_allowed) {
            return Err(YamlError::new("control characters are not allowed", 0));
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Ok(Self {
            text,
            bytes: text.as_bytes(),
            mark: Mark::default(),
            tokens: VecDeque::new(),
            tokens_parsed: 0,
            indent: -1,
            indents: Vec::new(),
            simple_key_allowed: true,
            simple_keys: vec![SimpleKey::default()],
            flow_level: 0,
            stream_end: false,
        })
    }

    /// The next token, without taking it. After the end of the stream it stays the end of the stream.
    pub(super) fn peek(&mut self) -> Scan<&Token<'a>> {
        self.fetch_more()?;
        self.tokens.front().ok_or_else(|| YamlError::new("unexpected end of the stream", 0))
    }

    pub(super) fn kind(&mut self) -> Scan<TokenKind> {
        Ok(self.peek()?.kind)
    }

    pub(super) fn next(&mut self) -> Scan<Token<'a>> {
        self.fetch_more()?;
        self.tokens_parsed += 1;
        self.tokens.pop_front().ok_or_else(|| YamlError::new("unexpected end of the stream", 0))
    }

    fn fetch_more(&mut self) -> Scan<()> {
        loop {
            if !self.tokens.is_empty() {
                let head = self.tokens_parsed;
                let Some(at) =
                    self.simple_keys.iter().rposition(|key| key.possible && key.token_number == head)
                else {
                    return Ok(());
                };
                if !self.simple_key_is_valid(at)? {
                    return Ok(());
                }
            }
            if self.stream_end {
                let mark = self.mark;
                self.push(TokenKind::StreamEnd, mark);
                return Ok(());
            }
            self.fetch_next()?;
        }
    }

    fn byte(&self, ahead: usize) -> u8 {
        self.bytes.get(self.mark.index + ahead).copied().unwrap_or(0)
    }

    /// The length in bytes of a line break at `ahead`, or 0. CR LF counts as one break.
    fn break_width(&self, ahead: usize) -> usize {
        match self.byte(ahead) {
            b'\n' => 1,
            b'\r' => {
                if self.byte(ahead + 1) == b'\n' {
                    2
                } else {
                    1
                }
            }
            0xC2 if self.byte(ahead + 1) == 0x85 => 2,
            0xE2 if self.byte(ahead + 1) == 0x80 && matches!(self.byte(ahead + 2), 0xA8 | 0xA9) => 3,
            _ => 0,
        }
    }

    fn is_break(&self, ahead: usize) -> bool {
        self.break_width(ahead) > 0
    }

    fn is_blank(&self, ahead: usize) -> bool {
        matches!(self.byte(ahead), b' ' | b'\t')
    }

    fn is_breakz(&self, ahead: usize) -> bool {
        self.byte(ahead) == 0 || self.is_break(ahead)
    }

    fn is_blankz(&self, ahead: usize) -> bool {
        self.is_blank(ahead) || self.is_breakz(ahead)
    }

    fn at_end(&self) -> bool {
        self.mark.index >= self.bytes.len()
    }

    /// Moves over one character.
    fn skip(&mut self) {
        if self.at_end() {
            return;
        }
        self.mark.index += char_width(self.byte(0));
        self.mark.column += 1;
    }

    fn skip_line(&mut self) {
        let width = self.break_width(0);
        if width > 0 {
            self.mark.index += width;
            self.mark.column = 0;
            self.mark.line += 1;
        }
    }

    /// Moves over a line break and appends it in its normal form.
    fn read_line(&mut self, to: &mut String) {
        match self.byte(0) {
            b'\r' | b'\n' | 0xC2 => to.push('\n'),
            _ => {
                let width = self.break_width(0);
                to.push_str(&self.text[self.mark.index..self.mark.index + width]);
            }
        }
        self.skip_line();
    }

    fn error<T>(&self, context: Mark, problem: &str) -> Scan<T> {
        let line = if self.mark.line != 0 { self.mark.line + 1 } else { context.line };
        Err(YamlError::new(problem, line))
    }

    fn push(&mut self, kind: TokenKind, start: Mark) {
        self.tokens.push_back(Token { kind, start, value: Cow::Borrowed(""), suffix: Cow::Borrowed("") });
    }

    fn push_value(&mut self, kind: TokenKind, start: Mark, value: Cow<'a, str>) {
        self.tokens.push_back(Token { kind, start, value, suffix: Cow::Borrowed("") });
    }

    fn insert(&mut self, number: usize, kind: TokenKind, mark: Mark) {
        let at = number.saturating_sub(self.tokens_parsed).min(self.tokens.len());
        self.tokens
            .insert(at, Token { kind, start: mark, value: Cow::Borrowed(""), suffix: Cow::Borrowed("") });
    }

    fn fetch_next(&mut self) -> Scan<()> {
        self.scan_to_next_token()?;
        self.unroll_indent(to_column(self.mark.column));
        if self.at_end() {
            return self.fetch_stream_end();
        }
        let first = self.byte(0);
        if self.mark.column == 0 {
            if first == b'%' {
                return self.fetch_directive();
            }
            if self.is_document_indicator(b'-') {
                return self.fetch_document_indicator(TokenKind::DocumentStart);
            }
            if self.is_document_indicator(b'.') {
                return self.fetch_document_indicator(TokenKind::DocumentEnd);
            }
        }
        match first {
            b'[' => self.fetch_flow_start(TokenKind::FlowSequenceStart),
            b'{' => self.fetch_flow_start(TokenKind::FlowMappingStart),
            b']' => self.fetch_flow_end(TokenKind::FlowSequenceEnd),
            b'}' => self.fetch_flow_end(TokenKind::FlowMappingEnd),
            b',' => self.fetch_flow_entry(),
            b'-' if self.is_blankz(1) => self.fetch_block_entry(),
            b'?' if self.flow_level > 0 || self.is_blankz(1) => self.fetch_key(),
            b':' if self.flow_level > 0 || self.is_blankz(1) => self.fetch_value(),
            b'*' => self.fetch_anchor(TokenKind::Alias),
            b'&' => self.fetch_anchor(TokenKind::Anchor),
            b'!' => self.fetch_tag(),
            b'|' if self.flow_level == 0 => self.fetch_block_scalar(true),
            b'>' if self.flow_level == 0 => self.fetch_block_scalar(false),
            b'\'' => self.fetch_flow_scalar(true),
            b'"' => self.fetch_flow_scalar(false),
            _ if self.starts_plain_scalar(first) => self.fetch_plain_scalar(),
            _ => self.error(self.mark, "found character that cannot start any token"),
        }
    }

    fn starts_plain_scalar(&self, first: u8) -> bool {
        let indicator = matches!(
            first,
            b'-' | b'?'
                | b':'
                | b','
                | b'['
                | b']'
                | b'{'
                | b'}'
                | b'#'
                | b'&'
                | b'*'
                | b'!'
                | b'|'
                | b'>'
                | b'\''
                | b'"'
                | b'%'
                | b'@'
                | b'`'
        );
        !(self.is_blankz(0) || indicator)
            || (first == b'-' && !self.is_blank(1))
            || (self.flow_level == 0 && matches!(first, b'?' | b':') && !self.is_blankz(1))
    }

    fn is_document_indicator(&self, mark: u8) -> bool {
        self.mark.column == 0
            && self.byte(0) == mark
            && self.byte(1) == mark
            && self.byte(2) == mark
            && self.is_blankz(3)
    }

    // Simple keys: a scalar may turn out to be a key when the `:` after it is seen.

    fn simple_key_is_valid(&mut self, at: usize) -> Scan<bool> {
        let Some(key) = self.simple_keys.get(at).copied() else { return Ok(false) };
        if !key.possible {
            return Ok(false);
        }
        if key.mark.line < self.mark.line || key.mark.index + 1024 < self.mark.index {
            if key.required {
                return self.error(key.mark, "could not find expected ':'");
            }
            if let Some(key) = self.simple_keys.get_mut(at) {
                key.possible = false;
            }
            return Ok(false);
        }
        Ok(true)
    }

    fn save_simple_key(&mut self) -> Scan<()> {
        if self.simple_key_allowed {
            let required = self.flow_level == 0 && self.indent == to_column(self.mark.column);
            let key = SimpleKey {
                possible: true,
                required,
                token_number: self.tokens_parsed + self.tokens.len(),
                mark: self.mark,
            };
            self.remove_simple_key()?;
            if let Some(last) = self.simple_keys.last_mut() {
                *last = key;
            }
        }
        Ok(())
    }

    fn remove_simple_key(&mut self) -> Scan<()> {
        let Some(last) = self.simple_keys.last_mut() else { return Ok(()) };
        if last.possible {
            if last.required {
                let mark = last.mark;
                return self.error(mark, "could not find expected ':'");
            }
            last.possible = false;
        }
        Ok(())
    }

    fn roll_indent(&mut self, column: usize, number: Option<usize>, kind: TokenKind, mark: Mark) -> Scan<()> {
        if self.flow_level > 0 {
            return Ok(());
        }
        if self.indent < to_column(column) {
            self.indents.push(self.indent);
            self.indent = to_column(column);
            if self.indents.len() > MAX_DEPTH {
                return self.error(mark, &format!("exceeded max depth of {MAX_DEPTH}"));
            }
            let number = number.unwrap_or(self.tokens_parsed + self.tokens.len());
            self.insert(number, kind, mark);
        }
        Ok(())
    }

    fn unroll_indent(&mut self, column: isize) {
        if self.flow_level > 0 {
            return;
        }
        while self.indent > column {
            let mark = self.mark;
            self.push(TokenKind::BlockEnd, mark);
            self.indent = self.indents.pop().unwrap_or(-1);
        }
    }

    fn fetch_stream_end(&mut self) -> Scan<()> {
        if self.mark.column != 0 {
            self.mark.column = 0;
            self.mark.line += 1;
        }
        self.unroll_indent(-1);
        self.remove_simple_key()?;
        self.simple_key_allowed = false;
        let mark = self.mark;
        self.push(TokenKind::StreamEnd, mark);
        self.stream_end = true;
        Ok(())
    }

    fn fetch_directive(&mut self) -> Scan<()> {
        self.unroll_indent(-1);
        self.remove_simple_key()?;
        self.simple_key_allowed = false;
        self.scan_directive()
    }

    fn fetch_document_indicator(&mut self, kind: TokenKind) -> Scan<()> {
        self.unroll_indent(-1);
        self.remove_simple_key()?;
        self.simple_key_allowed = false;
        let start = self.mark;
        self.skip();
        self.skip();
        self.skip();
        self.push(kind, start);
        Ok(())
    }

    fn fetch_flow_start(&mut self, kind: TokenKind) -> Scan<()> {
        self.save_simple_key()?;
        self.simple_keys.push(SimpleKey { mark: self.mark, ..SimpleKey::default() });
        self.flow_level += 1;
        if self.flow_level > MAX_DEPTH {
            return self.error(self.mark, &format!("exceeded max depth of {MAX_DEPTH}"));
        }
        self.simple_key_allowed = true;
        let start = self.mark;
        self.skip();
        self.push(kind, start);
        Ok(())
    }

    fn fetch_flow_end(&mut self, kind: TokenKind) -> Scan<()> {
        self.remove_simple_key()?;
        if self.flow_level > 0 {
            self.flow_level -= 1;
            self.simple_keys.pop();
        }
        self.simple_key_allowed = false;
        let start = self.mark;
        self.skip();
        self.push(kind, start);
        Ok(())
    }

    fn fetch_flow_entry(&mut self) -> Scan<()> {
        self.remove_simple_key()?;
        self.simple_key_allowed = true;
        let start = self.mark;
        self.skip();
        self.push(TokenKind::FlowEntry, start);
        Ok(())
    }

    fn fetch_block_entry(&mut self) -> Scan<()> {
        if self.flow_level == 0 {
            if !self.simple_key_allowed {
                return self.error(Mark::default(), "block sequence entries are not allowed in this context");
            }
            let mark = self.mark;
            self.roll_indent(mark.column, None, TokenKind::BlockSequenceStart, mark)?;
        }
        self.remove_simple_key()?;
        self.simple_key_allowed = true;
        let start = self.mark;
        self.skip();
        self.push(TokenKind::BlockEntry, start);
        Ok(())
    }

    fn fetch_key(&mut self) -> Scan<()> {
        if self.flow_level == 0 {
            if !self.simple_key_allowed {
                return self.error(Mark::default(), "mapping keys are not allowed in this context");
            }
            let mark = self.mark;
            self.roll_indent(mark.column, None, TokenKind::BlockMappingStart, mark)?;
        }
        self.remove_simple_key()?;
        self.simple_key_allowed = self.flow_level == 0;
        let start = self.mark;
        self.skip();
        self.push(TokenKind::Key, start);
        Ok(())
    }

    fn fetch_value(&mut self) -> Scan<()> {
        let last = self.simple_keys.len().saturating_sub(1);
        if self.simple_key_is_valid(last)? {
            let Some(key) = self.simple_keys.get(last).copied() else { return Ok(()) };
            self.insert(key.token_number, TokenKind::Key, key.mark);
            self.roll_indent(
                key.mark.column,
                Some(key.token_number),
                TokenKind::BlockMappingStart,
                key.mark,
            )?;
            if let Some(key) = self.simple_keys.get_mut(last) {
                key.possible = false;
            }
            self.simple_key_allowed = false;
        } else {
            if self.flow_level == 0 {
                if !self.simple_key_allowed {
                    return self.error(Mark::default(), "mapping values are not allowed in this context");
                }
                let mark = self.mark;
                self.roll_indent(mark.column, None, TokenKind::BlockMappingStart, mark)?;
            }
            self.simple_key_allowed = self.flow_level == 0;
        }
        let start = self.mark;
        self.skip();
        self.push(TokenKind::Value, start);
        Ok(())
    }

    fn fetch_anchor(&mut self, kind: TokenKind) -> Scan<()> {
        self.save_simple_key()?;
        self.simple_key_allowed = false;
        let start = self.mark;
        self.skip();
        let from = self.mark.index;
        while is_word(self.byte(0)) {
            self.skip();
        }
        let name = &self.text[from..self.mark.index];
        let follows = self.is_blankz(0)
            || matches!(self.byte(0), b'?' | b':' | b',' | b']' | b'}' | b'%' | b'@' | b'`');
        if name.is_empty() || !follows {
            return self.error(start, "did not find expected alphabetic or numeric character");
        }
        self.push_value(kind, start, Cow::Borrowed(name));
        Ok(())
    }

    fn fetch_block_scalar(&mut self, literal: bool) -> Scan<()> {
        self.remove_simple_key()?;
        self.simple_key_allowed = true;
        self.scan_block_scalar(literal)
    }

    fn fetch_flow_scalar(&mut self, single: bool) -> Scan<()> {
        self.save_simple_key()?;
        self.simple_key_allowed = false;
        self.scan_flow_scalar(single)
    }

    fn fetch_plain_scalar(&mut self) -> Scan<()> {
        self.save_simple_key()?;
        self.simple_key_allowed = false;
        self.scan_plain_scalar()
    }

    fn scan_to_next_token(&mut self) -> Scan<()> {
        loop {
            if self.mark.column == 0 && self.text[self.mark.index..].starts_with('\u{feff}') {
                self.skip();
            }
            while self.byte(0) == b' '
                || ((self.flow_level > 0 || !self.simple_key_allowed) && self.byte(0) == b'\t')
            {
                self.skip();
            }
            if self.byte(0) == b'#' {
                self.skip_to_break();
            }
            if self.is_break(0) {
                self.skip_line();
                if self.flow_level == 0 {
                    self.simple_key_allowed = true;
                }
            } else {
                return Ok(());
            }
        }
    }

    fn skip_to_break(&mut self) {
        while !self.is_breakz(0) {
            self.skip();
        }
    }

    fn skip_blanks(&mut self) {
        while self.is_blank(0) {
            self.skip();
        }
    }

    fn scan_directive(&mut self) -> Scan<()> {
        let start = self.mark;
        self.skip();
        let from = self.mark.index;
        while is_word(self.byte(0)) {
            self.skip();
        }
        let name = &self.text[from..self.mark.index];
        if name.is_empty() {
            return self.error(start, "could not find expected directive name");
        }
        if !self.is_blankz(0) {
            return self.error(start, "found unexpected non-alphabetical character");
        }
        let (kind, value, suffix) = match name {
            "YAML" => {
                self.skip_blanks();
                let major = self.scan_version_number(start)?;
                if self.byte(0) != b'.' {
                    return self.error(start, "did not find expected digit or '.' character");
                }
                self.skip();
                let minor = self.scan_version_number(start)?;
                (TokenKind::VersionDirective, Cow::Borrowed(""), Cow::Owned(format!("{major}.{minor}")))
            }
            "TAG" => {
                self.skip_blanks();
                let handle = self.scan_tag_handle(true, start)?;
                if !self.is_blank(0) {
                    return self.error(start, "did not find expected whitespace");
                }
                self.skip_blanks();
                let prefix = self.scan_tag_uri(None, start)?;
                if !self.is_blankz(0) {
                    return self.error(start, "did not find expected whitespace or line break");
                }
                (TokenKind::TagDirective, Cow::Owned(handle), Cow::Owned(prefix))
            }
            _ => return self.error(start, "found unknown directive name"),
        };
        self.skip_blanks();
        if self.byte(0) == b'#' {
            self.skip_to_break();
        }
        if !self.is_breakz(0) {
            return self.error(start, "did not find expected comment or line break");
        }
        self.skip_line();
        self.tokens.push_back(Token { kind, start, value, suffix });
        Ok(())
    }

    fn scan_version_number(&mut self, start: Mark) -> Scan<u8> {
        let mut value = 0_u8;
        let mut length = 0;
        while self.byte(0).is_ascii_digit() {
            length += 1;
            if length > 2 {
                return self.error(start, "found extremely long version number");
            }
            value = value * 10 + (self.byte(0) - b'0');
            self.skip();
        }
        if length == 0 {
            return self.error(start, "did not find expected version number");
        }
        Ok(value)
    }

    fn fetch_tag(&mut self) -> Scan<()> {
        self.save_simple_key()?;
        self.simple_key_allowed = false;
        let start = self.mark;
        let (handle, suffix) = if self.byte(1) == b'<' {
            self.skip();
            self.skip();
            let suffix = self.scan_tag_uri(None, start)?;
            if self.byte(0) != b'>' {
                return self.error(start, "did not find the expected '>'");
            }
            self.skip();
            (String::new(), suffix)
        } else {
            let handle = self.scan_tag_handle(false, start)?;
            if handle.len() > 1 && handle.ends_with('!') {
                (handle, self.scan_tag_uri(None, start)?)
            } else {
                let suffix = self.scan_tag_uri(Some(&handle), start)?;
                if suffix.is_empty() { (String::new(), "!".to_owned()) } else { ("!".to_owned(), suffix) }
            }
        };
        if !self.is_blankz(0) {
            return self.error(start, "did not find expected whitespace or line break");
        }
        self.tokens.push_back(Token {
            kind: TokenKind::Tag,
            start,
            value: Cow::Owned(handle),
            suffix: Cow::Owned(suffix),
        });
        Ok(())
    }

    fn scan_tag_handle(&mut self, directive: bool, start: Mark) -> Scan<String> {
        if self.byte(0) != b'!' {
            return self.error(start, "did not find expected '!'");
        }
        let from = self.mark.index;
        self.skip();
        while is_word(self.byte(0)) {
            self.skip();
        }
        if self.byte(0) == b'!' {
            self.skip();
        } else if directive && self.mark.index - from != 1 {
            return self.error(start, "did not find expected '!'");
        }
        Ok(self.text[from..self.mark.index].to_owned())
    }

    fn scan_tag_uri(&mut self, head: Option<&str>, start: Mark) -> Scan<String> {
        let mut found = head.is_some_and(|head| !head.is_empty());
        let mut out: Vec<u8> = head.and_then(|head| head.get(1..)).unwrap_or_default().as_bytes().to_vec();
        loop {
            let byte = self.byte(0);
            if byte == b'%' {
                let digits = self.text.get(self.mark.index + 1..self.mark.index + 3).unwrap_or_default();
                let Ok(octet) = u8::from_str_radix(digits, 16) else {
                    return self.error(start, "did not find URI escaped octet");
                };
                out.push(octet);
                self.skip();
                self.skip();
                self.skip();
            } else if is_word(byte) || b";/?:@&=+$,.!~*'()[]".contains(&byte) {
                out.push(byte);
                self.skip();
            } else {
                break;
            }
            found = true;
        }
        if !found {
            return self.error(start, "did not find expected tag URI");
        }
        String::from_utf8(out).or_else(|_| self.error(start, "found an incorrect leading UTF-8 octet"))
    }

    fn scan_block_scalar(&mut self, literal: bool) -> Scan<()> {
        let start = self.mark;
        self.skip();
        let mut chomping = 0_i8;
        let mut increment = 0_usize;
        for _ in 0..2 {
            match self.byte(0) {
                b'+' if chomping == 0 => {
                    chomping = 1;
                    self.skip();
                }
                b'-' if chomping == 0 => {
                    chomping = -1;
                    self.skip();
                }
                b'0' if increment == 0 => {
                    return self.error(start, "found an indentation indicator equal to 0");
                }
                digit @ b'1'..=b'9' if increment == 0 => {
                    increment = usize::from(digit - b'0');
                    self.skip();
                }
                _ => break,
            }
        }
        self.skip_blanks();
        if self.byte(0) == b'#' {
            self.skip_to_break();
        }
        if !self.is_breakz(0) {
            return self.error(start, "did not find expected comment or line break");
        }
        self.skip_line();
        let mut indent = 0;
        if increment > 0 {
            indent = if self.indent >= 0 { from_column(self.indent) + increment } else { increment };
        }
        let mut out = String::new();
        let mut leading_break = String::new();
        let mut trailing_breaks = String::new();
        self.scan_block_scalar_breaks(&mut indent, &mut trailing_breaks, start)?;
        let mut leading_blank = false;
        while self.mark.column == indent && !self.at_end() {
            let blank = self.is_blank(0);
            if !literal && !leading_blank && !blank && leading_break.starts_with('\n') {
                if trailing_breaks.is_empty() {
                    out.push(' ');
                }
            } else {
                out.push_str(&leading_break);
            }
            leading_break.clear();
            out.push_str(&trailing_breaks);
            trailing_breaks.clear();
            leading_blank = blank;
            let from = self.mark.index;
            self.skip_to_break();
            out.push_str(&self.text[from..self.mark.index]);
            if self.is_break(0) {
                self.read_line(&mut leading_break);
            }
            self.scan_block_scalar_breaks(&mut indent, &mut trailing_breaks, start)?;
        }
        if chomping != -1 {
            out.push_str(&leading_break);
        }
        if chomping == 1 {
            out.push_str(&trailing_breaks);
        }
        self.push_value(TokenKind::BlockScalar, start, Cow::Owned(out));
        Ok(())
    }

    fn scan_block_scalar_breaks(&mut self, indent: &mut usize, breaks: &mut String, start: Mark) -> Scan<()> {
        let mut max_indent = 0;
        loop {
            while (*indent == 0 || self.mark.column < *indent) && self.byte(0) == b' ' {
                self.mark.index += 1;
                self.mark.column += 1;
            }
            max_indent = max_indent.max(self.mark.column);
            if (*indent == 0 || self.mark.column < *indent) && self.byte(0) == b'\t' {
                return self.error(start, "found a tab character where an indentation space is expected");
            }
            if !self.is_break(0) {
                break;
            }
            self.read_line(breaks);
        }
        if *indent == 0 {
            *indent = max_indent.max(from_column(self.indent + 1)).max(1);
        }
        Ok(())
    }

    fn scan_flow_scalar(&mut self, single: bool) -> Scan<()> {
        let start = self.mark;
        let quote = if single { b'\'' } else { b'"' };
        // Most quoted scalars are one line without escapes and can be lent from the text.
        let from = self.mark.index + 1;
        let plain = self.bytes[from.min(self.bytes.len())..]
            .iter()
            .position(|&b| b == quote || b == b'\\' || b == b'\n' || b == b'\r' || b >= 0x80);
        if let Some(length) = plain
            && self.bytes.get(from + length) == Some(&quote)
            && !(single && self.bytes.get(from + length + 1) == Some(&quote))
        {
            let value = Cow::Borrowed(&self.text[from..from + length]);
            self.mark.index = from + length + 1;
            self.mark.column += length + 2;
            self.push_value(TokenKind::QuotedScalar, start, value);
            return Ok(());
        }
        self.skip();
        let mut out = String::new();
        let mut leading_break = String::new();
        let mut trailing_breaks = String::new();
        let mut whitespaces = String::new();
        loop {
            if self.is_document_indicator(b'-') || self.is_document_indicator(b'.') {
                return self.error(start, "found unexpected document indicator");
            }
            if self.at_end() {
                return self.error(start, "found unexpected end of stream");
            }
            let mut leading_blanks = false;
            while !self.is_blankz(0) {
                let byte = self.byte(0);
                if single && byte == b'\'' && self.byte(1) == b'\'' {
                    out.push('\'');
                    self.skip();
                    self.skip();
                } else if byte == quote {
                    break;
                } else if !single && byte == b'\\' && self.is_break(1) {
                    self.skip();
                    self.skip_line();
                    leading_blanks = true;
                    break;
                } else if !single && byte == b'\\' {
                    self.scan_escape(&mut out, start)?;
                } else {
                    let from = self.mark.index;
                    self.skip();
                    out.push_str(&self.text[from..self.mark.index]);
                }
            }
            if self.byte(0) == quote {
                break;
            }
            while self.is_blank(0) || self.is_break(0) {
                if self.is_blank(0) {
                    if !leading_blanks {
                        whitespaces.push(char::from(self.byte(0)));
                    }
                    self.skip();
                } else if leading_blanks {
                    self.read_line(&mut trailing_breaks);
                } else {
                    whitespaces.clear();
                    self.read_line(&mut leading_break);
                    leading_blanks = true;
                }
            }
            if leading_blanks {
                fold(&mut out, &mut leading_break, &mut trailing_breaks);
            } else {
                out.push_str(&whitespaces);
                whitespaces.clear();
            }
        }
        self.skip();
        self.push_value(TokenKind::QuotedScalar, start, Cow::Owned(out));
        Ok(())
    }

    fn scan_escape(&mut self, out: &mut String, start: Mark) -> Scan<()> {
        let code = self.byte(1);
        let length = match code {
            b'x' => 2,
            b'u' => 4,
            b'U' => 8,
            _ => 0,
        };
        if length == 0 {
            let unescaped = match code {
                b'0' => '\0',
                b'a' => '\u{7}',
                b'b' => '\u{8}',
                b't' | b'\t' => '\t',
                b'n' => '\n',
                b'v' => '\u{b}',
                b'f' => '\u{c}',
                b'r' => '\r',
                b'e' => '\u{1b}',
                b' ' => ' ',
                b'"' => '"',
                b'\'' => '\'',
                b'\\' => '\\',
                b'N' => '\u{85}',
                b'_' => '\u{a0}',
                b'L' => '\u{2028}',
                b'P' => '\u{2029}',
                _ => return self.error(start, "found unknown escape character"),
            };
            out.push(unescaped);
            self.skip();
            self.skip();
            return Ok(());
        }
        self.skip();
        self.skip();
        let digits = self.bytes.get(self.mark.index..self.mark.index + length).unwrap_or_default();
        if digits.len() != length || !digits.iter().all(u8::is_ascii_hexdigit) {
            return self.error(start, "did not find expected hexdecimal number");
        }
        let value = digits
            .iter()
            .fold(0_u32, |value, &digit| value.wrapping_shl(4) | char::from(digit).to_digit(16).unwrap_or(0));
        let Some(character) = char::from_u32(value) else {
            return self.error(start, "found invalid Unicode character escape code");
        };
        out.push(character);
        self.mark.index += length;
        self.mark.column += length;
        Ok(())
    }

    fn ends_plain(&self) -> bool {
        let byte = self.byte(0);
        (byte == b':' && self.is_blankz(1))
            || (self.flow_level > 0 && matches!(byte, b',' | b'?' | b'[' | b']' | b'{' | b'}'))
    }

    fn scan_plain_scalar(&mut self) -> Scan<()> {
        let start = self.mark;
        let indent = self.indent + 1;
        // `chunk` is the run of text so far while it can still be lent; `out` takes over at the first fold.
        let mut out: Option<String> = None;
        let mut chunk = self.mark.index..self.mark.index;
        let mut leading_break = String::new();
        let mut trailing_breaks = String::new();
        let mut leading_blanks = false;
        loop {
            if self.is_document_indicator(b'-') || self.is_document_indicator(b'.') {
                break;
            }
            if self.byte(0) == b'#' {
                break;
            }
            while !self.is_blankz(0) && !self.ends_plain() {
                if leading_blanks {
                    let text = out.get_or_insert_with(String::new);
                    text.push_str(&self.text[chunk.clone()]);
                    fold(text, &mut leading_break, &mut trailing_breaks);
                    chunk = self.mark.index..self.mark.index;
                    leading_blanks = false;
                }
                self.skip();
                chunk.end = self.mark.index;
            }
            if !(self.is_blank(0) || self.is_break(0)) {
                break;
            }
            while self.is_blank(0) || self.is_break(0) {
                if self.is_blank(0) {
                    if leading_blanks && to_column(self.mark.column) < indent && self.byte(0) == b'\t' {
                        return self.error(start, "found a tab character that violates indentation");
                    }
                    self.skip();
                } else if leading_blanks {
                    self.read_line(&mut trailing_breaks);
                } else {
                    self.read_line(&mut leading_break);
                    leading_blanks = true;
                }
            }
            if self.flow_level == 0 && to_column(self.mark.column) < indent {
                break;
            }
        }
        let last = &self.text[chunk];
        let value = match out {
            Some(mut text) => {
                text.push_str(last);
                Cow::Owned(text)
            }
            None => Cow::Borrowed(last),
        };
        self.push_value(TokenKind::PlainScalar, start, value);
        if leading_blanks {
            self.simple_key_allowed = true;
        }
        Ok(())
    }
}

/// Joins two lines of a flow scalar: one break becomes a space, more breaks stay but for the first.
fn fold(out: &mut String, leading_break: &mut String, trailing_breaks: &mut String) {
    if leading_break.starts_with('\n') {
        if trailing_breaks.is_empty() {
            out.push(' ');
        } else {
            out.push_str(trailing_breaks);
        }
    } else {
        out.push_str(leading_break);
        out.push_str(trailing_breaks);
    }
    leading_break.clear();
    trailing_breaks.clear();
}

fn is_allowed(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

fn char_width(first: u8) -> usize {
    match first {
        0xF0.. => 4,
        0xE0.. => 3,
        0xC0.. => 2,
        _ => 1,
    }
}

fn to_column(column: usize) -> isize {
    isize::try_from(column).unwrap_or(isize::MAX)
}

fn from_column(column: isize) -> usize {
    usize::try_from(column).unwrap_or(0)
}
