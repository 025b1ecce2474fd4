//! Values to text: the block style of libyaml as Go's library and `toYaml` use it. Byte for byte, because charts embed the
//! result as text in ConfigMaps.

use super::resolve::{Resolved, is_base60, resolve};

const BEST_WIDTH: usize = 80;
const BEST_INDENT: isize = 2;

/// How a scalar may be written, found in one pass over its text.
struct Analysis {
    multiline: bool,
    block_plain: bool,
    single_quoted: bool,
    block: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Single,
    Double,
    Literal,
}

/// Where a node stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Context {
    Root,
    Sequence,
    Mapping,
    SimpleKey,
}

/// Writes one document of block YAML. Callers walk their own value type and call the methods in order.
pub(crate) struct Emitter {
    out: String,
    column: usize,
    indent: isize,
    indents: Vec<isize>,
    whitespace: bool,
    indention: bool,
    context: Context,
    indent_sequences: bool,
}

impl Emitter {
    /// Indents sequences below their key, as `toYamlPretty` does.
    pub(crate) fn indented() -> Self {
        Self { indent_sequences: true, ..Self::new() }
    }

    pub(crate) fn new() -> Self {
        Self {
            out: String::new(),
            column: 0,
            indent: -1,
            indents: Vec::new(),
            whitespace: true,
            indention: true,
            context: Context::Root,
            indent_sequences: false,
        }
    }

    /// The text, with the line break that ends a document.
    pub(crate) fn finish(mut self) -> String {
        self.indent = -1;
        self.write_indent();
        self.out
    }

    pub(crate) fn begin_sequence(&mut self) {
        let indentless = !self.indent_sequences && self.context == Context::Mapping && !self.indention;
        self.increase_indent(false, indentless);
    }

    pub(crate) fn item(&mut self) {
        self.write_indent();
        self.indicator("-", true, false, true);
        self.context = Context::Sequence;
    }

    pub(crate) fn begin_mapping(&mut self) {
        self.increase_indent(false, false);
    }

    /// Writes a key and its indicator; the value comes next.
    pub(crate) fn key(&mut self, key: &str) {
        self.write_indent();
        let analysis = analyze(key);
        if !analysis.multiline && key.len() <= 128 {
            self.context = Context::SimpleKey;
            self.string_analyzed(key, &analysis);
            self.indicator(":", false, false, false);
        } else {
            self.indicator("?", true, false, true);
            self.context = Context::Mapping;
            self.string_analyzed(key, &analysis);
            self.write_indent();
            self.indicator(":", true, false, true);
        }
        self.context = Context::Mapping;
    }

    pub(crate) fn end(&mut self) {
        self.indent = self.indents.pop().unwrap_or(-1);
    }

    pub(crate) fn empty_sequence(&mut self) {
        self.indicator("[", true, true, false);
        self.indicator("]", false, false, false);
    }

    pub(crate) fn empty_mapping(&mut self) {
        self.indicator("{", true, true, false);
        self.indicator("}", false, false, false);
    }

    /// A scalar that is plain by its type: a number, a bool, null.
    pub(crate) fn plain(&mut self, text: &str) {
        self.increase_indent(true, false);
        self.write_plain(text);
        self.end();
    }

    pub(crate) fn string(&mut self, text: &str) {
        let analysis = analyze(text);
        self.string_analyzed(text, &analysis);
    }

    fn string_analyzed(&mut self, text: &str, analysis: &Analysis) {
        let simple_key = self.context == Context::SimpleKey;
        let mut style = if text.contains('\n') {
            Style::Literal
        } else if resolve(text) == Resolved::Text && !is_base60(text) {
            Style::Plain
        } else {
            Style::Double
        };
        if simple_key && analysis.multiline {
            style = Style::Double;
        }
        if style == Style::Plain && !analysis.block_plain {
            style = Style::Single;
        }
        if style == Style::Single && !analysis.single_quoted {
            style = Style::Double;
        }
        if style == Style::Literal && (!analysis.block || simple_key) {
            style = Style::Double;
        }
        self.increase_indent(true, false);
        match style {
            Style::Plain => self.write_plain(text),
            Style::Single => self.write_single(text, !simple_key),
            Style::Double => self.write_double(text, !simple_key),
            Style::Literal => self.write_literal(text),
        }
        self.end();
    }

