//! Tokens to trees. One text may define many templates.

use std::sync::Arc;

use super::{
    ast::{Branch, Command, Expr, ExprKind, Node, Number, Pipe, Pos, TemplateCall, is_empty_tree},
    lexer::{Kind, Lexer, Token},
    printf::{quote, unquote, unquote_char},
    value::Text,
};
use crate::{
    functions::{Function, find},
    yaml::{parse_go_float, parse_go_int},
};

/// The text of a file and the name that errors give it.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) name: Text,
    pub(crate) text: String,
}

/// A named template.
#[derive(Debug)]
pub(crate) struct Definition {
    pub(crate) name: Text,
    pub(crate) source: Arc<Source>,
    pub(crate) root: Vec<Node>,
}

/// How deep parentheses and blocks may nest. Go allows 10,000 parentheses and any number of blocks, on a stack that grows.
const MAX_DEPTH: usize = 400;

/// Parses one text. The last definition is that of the text itself, under its own name.
pub(crate) fn parse(source: &Arc<Source>) -> Result<Vec<Definition>, String> {
    let mut parser = Parser {
        source,
        lexer: Lexer::new(&source.text),
        pushed: Vec::new(),
        vars: vec!["$".into()],
        definitions: Vec::new(),
        range_depth: 0,
        depth: 0,
        action_line: 0,
        last_line: 1,
    };
    let root = parser.top()?;
    parser.define(source.name.clone(), root)?;
    Ok(parser.definitions)
}

struct Parser<'a> {
    source: &'a Arc<Source>,
    lexer: Lexer<'a>,
    /// Tokens given back, the next one last.
    pushed: Vec<Token<'a>>,
    vars: Vec<Text>,
    definitions: Vec<Definition>,
    range_depth: usize,
    depth: usize,
    action_line: usize,
    last_line: usize,
}

/// What ended a list of nodes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    End,
    Else,
}

enum Item {
    Node(Node),
    Ended(Ended),
}

type Parse<T> = Result<T, String>;

