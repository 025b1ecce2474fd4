//! Runs a parsed template.

use std::sync::Arc;

use super::{
    ast::{Branch, Command, Expr, ExprKind, Node, Pipe, TemplateCall},
    limits::Budget,
    parse::{Definition, Source, parse},
    printf::{display_into, quote},
    set::TemplateSet,
    value::{MapKind, Object, Text, Value},
};
use crate::functions::{Call, Function, Param};

/// What one render shares between its templates.
pub(crate) struct Shared<'e> {
    pub(crate) budget: Budget,
    pub(crate) patterns: &'e crate::functions::Patterns,
    pub(crate) lookup: Option<&'e dyn crate::render::Lookup>,
}

/// What a function may use of the run that calls it.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'s, 'e> {
    pub(crate) shared: &'s Shared<'e>,
    pub(crate) set: &'s TemplateSet,
}

/// A value as the engine passes it on. `boxed` tells a nil inside an interface (a map's element) from no value at all:
/// a field of the one is an error, a field of the other is nothing.
#[derive(Clone)]
struct Operand {
    value: Value,
    boxed: bool,
}

impl Operand {
    fn plain(value: Value) -> Self {
        Self { value, boxed: false }
    }

    fn boxed(value: Value) -> Self {
        Self { value, boxed: true }
    }

    fn type_name(&self) -> &'static str {
        if self.boxed { "interface {}" } else { self.value.type_name() }
    }
}

enum Flow {
    Break,
    Continue,
    Error(String),
}

type Run<T> = Result<T, Flow>;