    fn increase_indent(&mut self, flow: bool, indentless: bool) {
        self.indents.push(self.indent);
        if self.indent < 0 {
            self.indent = if flow { BEST_INDENT } else { 0 };
        } else if !indentless {
            self.indent += BEST_INDENT;
        }
    }

    fn put_char(&mut self, c: char) {
        self.out.push(c);
        self.column += 1;
    }

    fn put_break(&mut self) {
        self.out.push('\n');
        self.column = 0;
    }

    fn write_indent(&mut self) {
        let indent = usize::try_from(self.indent).unwrap_or(0);
        if !self.indention || self.column > indent || (self.column == indent && !self.whitespace) {
            self.put_break();
        }
        while self.column < indent {
            self.put_char(' ');
        }
        self.whitespace = true;
        self.indention = true;
    }

    fn indicator(&mut self, text: &str, need_whitespace: bool, is_whitespace: bool, is_indention: bool) {
        if need_whitespace && !self.whitespace {
            self.put_char(' ');
        }
        self.out.push_str(text);
        self.column += text.len();
        self.whitespace = is_whitespace;
        self.indention = self.indention && is_indention;
    }

    fn write_plain(&mut self, text: &str) {
        if !self.whitespace {
            self.put_char(' ');
        }
        let allow_breaks = self.context != Context::SimpleKey;
        if !allow_breaks || self.column + text.len() <= BEST_WIDTH {
            self.out.push_str(text);
            self.column += text.chars().count();
        } else {
            let mut spaces = false;
            let mut chars = text.chars().peekable();
            while let Some(c) = chars.next() {
                if c == ' ' {
                    if !spaces && self.column > BEST_WIDTH && chars.peek() != Some(&' ') {
                        self.write_indent();
                    } else {
                        self.put_char(c);
                    }
                    spaces = true;
                } else {
                    self.put_char(c);
                    self.indention = false;
                    spaces = false;
                }
            }
        }
        self.whitespace = false;
        self.indention = false;
    }

    fn write_single(&mut self, text: &str, allow_breaks: bool) {
        self.indicator("'", true, false, false);
        let mut spaces = false;
        let mut breaks = false;
        let mut chars = text.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            if c == ' ' {
                let next_space = chars.peek().is_some_and(|&(_, next)| next == ' ');
                if allow_breaks
                    && !spaces
                    && self.column > BEST_WIDTH
                    && at > 0
                    && at + 1 < text.len()
                    && !next_space
                {
                    self.write_indent();
                } else {
                    self.put_char(c);
                }
                spaces = true;
            } else if is_break(c) {
                if !breaks && c == '\n' {
                    self.put_break();
                }
                self.write_break(c);
                self.indention = true;
                breaks = true;
            } else {
                if breaks {
                    self.write_indent();
                }
                if c == '\'' {
                    self.put_char('\'');
                }
                self.put_char(c);
                self.indention = false;
                spaces = false;
                breaks = false;
            }
        }
        self.indicator("'", false, false, false);
        self.whitespace = false;
        self.indention = false;
    }

    fn write_double(&mut self, text: &str, allow_breaks: bool) {
        use std::fmt::Write as _;
        self.indicator("\"", true, false, false);
        let mut spaces = false;
        let mut chars = text.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            if !is_printable(c) || is_break(c) || c == '"' || c == '\\' {
                let from = self.out.len();
                let short = match c {
                    '\0' => Some('0'),
                    '\u{7}' => Some('a'),
                    '\u{8}' => Some('b'),
                    '\t' => Some('t'),
                    '\n' => Some('n'),
                    '\u{b}' => Some('v'),
                    '\u{c}' => Some('f'),
                    '\r' => Some('r'),
                    '\u{1b}' => Some('e'),
                    '"' => Some('"'),
                    '\\' => Some('\\'),
                    '\u{85}' => Some('N'),
                    '\u{a0}' => Some('_'),
                    '\u{2028}' => Some('L'),
                    '\u{2029}' => Some('P'),
                    _ => None,
                };
                let code = u32::from(c);
                let _ = match short {
                    Some(short) => write!(self.out, "\\{short}"),
                    None if code <= 0xFF => write!(self.out, "\\x{code:02X}"),
                    None if code <= 0xFFFF => write!(self.out, "\\u{code:04X}"),
                    None => write!(self.out, "\\U{code:08X}"),
                };
                self.column += self.out.len() - from;
                spaces = false;
            } else if c == ' ' {
                if allow_breaks && !spaces && self.column > BEST_WIDTH && at > 0 && at + 1 < text.len() {
                    self.write_indent();
                    if chars.peek().is_some_and(|&(_, next)| next == ' ') {
                        self.put_char('\\');
                    }
                } else {
                    self.put_char(c);
                }
                spaces = true;
            } else {
                self.put_char(c);
                spaces = false;
            }
        }
        self.indicator("\"", false, false, false);
        self.whitespace = false;
        self.indention = false;
    }

    fn write_literal(&mut self, text: &str) {
        self.indicator("|", true, false, false);
        if text.starts_with(|c| c == ' ' || is_break(c)) {
            self.indicator("2", false, false, false);
        }
        let mut backwards = text.chars().rev();
        match (backwards.next().map(is_break), backwards.next().map(is_break)) {
            (Some(true), Some(false)) => {}
            (Some(true), _) => self.indicator("+", false, false, false),
            _ => self.indicator("-", false, false, false),
        }
        self.put_break();
        self.indention = true;
        self.whitespace = true;
        let mut breaks = true;
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if is_break(c) {
                self.write_break(c);
                self.indention = true;
                breaks = true;
                rest = &rest[c.len_utf8()..];
                continue;
            }
            if breaks {
                self.write_indent();
            }
            let line = &rest[..rest.find(is_break).unwrap_or(rest.len())];
            self.out.push_str(line);
            self.column += line.chars().count();
            self.indention = false;
            breaks = false;
            rest = &rest[line.len()..];
        }
    }

    fn write_break(&mut self, c: char) {
        self.out.push(c);
        self.column = 0;
    }
}