impl<'a> Parser<'a> {
    fn next(&mut self) -> Token<'a> {
        let token = self.pushed.pop().unwrap_or_else(|| self.lexer.next());
        self.last_line = token.line;
        token
    }

    fn backup(&mut self, token: Token<'a>) {
        self.pushed.push(token);
    }

    fn peek(&mut self) -> Token<'a> {
        let token = self.next();
        self.backup(token.clone());
        token
    }

    fn next_non_space(&mut self) -> Token<'a> {
        loop {
            let token = self.next();
            if token.kind != Kind::Space {
                return token;
            }
        }
    }

    fn peek_non_space(&mut self) -> Token<'a> {
        let token = self.next_non_space();
        self.backup(token.clone());
        token
    }

    fn error<T>(&self, message: impl AsRef<str>) -> Parse<T> {
        Err(format!("template: {}:{}: {}", self.source.name, self.last_line, message.as_ref()))
    }

    fn unexpected<T>(&self, token: &Token<'a>, context: &str) -> Parse<T> {
        if token.kind == Kind::Error {
            let mut extra = String::new();
            if self.action_line != 0 && self.action_line != token.line {
                let place = format!("action started at {}:{}", self.source.name, self.action_line);
                extra = if token.text.ends_with(" action") {
                    place.replacen("action", "", 1)
                } else {
                    format!(" in {place}")
                };
            }
            return self.error(format!("{}{extra}", token.describe()));
        }
        self.error(format!("unexpected {} in {context}", token.describe()))
    }

    fn expect(&mut self, kind: Kind, context: &str) -> Parse<Token<'a>> {
        let token = self.next_non_space();
        if token.kind == kind { Ok(token) } else { self.unexpected(&token, context) }
    }

    fn define(&mut self, name: Text, root: Vec<Node>) -> Parse<()> {
        let definition = Definition { name, source: self.source.clone(), root };
        let earlier = self.definitions.iter().position(|d| d.name == definition.name);
        match earlier {
            Some(at) if !is_empty_tree(&self.definitions[at].root) => {
                if !is_empty_tree(&definition.root) {
                    return self.error(format!(
                        "template: multiple definition of template {}",
                        quote(&definition.name)
                    ));
                }
            }
            Some(at) => self.definitions[at] = definition,
            None => self.definitions.push(definition),
        }
        Ok(())
    }

    fn top(&mut self) -> Parse<Vec<Node>> {
        let mut nodes = Vec::new();
        loop {
            let token = self.peek();
            match token.kind {
                Kind::Eof => return Ok(nodes),
                Kind::LeftDelim => {
                    let delim = self.next();
                    let token = self.next_non_space();
                    if token.kind == Kind::Define {
                        self.definition()?;
                        continue;
                    }
                    self.backup(token);
                    self.backup(delim);
                }
                _ => {}
            }
            match self.text_or_action()? {
                Item::Node(node) => nodes.push(node),
                Item::Ended(Ended::End) => return self.error("unexpected {{end}}"),
                Item::Ended(Ended::Else) => return self.error("unexpected {{else}}"),
            }
        }
    }

    /// Parses a body with variables of its own, as definitions and blocks have.
    fn body(&mut self, context: &str) -> Parse<Vec<Node>> {
        let vars = std::mem::replace(&mut self.vars, vec!["$".into()]);
        let range_depth = std::mem::take(&mut self.range_depth);
        let (root, ended) = self.item_list()?;
        self.vars = vars;
        self.range_depth = range_depth;
        if ended != Ended::End {
            return self.error(format!("unexpected {{{{else}}}} in {context}"));
        }
        Ok(root)
    }

    fn definition(&mut self) -> Parse<()> {
        let context = "define clause";
        let token = self.next_non_space();
        if !matches!(token.kind, Kind::Str | Kind::RawString) {
            return self.unexpected(&token, context);
        }
        let Some(name) = unquote(&token.text) else { return self.error("invalid syntax") };
        self.expect(Kind::RightDelim, context)?;
        let root = self.body(context)?;
        self.define(name.into(), root)
    }

    fn item_list(&mut self) -> Parse<(Vec<Node>, Ended)> {
        if self.depth >= MAX_DEPTH {
            return self.error("max block depth exceeded");
        }
        self.depth += 1;
        let mut nodes = Vec::new();
        while self.peek_non_space().kind != Kind::Eof {
            match self.text_or_action()? {
                Item::Node(node) => nodes.push(node),
                Item::Ended(ended) => {
                    self.depth -= 1;
                    return Ok((nodes, ended));
                }
            }
        }
        self.error("unexpected EOF")
    }

    fn text_or_action(&mut self) -> Parse<Item> {
        let token = self.next_non_space();
        match token.kind {
            Kind::Text => Ok(Item::Node(Node::Text(token.text.as_ref().into()))),
            Kind::LeftDelim => {
                self.action_line = token.line;
                let item = self.action();
                self.action_line = 0;
                item
            }
            _ => self.unexpected(&token, "input"),
        }
    }

    fn action(&mut self) -> Parse<Item> {
        let token = self.next_non_space();
        let node = match token.kind {
            Kind::Block => self.block()?,
            Kind::Break | Kind::Continue => {
                let name = if token.kind == Kind::Break { "{{break}}" } else { "{{continue}}" };
                let next = self.next_non_space();
                if next.kind != Kind::RightDelim {
                    return self.unexpected(&next, name);
                }
                if self.range_depth == 0 {
                    return self.error(format!("{name} outside {{{{range}}}}"));
                }
                if token.kind == Kind::Break { Node::Break } else { Node::Continue }
            }
            Kind::Else => {
                let peek = self.peek_non_space();
                if !matches!(peek.kind, Kind::If | Kind::With) {
                    self.expect(Kind::RightDelim, "else")?;
                }
                return Ok(Item::Ended(Ended::Else));
            }
            Kind::End => {
                self.expect(Kind::RightDelim, "end")?;
                return Ok(Item::Ended(Ended::End));
            }
            Kind::If => Node::If(self.control("if")?),
            Kind::Range => Node::Range(self.control("range")?),
            Kind::With => Node::With(self.control("with")?),
            Kind::Template => self.template()?,
            _ => {
                self.backup(token);
                Node::Action(self.pipeline("command", Kind::RightDelim)?)
            }
        };
        Ok(Item::Node(node))
    }

    fn control(&mut self, context: &str) -> Parse<Branch> {
        let vars = self.vars.len();
        let pipe = self.pipeline(context, Kind::RightDelim)?;
        let ranging = usize::from(context == "range");
        self.range_depth += ranging;
        let (list, ended) = self.item_list()?;
        self.range_depth -= ranging;
        let mut else_list = None;
        if ended == Ended::Else {
            let next = self.peek();
            if self.depth >= MAX_DEPTH {
                return self.error("max block depth exceeded");
            }
            self.depth += 1;
            else_list = Some(match (context, next.kind) {
                ("if", Kind::If) => {
                    self.next();
                    vec![Node::If(self.control("if")?)]
                }
                ("with", Kind::With) => {
                    self.next();
                    vec![Node::With(self.control("with")?)]
                }
                _ => {
                    let (list, ended) = self.item_list()?;
                    if ended != Ended::End {
                        return self.error("expected end; found {{else}}");
                    }
                    list
                }
            });
            self.depth -= 1;
        }
        self.vars.truncate(vars);
        Ok(Branch { pipe, list, else_list })
    }

    fn template_name(&mut self, token: &Token<'a>, context: &str) -> Parse<Text> {
        if !matches!(token.kind, Kind::Str | Kind::RawString) {
            return self.unexpected(token, context);
        }
        match unquote(&token.text) {
            Some(name) => Ok(name.into()),
            None => self.error("invalid syntax"),
        }
    }

    fn block(&mut self) -> Parse<Node> {
        let context = "block clause";
        let token = self.next_non_space();
        let name = self.template_name(&token, context)?;
        let pipe = self.pipeline(context, Kind::RightDelim)?;
        let root = self.body(context)?;
        self.define(name.clone(), root)?;
        Ok(Node::Template(TemplateCall { pos: token.pos, name, pipe: Some(pipe) }))
    }

    fn template(&mut self) -> Parse<Node> {
        let context = "template clause";
        let token = self.next_non_space();
        let name = self.template_name(&token, context)?;
        let next = self.next_non_space();
        let mut pipe = None;
        if next.kind != Kind::RightDelim {
            self.backup(next);
            pipe = Some(self.pipeline(context, Kind::RightDelim)?);
        }
        Ok(Node::Template(TemplateCall { pos: token.pos, name, pipe }))
    }

    fn pipeline(&mut self, context: &str, end: Kind) -> Parse<Pipe> {
        let pos = self.peek_non_space().pos;
        let mut pipe = Pipe { pos, is_assign: false, decl: Vec::new(), cmds: Vec::new() };
        self.declarations(&mut pipe, context)?;
        loop {
            let token = self.next_non_space();
            match token.kind {
                kind if kind == end => {
                    self.check_pipeline(&pipe, context)?;
                    return Ok(pipe);
                }
                Kind::Bool
                | Kind::CharConstant
                | Kind::Complex
                | Kind::Dot
                | Kind::Field
                | Kind::Identifier
                | Kind::Number
                | Kind::Nil
                | Kind::RawString
                | Kind::Str
                | Kind::Variable
                | Kind::LeftParen => {
                    self.backup(token);
                    let command = self.command()?;
                    pipe.cmds.push(command);
                }
                _ => return self.unexpected(&token, context),
            }
        }
    }

    fn declarations(&mut self, pipe: &mut Pipe, context: &str) -> Parse<()> {
        loop {
            let variable = self.next_non_space();
            if variable.kind != Kind::Variable {
                self.backup(variable);
                return Ok(());
            }
            let after = self.next();
            let next = if after.kind == Kind::Space { self.next_non_space() } else { after.clone() };
            match next.kind {
                Kind::Assign | Kind::Declare => {
                    pipe.is_assign = next.kind == Kind::Assign;
                    self.declare(pipe, &variable);
                    return Ok(());
                }
                Kind::Char if next.text == "," => {
                    self.declare(pipe, &variable);
                    if context == "range" && pipe.decl.len() < 2 {
                        if matches!(
                            self.peek_non_space().kind,
                            Kind::Variable | Kind::RightDelim | Kind::RightParen
                        ) {
                            continue;
                        }
                        return self.error("range can only initialize variables");
                    }
                    return self.error(format!("too many declarations in {context}"));
                }
                _ => {
                    self.backup(next);
                    if after.kind == Kind::Space {
                        self.backup(after);
                    }
                    self.backup(variable);
                    return Ok(());
                }
            }
        }
    }

    fn declare(&mut self, pipe: &mut Pipe, variable: &Token<'a>) {
        let name: Text = variable.text.as_ref().into();
        self.vars.push(name.clone());
        pipe.decl.push(name);
    }

    fn check_pipeline(&self, pipe: &Pipe, context: &str) -> Parse<()> {
        if pipe.cmds.is_empty() {
            return self.error(format!("missing value for {context}"));
        }
        for (at, command) in pipe.cmds.iter().enumerate().skip(1) {
            let literal = command.args.first().is_some_and(|first| {
                matches!(
                    first.kind,
                    ExprKind::Bool(_)
                        | ExprKind::Dot
                        | ExprKind::Nil
                        | ExprKind::Number(_)
                        | ExprKind::Str { .. }
                )
            });
            if literal {
                return self.error(format!("non executable command in pipeline stage {}", at + 1));
            }
        }
        Ok(())
    }

    fn command(&mut self) -> Parse<Command> {
        let pos = self.peek_non_space().pos;
        let mut args = Vec::new();
        loop {
            self.peek_non_space();
            if let Some(operand) = self.operand()? {
                args.push(operand);
            }
            let token = self.next();
            match token.kind {
                Kind::Space => continue,
                Kind::RightDelim | Kind::RightParen => self.backup(token),
                Kind::Pipe => {}
                _ => return self.unexpected(&token, "operand"),
            }
            break;
        }
        if args.is_empty() {
            return self.error("empty command");
        }
        Ok(Command { pos, args })
    }

    fn operand(&mut self) -> Parse<Option<Expr>> {
        let Some(node) = self.term()? else { return Ok(None) };
        let next = self.peek();
        if next.kind != Kind::Field {
            return Ok(Some(node));
        }
        let mut fields: Vec<Text> = Vec::new();
        while self.peek().kind == Kind::Field {
            let field = self.next();
            fields.push(field.text.strip_prefix('.').unwrap_or(&field.text).into());
        }
        // A chain's place is that of its second part, which is what Go reports.
        let pos = next.pos;
        let kind = match node.kind {
            ExprKind::Field(mut idents) => {
                idents.extend(fields);
                ExprKind::Field(idents)
            }
            ExprKind::Variable(mut idents) => {
                idents.extend(fields);
                ExprKind::Variable(idents)
            }
            ExprKind::Bool(_)
            | ExprKind::Str { .. }
            | ExprKind::Number(_)
            | ExprKind::Nil
            | ExprKind::Dot => {
                return self.error(format!("unexpected . after term {}", quote(&node.to_string())));
            }
            _ => ExprKind::Chain(Box::new(node), fields),
        };
        Ok(Some(Expr { pos, kind }))
    }

    fn term(&mut self) -> Parse<Option<Expr>> {
        let token = self.next_non_space();
        let pos: Pos = token.pos;
        let kind = match token.kind {
            Kind::Identifier => {
                let Some(function): Option<&'static Function> = find(&token.text) else {
                    return self.error(format!("function {} not defined", quote(&token.text)));
                };
                ExprKind::Identifier(function)
            }
            Kind::Dot => ExprKind::Dot,
            Kind::Nil => ExprKind::Nil,
            Kind::Variable => {
                if !self.vars.iter().any(|name| **name == *token.text) {
                    return self.error(format!("undefined variable {}", quote(&token.text)));
                }
                ExprKind::Variable(vec![token.text.as_ref().into()])
            }
            Kind::Field => ExprKind::Field(vec![token.text.strip_prefix('.').unwrap_or(&token.text).into()]),
            Kind::Bool => ExprKind::Bool(token.text == "true"),
            Kind::CharConstant | Kind::Complex | Kind::Number => match number(&token) {
                Ok(number) => ExprKind::Number(number),
                Err(message) => return self.error(message),
            },
            Kind::LeftParen => {
                if self.depth >= MAX_DEPTH {
                    return self.error("max expression depth exceeded");
                }
                self.depth += 1;
                let pipe = self.pipeline("parenthesized pipeline", Kind::RightParen)?;
                self.depth -= 1;
                return Ok(Some(Expr { pos: pipe.pos, kind: ExprKind::Pipe(Box::new(pipe)) }));
            }
            Kind::Str | Kind::RawString => match unquote(&token.text) {
                Some(text) => ExprKind::Str { quoted: token.text.as_ref().into(), text: text.into() },
                None => return self.error("invalid syntax"),
            },
            _ => {
                self.backup(token);
                return Ok(None);
            }
        };
        Ok(Some(Expr { pos, kind }))
    }
}

