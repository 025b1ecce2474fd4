//! A parsed template. Every node knows its place and prints as Go prints it, because error messages quote both.

use std::fmt::{self, Display, Write as _};

use super::value::Text;
use crate::functions::Function;

/// A byte offset into the template's text.
pub(crate) type Pos = usize;

#[derive(Debug)]
pub(crate) struct Pipe {
    pub(crate) pos: Pos,
    pub(crate) is_assign: bool,
    pub(crate) decl: Vec<Text>,
    pub(crate) cmds: Vec<Command>,
}

#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) pos: Pos,
    /// Never empty: the parser refuses an empty command.
    pub(crate) args: Vec<Expr>,
}

#[derive(Debug)]
pub(crate) struct Expr {
    pub(crate) pos: Pos,
    pub(crate) kind: ExprKind,
}

#[derive(Debug)]
pub(crate) enum ExprKind {
    Bool(bool),
    Dot,
    Nil,
    /// `.a.b`
    Field(Vec<Text>),
    /// `(pipeline).a.b` or `function.a`
    Chain(Box<Expr>, Vec<Text>),
    Identifier(&'static Function),
    Number(Number),
    Pipe(Box<Pipe>),
    Str {
        quoted: Text,
        text: Text,
    },
    /// `$x.a.b`: the variable's name with its dollar sign first.
    Variable(Vec<Text>),
}

#[derive(Debug)]
pub(crate) struct Number {
    pub(crate) text: Text,
    pub(crate) int: Option<i64>,
    pub(crate) uint: Option<u64>,
    pub(crate) float: Option<f64>,
}

#[derive(Debug)]
pub(crate) struct Branch {
    pub(crate) pipe: Pipe,
    pub(crate) list: Vec<Node>,
    pub(crate) else_list: Option<Vec<Node>>,
}

#[derive(Debug)]
pub(crate) enum Node {
    Text(Text),
    Action(Pipe),
    If(Branch),
    With(Branch),
    Range(Branch),
    Template(TemplateCall),
    Break,
    Continue,
}

#[derive(Debug)]
pub(crate) struct TemplateCall {
    pub(crate) pos: Pos,
    pub(crate) name: Text,
    pub(crate) pipe: Option<Pipe>,
}

/// Whether a template has no content of its own: only blanks and definitions.
pub(crate) fn is_empty_tree(nodes: &[Node]) -> bool {
    nodes.iter().all(|node| matches!(node, Node::Text(text) if text.chars().all(char::is_whitespace)))
}

impl Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.decl.is_empty() {
            f.write_str(&self.decl.join(", "))?;
            f.write_str(if self.is_assign { " = " } else { " := " })?;
        }
        for (at, command) in self.cmds.iter().enumerate() {
            if at > 0 {
                f.write_str(" | ")?;
            }
            command.fmt(f)?;
        }
        Ok(())
    }
}

impl Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, arg) in self.args.iter().enumerate() {
            if at > 0 {
                f.write_char(' ')?;
            }
            match &arg.kind {
                ExprKind::Pipe(pipe) => write!(f, "({pipe})")?,
                _ => arg.fmt(f)?,
            }
        }
        Ok(())
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Bool(value) => value.fmt(f),
            ExprKind::Dot => f.write_char('.'),
            ExprKind::Nil => f.write_str("nil"),
            ExprKind::Field(idents) => idents.iter().try_for_each(|ident| write!(f, ".{ident}")),
            ExprKind::Chain(node, fields) => {
                match &node.kind {
                    ExprKind::Pipe(pipe) => write!(f, "({pipe})")?,
                    _ => node.fmt(f)?,
                }
                fields.iter().try_for_each(|field| write!(f, ".{field}"))
            }
            ExprKind::Identifier(function) => f.write_str(function.name),
            ExprKind::Number(number) => f.write_str(&number.text),
            ExprKind::Pipe(pipe) => pipe.fmt(f),
            ExprKind::Str { quoted, .. } => f.write_str(quoted),
            ExprKind::Variable(idents) => f.write_str(&idents.join(".")),
        }
    }
}

impl Display for TemplateCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{{template {}", super::printf::quote(&self.name))?;
        if let Some(pipe) = &self.pipe {
            write!(f, " {pipe}")?;
        }
        f.write_str("}}")
    }
}
