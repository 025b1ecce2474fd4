//! Go's text/template: text to tokens to trees, and their execution.

pub(crate) mod ast;
pub(crate) mod exec;
mod lexer;
pub(crate) mod limits;
pub(crate) mod number;
pub(crate) mod parse;
pub(crate) mod printf;
pub(crate) mod set;
pub(crate) mod value;