/// A literal under every type that can hold it, as Go's ideal constants are.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::float_cmp,
    reason = "constants convert exactly or not at all: every conversion is compared with its origin"
)]
fn number(token: &Token<'_>) -> Result<Number, String> {
    let text: &str = &token.text;
    let mut number = Number { text: text.into(), int: None, uint: None, float: None };
    if token.kind == Kind::CharConstant {
        let Some(c) = unquote_char(text) else {
            return Err(format!("malformed character constant: {text}"));
        };
        number.int = Some(i64::from(u32::from(c)));
        number.uint = Some(u64::from(u32::from(c)));
        number.float = Some(f64::from(u32::from(c)));
        return Ok(number);
    }
    if token.kind == Kind::Complex || text.ends_with('i') {
        return Err(format!("illegal number syntax: {} (complex numbers are not supported)", quote(text)));
    }
    let plain = text.replace('_', "");
    if let Some(int) = parse_go_int(&plain) {
        number.int = Some(int);
        number.uint = u64::try_from(int).ok();
        number.float = Some(int as f64);
        return Ok(number);
    }
    if let Ok(uint) = plain.parse::<u64>() {
        number.uint = Some(uint);
        number.float = Some(uint as f64);
        return Ok(number);
    }
    if let Some(float) = parse_go_float(&plain) {
        if !text.contains(['.', 'e', 'E', 'p', 'P']) {
            return Err(format!("integer overflow: {}", quote(text)));
        }
        number.float = Some(float);
        let int = float as i64;
        if int as f64 == float {
            number.int = Some(int);
        }
        let uint = float as u64;
        if uint as f64 == float {
            number.uint = Some(uint);
        }
        return Ok(number);
    }
    Err(format!("illegal number syntax: {}", quote(text)))
}