fn is_break(c: char) -> bool {
    matches!(c, '\r' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Printable to libyaml: nothing above the basic plane, no tab.
fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}') && c != '\u{feff}'
}

fn analyze(text: &str) -> Analysis {
    if text.is_empty() {
        return Analysis { multiline: false, block_plain: true, single_quoted: true, block: false };
    }
    let bytes = text.as_bytes();
    let mut block_indicators = text.starts_with("---") || text.starts_with("...");
    let mut line_breaks = false;
    let mut special_characters = false;
    let (mut leading_space, mut leading_break) = (false, false);
    let (mut trailing_space, mut trailing_break) = (false, false);
    let (mut break_space, mut space_break) = (false, false);
    let (mut previous_space, mut previous_break) = (false, false);
    let mut preceded_by_whitespace = true;
    for (at, c) in text.char_indices() {
        let next = at + c.len_utf8();
        // libyaml looks for a blank only, not a break, after an indicator.
        let followed_by_whitespace = next >= bytes.len() || matches!(bytes[next], b' ' | b'\t');
        if at == 0 {
            match c {
                '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@'
                | '`' => block_indicators = true,
                '?' | ':' | '-' if followed_by_whitespace => block_indicators = true,
                _ => {}
            }
        } else {
            match c {
                ':' if followed_by_whitespace => block_indicators = true,
                '#' if preceded_by_whitespace => block_indicators = true,
                _ => {}
            }
        }
        if !is_printable(c) {
            special_characters = true;
        }
        if c == ' ' {
            leading_space |= at == 0;
            trailing_space |= next == bytes.len();
            break_space |= previous_break;
            previous_space = true;
            previous_break = false;
        } else if is_break(c) {
            line_breaks = true;
            leading_break |= at == 0;
            trailing_break |= next == bytes.len();
            space_break |= previous_space;
            previous_space = false;
            previous_break = true;
        } else {
            previous_space = false;
            previous_break = false;
        }
        preceded_by_whitespace = c == ' ' || c == '\t' || is_break(c) || c == '\0';
    }
    let edge = leading_space || leading_break || trailing_space || trailing_break;
    Analysis {
        multiline: line_breaks,
        block_plain: !(edge
            || break_space
            || space_break
            || special_characters
            || line_breaks
            || block_indicators),
        single_quoted: !(break_space || space_break || special_characters),
        block: !(trailing_space || space_break || special_characters),
    }
}