/// The node that an error would be reported at.
#[derive(Clone, Copy)]
enum At<'t> {
    Expr(&'t Expr),
    Command(&'t Command),
    Pipe(&'t Pipe),
    Template(&'t TemplateCall),
    Nowhere,
}

enum Callee<'c> {
    Function(&'static Function),
    Method(&'c dyn Object, &'static [Param]),
}

/// Executes the template `name` of `scope` with `data` and returns its text.
pub(crate) fn execute(scope: Scope<'_, '_>, name: &str, data: Value) -> Result<String, String> {
    let Some(definition) = scope.set.get(name) else {
        return Err(format!(
            "template: no template {} associated with template {}",
            quote(name),
            quote(super::set::ROOT_NAME)
        ));
    };
    let mut out = String::new();
    run(scope, definition, data, &mut out)?;
    Ok(out)
}

fn run(scope: Scope<'_, '_>, definition: &Definition, data: Value, out: &mut String) -> Result<(), String> {
    let dot = Operand::plain(data);
    let mut state = State { scope, definition, vars: vec![("$".into(), dot.clone())], at: At::Nowhere };
    match state.walk_list(&dot, &definition.root, out) {
        Ok(()) | Err(Flow::Break | Flow::Continue) => Ok(()),
        Err(Flow::Error(message)) => Err(message),
    }
}

/// `include`.
pub(crate) fn include(scope: Scope<'_, '_>, name: &str, data: Value) -> Result<Value, String> {
    let _guard = scope.shared.budget.enter_include(name)?;
    execute(scope, name, data).map(Value::from)
}

/// `tpl`: a text as a template that sees the definitions of the chart; its own are seen only inside.
pub(crate) fn tpl(scope: Scope<'_, '_>, text: &str, data: Value) -> Result<Value, String> {
    let _guard = scope.shared.budget.enter_depth()?;
    if !text.contains("{{") {
        return Ok(without_no_value(text.to_owned()).into());
    }
    let source = Arc::new(Source { name: super::set::ROOT_NAME.into(), text: text.to_owned() });
    let definitions =
        parse(&source).map_err(|error| format!("cannot parse template {}: {error}", quote(text)))?;
    let mut set = scope.set.clone();
    set.add_all(definitions);
    let inner = Scope { shared: scope.shared, set: &set };
    let out = execute(inner, super::set::ROOT_NAME, data)
        .map_err(|error| format!("error during tpl function execution for {}: {error}", quote(text)))?;
    Ok(without_no_value(out).into())
}

/// Helm takes Go's mark for a missing value out of the text.
pub(crate) fn without_no_value(text: String) -> String {
    const MARK: &str = "<no value>";
    if text.contains(MARK) { text.replace(MARK, "") } else { text }
}

struct State<'t, 'e> {
    scope: Scope<'t, 'e>,
    definition: &'t Definition,
    vars: Vec<(Text, Operand)>,
    at: At<'t>,
}

impl<'t> State<'t, '_> {
    fn error<T>(&self, message: impl AsRef<str>) -> Run<T> {
        let message = message.as_ref();
        let name = &self.definition.name;
        let (pos, context) = match self.at {
            At::Nowhere => return Err(Flow::Error(format!("template: {name}: {message}"))),
            At::Expr(expr) => (expr.pos, expr.to_string()),
            At::Command(command) => (command.pos, command.to_string()),
            At::Pipe(pipe) => (pipe.pos, pipe.to_string()),
            At::Template(call) => (call.pos, call.to_string()),
        };
        let source = &self.definition.source;
        let before = source.text.get(..pos).unwrap_or_default();
        let line = 1 + before.bytes().filter(|&b| b == b'\n').count();
        let column = pos - before.rfind('\n').map_or(0, |at| at + 1);
        Err(Flow::Error(format!(
            "template: {}:{line}:{column}: executing {} at <{context}>: {message}",
            source.name,
            quote(name)
        )))
    }

    fn walk_list(&mut self, dot: &Operand, nodes: &'t [Node], out: &mut String) -> Run<()> {
        for node in nodes {
            self.scope.shared.budget.step().map_err(Flow::Error)?;
            match node {
                Node::Text(text) => self.write(out, text)?,
                Node::Action(pipe) => {
                    let value = self.pipeline(dot, pipe)?;
                    if pipe.decl.is_empty() {
                        let from = out.len();
                        match &value.value {
                            Value::Nil => out.push_str("<no value>"),
                            Value::Str(text) => out.push_str(text),
                            other => display_into(out, other),
                        }
                        self.spend(out.len() - from)?;
                    }
                }
                Node::If(branch) => self.walk_if(dot, branch, out)?,
                Node::With(branch) => self.walk_with(dot, branch, out)?,
                Node::Range(branch) => self.walk_range(dot, branch, out)?,
                Node::Template(call) => self.walk_template(dot, call, out)?,
                Node::Break => return Err(Flow::Break),
                Node::Continue => return Err(Flow::Continue),
            }
        }
        Ok(())
    }

    fn write(&self, out: &mut String, text: &str) -> Run<()> {
        out.push_str(text);
        self.spend(text.len())
    }

    fn spend(&self, bytes: usize) -> Run<()> {
        self.scope.shared.budget.output(bytes).map_err(Flow::Error)
    }

    fn walk_if(&mut self, dot: &Operand, branch: &'t Branch, out: &mut String) -> Run<()> {
        let mark = self.vars.len();
        let value = self.pipeline(dot, &branch.pipe)?;
        if value.value.truth() {
            self.walk_list(dot, &branch.list, out)?;
        } else if let Some(list) = &branch.else_list {
            self.walk_list(dot, list, out)?;
        }
        self.vars.truncate(mark);
        Ok(())
    }

    fn walk_with(&mut self, dot: &Operand, branch: &'t Branch, out: &mut String) -> Run<()> {
        let mark = self.vars.len();
        let value = self.pipeline(dot, &branch.pipe)?;
        if value.value.truth() {
            self.walk_list(&value, &branch.list, out)?;
        } else if let Some(list) = &branch.else_list {
            self.walk_list(dot, list, out)?;
        }
        self.vars.truncate(mark);
        Ok(())
    }

    fn walk_range(&mut self, dot: &Operand, branch: &'t Branch, out: &mut String) -> Run<()> {
        let outer = self.vars.len();
        let value = self.pipeline(dot, &branch.pipe)?;
        let mark = self.vars.len();
        let mut ran = false;
        let mut once = |state: &mut Self, index: Value, element: Operand| -> Run<bool> {
            ran = true;
            state.scope.shared.budget.step().map_err(Flow::Error)?;
            state.set_range_variables(&branch.pipe, index, &element)?;
            let flow = state.walk_list(&element, &branch.list, out);
            state.vars.truncate(mark);
            match flow {
                Ok(()) | Err(Flow::Continue) => Ok(true),
                Err(Flow::Break) => Ok(false),
                Err(error) => Err(error),
            }
        };
        match &value.value {
            Value::Nil => {}
            Value::Int(count) | Value::Int64(count) => {
                if branch.pipe.decl.len() > 1 {
                    return self.error(format!("can't use {count} to iterate over more than one variable"));
                }
                let wide = matches!(value.value, Value::Int64(_));
                for at in 0..*count {
                    let element = if wide { Value::Int64(at) } else { Value::Int(at) };
                    if !once(self, Value::Nil, Operand::plain(element))? {
                        break;
                    }
                }
            }
            Value::List(list) => {
                let boxed = list.kind == super::value::ListKind::Any;
                for (at, item) in list.items.iter().enumerate() {
                    if !once(self, Value::int(at), Operand { value: item.clone(), boxed })? {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                let boxed = map.kind() != MapKind::Str;
                for (key, value) in map.snapshot() {
                    if !once(self, Value::Str(key), Operand { value, boxed })? {
                        break;
                    }
                }
            }
            Value::Object(object) => {
                let Some(entries) = object.entries() else {
                    return self.error(format!("range can't iterate over {}", object.display()));
                };
                for (key, value) in entries {
                    if !once(self, Value::Str(key), Operand::plain(value))? {
                        break;
                    }
                }
            }
            other => {
                let shown = super::printf::display(other);
                return self.error(format!("range can't iterate over {shown}"));
            }
        }
        self.vars.truncate(outer);
        if !ran && let Some(list) = &branch.else_list {
            self.walk_list(dot, list, out)?;
            self.vars.truncate(outer);
        }
        Ok(())
    }

    fn set_range_variables(&mut self, pipe: &'t Pipe, index: Value, element: &Operand) -> Run<()> {
        match pipe.decl.as_slice() {
            [] => Ok(()),
            [only] if pipe.is_assign => self.set_variable(only, element.clone()),
            [first, second] if pipe.is_assign => {
                self.set_variable(first, Operand::plain(index))?;
                self.set_variable(second, element.clone())
            }
            decl => {
                let top = self.vars.len();
                if let Some(variable) = self.vars.get_mut(top - 1) {
                    variable.1 = element.clone();
                }
                if decl.len() > 1
                    && let Some(variable) = self.vars.get_mut(top - 2)
                {
                    variable.1 = Operand::plain(index);
                }
                Ok(())
            }
        }
    }

    fn walk_template(&mut self, dot: &Operand, call: &'t TemplateCall, out: &mut String) -> Run<()> {
        self.at = At::Template(call);
        let Some(definition) = self.scope.set.get(&call.name) else {
            return self.error(format!("template {} not defined", quote(&call.name)));
        };
        let guard = match self.scope.shared.budget.enter_depth() {
            Ok(guard) => guard,
            Err(message) => return self.error(message),
        };
        let data = match &call.pipe {
            Some(pipe) => self.pipeline(dot, pipe)?.value,
            None => Value::Nil,
        };
        let result = run(self.scope, definition, data, out).map_err(Flow::Error);
        drop(guard);
        result
    }

    fn set_variable(&mut self, name: &str, value: Operand) -> Run<()> {
        match self.vars.iter_mut().rev().find(|(known, _)| **known == *name) {
            Some((_, slot)) => {
                *slot = value;
                Ok(())
            }
            None => self.error(format!("undefined variable: {name}")),
        }
    }

    fn variable(&self, name: &str) -> Run<Operand> {
        match self.vars.iter().rev().find(|(known, _)| **known == *name) {
            Some((_, value)) => Ok(value.clone()),
            None => self.error(format!("undefined variable: {name}")),
        }
    }

    fn pipeline(&mut self, dot: &Operand, pipe: &'t Pipe) -> Run<Operand> {
        self.at = At::Pipe(pipe);
        let mut value: Option<Operand> = None;
        for command in &pipe.cmds {
            let mut result = self.command(dot, command, value)?;
            result.boxed = false;
            value = Some(result);
        }
        let value = value.unwrap_or_else(|| Operand::plain(Value::Nil));
        for name in &pipe.decl {
            if pipe.is_assign {
                self.set_variable(name, value.clone())?;
            } else {
                self.vars.push((name.clone(), value.clone()));
            }
        }
        Ok(value)
    }

    fn not_a_function(&self, args: &'t [Expr], last: Option<&Operand>) -> Run<()> {
        if args.len() > 1 || last.is_some() {
            let shown = args.first().map(ToString::to_string).unwrap_or_default();
            return self.error(format!("can't give argument to non-function {shown}"));
        }
        Ok(())
    }

    fn command(&mut self, dot: &Operand, command: &'t Command, last: Option<Operand>) -> Run<Operand> {
        let args = command.args.as_slice();
        let Some(first) = args.first() else { return Ok(Operand::plain(Value::Nil)) };
        match &first.kind {
            ExprKind::Field(idents) => {
                self.at = At::Expr(first);
                self.field_chain(dot, dot.clone(), first, idents, args, last)
            }
            ExprKind::Chain(node, fields) => self.chain(dot, first, node, fields, args, last),
            ExprKind::Identifier(function) => {
                self.at = At::Expr(first);
                self.call(dot, &Callee::Function(function), At::Command(command), function.name, args, last)
            }
            ExprKind::Pipe(pipe) => {
                self.not_a_function(args, last.as_ref())?;
                self.pipeline(dot, pipe)
            }
            ExprKind::Variable(idents) => self.variable_node(dot, first, idents, args, last),
            kind => {
                self.at = At::Expr(first);
                self.not_a_function(args, last.as_ref())?;
                match kind {
                    ExprKind::Bool(value) => Ok(Operand::plain(Value::Bool(*value))),
                    ExprKind::Dot => Ok(dot.clone()),
                    ExprKind::Number(number) => self.constant(number),
                    ExprKind::Str { text, .. } => Ok(Operand::plain(Value::Str(text.clone()))),
                    _ => self.error("nil is not a command"),
                }
            }
        }
    }

    fn constant(&self, number: &super::ast::Number) -> Run<Operand> {
        let text = &*number.text;
        let hex = text.len() > 2
            && (text.starts_with("0x") || text.starts_with("0X"))
            && !text.contains(['p', 'P']);
        if let Some(float) = number.float
            && !hex
            && !text.starts_with('\'')
            && text.contains(['.', 'e', 'E', 'p', 'P'])
        {
            return Ok(Operand::plain(Value::Float(float)));
        }
        match number.int {
            Some(int) => Ok(Operand::plain(Value::Int(int))),
            None => self.error(format!("{text} overflows int")),
        }
    }

    fn chain(
        &mut self,
        dot: &Operand,
        expr: &'t Expr,
        node: &'t Expr,
        fields: &'t [Text],
        args: &'t [Expr],
        last: Option<Operand>,
    ) -> Run<Operand> {
        self.at = At::Expr(expr);
        if matches!(node.kind, ExprKind::Nil) {
            return self.error(format!("indirection through explicit nil in {expr}"));
        }
        let receiver = self.operand(dot, node)?;
        self.field_chain(dot, receiver, expr, fields, args, last)
    }

    fn variable_node(
        &mut self,
        dot: &Operand,
        expr: &'t Expr,
        idents: &'t [Text],
        args: &'t [Expr],
        last: Option<Operand>,
    ) -> Run<Operand> {
        self.at = At::Expr(expr);
        let Some((name, fields)) = idents.split_first() else { return Ok(Operand::plain(Value::Nil)) };
        let value = self.variable(name)?;
        if fields.is_empty() {
            self.not_a_function(args, last.as_ref())?;
            return Ok(value);
        }
        self.field_chain(dot, value, expr, fields, args, last)
    }

    fn field_chain(
        &mut self,
        dot: &Operand,
        receiver: Operand,
        expr: &'t Expr,
        idents: &'t [Text],
        args: &'t [Expr],
        last: Option<Operand>,
    ) -> Run<Operand> {
        let Some((name, fields)) = idents.split_last() else { return Ok(receiver) };
        let mut receiver = receiver;
        for field in fields {
            receiver = self.field(dot, &receiver, field, expr, &[], None)?;
        }
        self.field(dot, &receiver, name, expr, args, last)
    }

    fn field(
        &mut self,
        dot: &Operand,
        receiver: &Operand,
        name: &'t Text,
        expr: &'t Expr,
        args: &'t [Expr],
        last: Option<Operand>,
    ) -> Run<Operand> {
        let has_args = args.len() > 1 || last.is_some();
        match &receiver.value {
            Value::Nil if receiver.boxed => {
                self.error(format!("nil pointer evaluating interface {{}}.{name}"))
            }
            Value::Nil => Ok(Operand::plain(Value::Nil)),
            Value::Map(map) => {
                if has_args {
                    return self.error(format!("{name} is not a method but has arguments"));
                }
                let typed = map.kind() == MapKind::Str;
                Ok(match map.get(name) {
                    Some(value) => Operand { value, boxed: !typed },
                    None if typed => Operand::plain("".into()),
                    None => Operand::boxed(Value::Nil),
                })
            }
            Value::Object(object) => {
                if let Some(params) = object.method(name) {
                    let object = object.clone();
                    let callee = Callee::Method(&*object, params);
                    return self.call(dot, &callee, At::Expr(expr), name, args, last);
                }
                match object.field(name) {
                    Some(_) if has_args => {
                        self.error(format!("{name} has arguments but cannot be invoked as function"))
                    }
                    Some(value) => Ok(Operand::plain(value)),
                    None => {
                        self.error(format!("can't evaluate field {name} in type {}", receiver.type_name()))
                    }
                }
            }
            _ => self.error(format!("can't evaluate field {name} in type {}", receiver.type_name())),
        }
    }

    fn call(
        &mut self,
        dot: &Operand,
        callee: &Callee<'_>,
        node: At<'t>,
        name: &str,
        args: &'t [Expr],
        last: Option<Operand>,
    ) -> Run<Operand> {
        let args = args.get(1..).unwrap_or_default();
        let (params, variadic) = match callee {
            Callee::Function(function) => (function.params, function.variadic),
            Callee::Method(_, params) => (*params, None),
        };
        let count = args.len() + usize::from(last.is_some());
        if variadic.is_some() {
            if count < params.len() {
                return self.error(format!(
                    "wrong number of args for {name}: want at least {} got {}",
                    params.len(),
                    args.len()
                ));
            }
        } else if count != params.len() {
            return self.error(format!("wrong number of args for {name}: want {} got {count}", params.len()));
        }
        if let Callee::Function(Function { call: Call::ShortCircuit { stop_at }, .. }) = callee {
            return self.short_circuit(dot, *stop_at, args, last);
        }
        let param = |at: usize| params.get(at).copied().or(variadic).unwrap_or(Param::Any);
        let mut values = Vec::with_capacity(count);
        for (at, arg) in args.iter().enumerate() {
            let value = self.argument(dot, param(at), arg)?;
            values.push(value);
        }
        if let Some(last) = last {
            let value = self.validate(last, param(args.len()))?;
            values.push(value);
        }
        let result = match callee {
            Callee::Function(function) => match function.call {
                Call::Pure(call) => call(&values),
                Call::Scoped(call) => call(self.scope, &values),
                Call::ShortCircuit { .. } => Ok(Value::Nil),
            },
            Callee::Method(object, _) => object.call(name, &values),
        };
        match result {
            Ok(value) => Ok(Operand::boxed(value)),
            Err(message) => {
                self.at = node;
                self.error(format!("error calling {name}: {message}"))
            }
        }
    }

    fn short_circuit(
        &mut self,
        dot: &Operand,
        stop_at: bool,
        args: &'t [Expr],
        last: Option<Operand>,
    ) -> Run<Operand> {
        let mut value = Operand::plain(Value::Nil);
        for arg in args {
            value = Operand::boxed(self.argument(dot, Param::Any, arg)?);
            if value.value.truth() == stop_at {
                return Ok(value);
            }
        }
        Ok(last.unwrap_or(value))
    }

    /// Evaluates what may stand before a chain or as an argument, without a type to fit.
    fn operand(&mut self, dot: &Operand, expr: &'t Expr) -> Run<Operand> {
        self.at = At::Expr(expr);
        match &expr.kind {
            ExprKind::Dot => Ok(dot.clone()),
            ExprKind::Nil => Ok(Operand::plain(Value::Nil)),
            ExprKind::Field(idents) => self.field_chain(dot, dot.clone(), expr, idents, &[], None),
            ExprKind::Variable(idents) => self.variable_node(dot, expr, idents, &[], None),
            ExprKind::Pipe(pipe) => self.pipeline(dot, pipe),
            ExprKind::Identifier(function) => {
                self.call(dot, &Callee::Function(function), At::Expr(expr), function.name, &[], None)
            }
            ExprKind::Chain(node, fields) => self.chain(dot, expr, node, fields, &[], None),
            ExprKind::Bool(value) => Ok(Operand::plain(Value::Bool(*value))),
            ExprKind::Number(number) => self.constant(number),
            ExprKind::Str { text, .. } => Ok(Operand::plain(Value::Str(text.clone()))),
        }
    }

    fn argument(&mut self, dot: &Operand, param: Param, expr: &'t Expr) -> Run<Value> {
        match &expr.kind {
            ExprKind::Nil => {
                self.at = At::Expr(expr);
                if param.can_be_nil() {
                    return Ok(Value::Nil);
                }
                self.error(format!("cannot assign nil to {}", param.type_name()))
            }
            ExprKind::Bool(_) | ExprKind::Number(_) | ExprKind::Str { .. } => self.literal(param, expr),
            _ => {
                let value = self.operand(dot, expr)?;
                self.validate(value, param)
            }
        }
    }

    fn literal(&mut self, param: Param, expr: &'t Expr) -> Run<Value> {
        self.at = At::Expr(expr);
        match (param, &expr.kind) {
            (Param::Any | Param::Bool, ExprKind::Bool(value)) => Ok(Value::Bool(*value)),
            (Param::Any | Param::Text, ExprKind::Str { text, .. }) => Ok(Value::Str(text.clone())),
            (Param::Any, ExprKind::Number(number)) => Ok(self.constant(number)?.value),
            (Param::Int, ExprKind::Number(number)) if number.int.is_some() => {
                Ok(Value::Int(number.int.unwrap_or(0)))
            }
            (Param::Bool, _) => self.error(format!("expected bool; found {expr}")),
            (Param::Text, _) => self.error(format!("expected string; found {expr}")),
            (Param::Int, _) => self.error(format!("expected integer; found {expr}")),
            _ => self.error(format!("can't handle {expr} for arg of type {}", param.type_name())),
        }
    }

    fn validate(&self, operand: Operand, param: Param) -> Run<Value> {
        let fits = match (param, &operand.value) {
            (Param::Any, _)
            | (Param::Text, Value::Str(_))
            | (Param::Int, Value::Int(_))
            | (Param::Bool, Value::Bool(_)) => true,
            (Param::Map, Value::Map(map)) => map.kind() != MapKind::Str,
            (Param::Map, Value::Nil) => !operand.boxed,
            (Param::Typed(name), Value::Object(object)) => object.type_name() == name,
            _ => false,
        };
        if fits {
            return Ok(operand.value);
        }
        let expected = param.type_name();
        match &operand.value {
            Value::Nil if !operand.boxed => self.error(format!("invalid value; expected {expected}")),
            Value::Nil => {
                self.error(format!("wrong type for value; expected {expected}; got interface {{}}"))
            }
            value => {
                let got = value.type_name();
                self.error(format!("wrong type for value; expected {expected}; got {got}"))
            }
        }
    }
}
