//! Tokens to a tree of nodes: the parser half of the YAML reader.

use std::{borrow::Cow, collections::HashMap};

use super::{
    YamlError,
    scan::{MAX_DEPTH, Mark, Scanner, Token, TokenKind},
};

/// An index into [`Document::nodes`].
pub(super) type NodeId = usize;

pub(super) struct Node<'a> {
    pub(super) data: NodeData<'a>,
    /// The tag as written, with its handle resolved; `None` for an untagged node.
    pub(super) tag: Option<String>,
}

pub(super) enum NodeData<'a> {
    /// `plain` is false for quoted and block scalars, which stay text.
    Scalar {
        value: Cow<'a, str>,
        plain: bool,
    },
    Sequence(Vec<NodeId>),
    Mapping(Vec<(NodeId, NodeId)>),
    Alias {
        name: String,
        target: NodeId,
    },
    /// A collection whose children are still being read; only an alias inside itself can meet it.
    Open,
}

pub(super) struct Document<'a> {
    pub(super) nodes: Vec<Node<'a>>,
    pub(super) root: NodeId,
}

pub(super) struct Parser<'a> {
    scanner: Scanner<'a>,
    nodes: Vec<Node<'a>>,
    anchors: HashMap<String, NodeId>,
    tags: Vec<(String, String)>,
    depth: usize,
    started: bool,
}

type Parse<T> = Result<T, YamlError>;

struct Properties {
    start: Mark,
    tag: Option<String>,
    anchor: Option<String>,
}

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a str) -> Parse<Self> {
        Ok(Self {
            scanner: Scanner::new(text)?,
            nodes: Vec::with_capacity(text.len() / 16),
            anchors: HashMap::new(),
            tags: Vec::new(),
            depth: 0,
            started: false,
        })
    }

    /// The next document, or `None` at the end of the stream.
    pub(super) fn document(&mut self) -> Parse<Option<Document<'a>>> {
        self.nodes.clear();
        self.anchors.clear();
        let implicit = !self.started;
        self.started = true;
        if !implicit {
            while self.scanner.kind()? == TokenKind::DocumentEnd {
                self.scanner.next()?;
            }
        }
        let kind = self.scanner.kind()?;
        if kind == TokenKind::StreamEnd {
            return Ok(None);
        }
        let explicit =
            matches!(kind, TokenKind::VersionDirective | TokenKind::TagDirective | TokenKind::DocumentStart);
        self.process_directives()?;
        let root = if implicit && !explicit {
            self.node(true, false)?
        } else {
            let token = self.scanner.peek()?;
            if token.kind != TokenKind::DocumentStart {
                return error("did not find expected <document start>", token.start, Mark::default());
            }
            self.scanner.next()?;
            let token = self.scanner.peek()?;
            match token.kind {
                TokenKind::VersionDirective
                | TokenKind::TagDirective
                | TokenKind::DocumentStart
                | TokenKind::DocumentEnd
                | TokenKind::StreamEnd => self.empty(),
                _ => self.node(true, false)?,
            }
        };
        if self.scanner.kind()? == TokenKind::DocumentEnd {
            self.scanner.next()?;
        }
        self.tags.clear();
        Ok(Some(Document { nodes: std::mem::take(&mut self.nodes), root }))
    }

    fn process_directives(&mut self) -> Parse<()> {
        let mut version_seen = false;
        loop {
            let kind = self.scanner.kind()?;
            if kind == TokenKind::VersionDirective {
                let token = self.scanner.next()?;
                if version_seen {
                    return error("found duplicate %YAML directive", token.start, Mark::default());
                }
                if token.suffix != "1.1" {
                    return error("found incompatible YAML document", token.start, Mark::default());
                }
                version_seen = true;
            } else if kind == TokenKind::TagDirective {
                let token = self.scanner.next()?;
                if self.tags.iter().any(|(handle, _)| *handle == token.value) {
                    return error("found duplicate %TAG directive", token.start, Mark::default());
                }
                self.tags.push((token.value.into_owned(), token.suffix.into_owned()));
            } else {
                return Ok(());
            }
        }
    }

    fn add(&mut self, data: NodeData<'a>, tag: Option<String>) -> NodeId {
        self.nodes.push(Node { data, tag });
        self.nodes.len() - 1
    }

    fn empty(&mut self) -> NodeId {
        self.add(NodeData::Scalar { value: Cow::Borrowed(""), plain: true }, None)
    }

    fn node(&mut self, block: bool, indentless: bool) -> Parse<NodeId> {
        if self.depth >= MAX_DEPTH {
            return Err(YamlError::new(&format!("exceeded max depth of {MAX_DEPTH}"), 0));
        }
        self.depth += 1;
        let node = self.node_inner(block, indentless);
        self.depth -= 1;
        node
    }

    fn node_inner(&mut self, block: bool, indentless: bool) -> Parse<NodeId> {
        let token = self.scanner.peek()?;
        if token.kind == TokenKind::Alias {
            let token = self.scanner.next()?;
            let name = token.value.into_owned();
            let Some(&target) = self.anchors.get(&name) else {
                return Err(YamlError::new(&format!("unknown anchor '{name}' referenced"), 0));
            };
            return Ok(self.add(NodeData::Alias { name, target }, None));
        }
        let Properties { start, tag, anchor } = self.properties()?;
        let token = self.scanner.peek()?;
        let here = token.start;
        match token.kind {
            TokenKind::BlockEntry if indentless => {
                let id = self.open(tag, anchor);
                self.indentless_sequence(id)
            }
            TokenKind::PlainScalar | TokenKind::QuotedScalar | TokenKind::BlockScalar => {
                let Token { kind, value, .. } = self.scanner.next()?;
                let plain = match &tag {
                    None => kind == TokenKind::PlainScalar,
                    Some(tag) => tag == "!",
                };
                let id = self.add(NodeData::Scalar { value, plain }, tag);
                self.name(anchor, id);
                Ok(id)
            }
            TokenKind::FlowSequenceStart => {
                let id = self.open(tag, anchor);
                self.flow_sequence(id)
            }
            TokenKind::FlowMappingStart => {
                let id = self.open(tag, anchor);
                self.flow_mapping(id)
            }
            TokenKind::BlockSequenceStart if block => {
                let id = self.open(tag, anchor);
                self.block_sequence(id)
            }
            TokenKind::BlockMappingStart if block => {
                let id = self.open(tag, anchor);
                self.block_mapping(id)
            }
            _ if anchor.is_some() || tag.is_some() => {
                let plain = tag.is_none();
                let id = self.add(NodeData::Scalar { value: Cow::Borrowed(""), plain }, tag);
                self.name(anchor, id);
                Ok(id)
            }
            _ => error("did not find expected node content", here, start),
        }
    }

    fn open(&mut self, tag: Option<String>, anchor: Option<String>) -> NodeId {
        let id = self.add(NodeData::Open, tag);
        self.name(anchor, id);
        id
    }

    fn name(&mut self, anchor: Option<String>, id: NodeId) {
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor, id);
        }
    }

    fn close(&mut self, id: NodeId, data: NodeData<'a>) -> NodeId {
        if let Some(node) = self.nodes.get_mut(id) {
            node.data = data;
        }
        id
    }

    fn properties(&mut self) -> Parse<Properties> {
        let token = self.scanner.peek()?;
        let mut found = Properties { start: token.start, tag: None, anchor: None };
        let mut tag_seen = false;
        loop {
            match self.scanner.kind()? {
                TokenKind::Anchor if found.anchor.is_none() => {
                    found.anchor = Some(self.scanner.next()?.value.into_owned());
                }
                TokenKind::Tag if !tag_seen => {
                    tag_seen = true;
                    let token = self.scanner.next()?;
                    let tag = self.resolve_tag(&token, found.start)?;
                    found.tag = (!tag.is_empty()).then_some(tag);
                }
                _ => return Ok(found),
            }
        }
    }

    fn resolve_tag(&self, token: &Token<'_>, start: Mark) -> Parse<String> {
        if token.value.is_empty() {
            return Ok(token.suffix.clone().into_owned());
        }
        let prefix = self
            .tags
            .iter()
            .find(|(handle, _)| *handle == token.value)
            .map(|(_, prefix)| prefix.as_str())
            .or(match token.value.as_ref() {
                "!" => Some("!"),
                "!!" => Some(super::TAG_PREFIX),
                _ => None,
            });
        match prefix {
            Some(prefix) => Ok(format!("{prefix}{}", token.suffix)),
            None => error("found undefined tag handle", token.start, start),
        }
    }

    fn block_sequence(&mut self, id: NodeId) -> Parse<NodeId> {
        let context = self.scanner.next()?.start;
        let mut items = Vec::new();
        loop {
            let token = self.scanner.peek()?;
            match token.kind {
                TokenKind::BlockEntry => {
                    self.scanner.next()?;
                    items.push(match self.scanner.kind()? {
                        TokenKind::BlockEntry | TokenKind::BlockEnd => self.empty(),
                        _ => self.node(true, false)?,
                    });
                }
                TokenKind::BlockEnd => {
                    self.scanner.next()?;
                    return Ok(self.close(id, NodeData::Sequence(items)));
                }
                _ => return error("did not find expected '-' indicator", token.start, context),
            }
        }
    }

    fn indentless_sequence(&mut self, id: NodeId) -> Parse<NodeId> {
        let mut items = Vec::new();
        while self.scanner.kind()? == TokenKind::BlockEntry {
            self.scanner.next()?;
            items.push(match self.scanner.kind()? {
                TokenKind::BlockEntry | TokenKind::Key | TokenKind::Value | TokenKind::BlockEnd => {
                    self.empty()
                }
                _ => self.node(true, false)?,
            });
        }
        Ok(self.close(id, NodeData::Sequence(items)))
    }

    fn block_mapping(&mut self, id: NodeId) -> Parse<NodeId> {
        let context = self.scanner.next()?.start;
        let mut entries = Vec::new();
        loop {
            let token = self.scanner.peek()?;
            let here = token.start;
            match token.kind {
                TokenKind::Key => {
                    self.scanner.next()?;
                    let key = self.block_mapping_node()?;
                    let value = if self.scanner.kind()? == TokenKind::Value {
                        self.scanner.next()?;
                        self.block_mapping_node()?
                    } else {
                        self.empty()
                    };
                    entries.push((key, value));
                }
                TokenKind::BlockEnd => {
                    self.scanner.next()?;
                    return Ok(self.close(id, NodeData::Mapping(entries)));
                }
                _ => return error("did not find expected key", here, context),
            }
        }
    }

    fn block_mapping_node(&mut self) -> Parse<NodeId> {
        match self.scanner.kind()? {
            TokenKind::Key | TokenKind::Value | TokenKind::BlockEnd => Ok(self.empty()),
            _ => self.node(true, true),
        }
    }

    fn flow_sequence(&mut self, id: NodeId) -> Parse<NodeId> {
        let context = self.scanner.next()?.start;
        let mut items = Vec::new();
        loop {
            let mut token = self.scanner.peek()?;
            if token.kind != TokenKind::FlowSequenceEnd && !items.is_empty() {
                if token.kind != TokenKind::FlowEntry {
                    return error("did not find expected ',' or ']'", token.start, context);
                }
                self.scanner.next()?;
                token = self.scanner.peek()?;
            }
            match token.kind {
                TokenKind::FlowSequenceEnd => {
                    self.scanner.next()?;
                    return Ok(self.close(id, NodeData::Sequence(items)));
                }
                TokenKind::Key => {
                    let pair = self.flow_pair()?;
                    items.push(pair);
                }
                _ => {
                    let item = self.node(false, false)?;
                    items.push(item);
                }
            }
        }
    }

    /// `[a: b]`: one pair of a flow sequence is a mapping.
    fn flow_pair(&mut self) -> Parse<NodeId> {
        self.scanner.next()?;
        let id = self.open(None, None);
        let key = match self.scanner.kind()? {
            TokenKind::Value | TokenKind::FlowEntry | TokenKind::FlowSequenceEnd => {
                // libyaml drops the token that it stopped at here.
                self.scanner.next()?;
                self.empty()
            }
            _ => self.node(false, false)?,
        };
        if self.scanner.kind()? == TokenKind::Value {
            self.scanner.next()?;
            if !matches!(self.scanner.kind()?, TokenKind::FlowEntry | TokenKind::FlowSequenceEnd) {
                let value = self.node(false, false)?;
                return Ok(self.close(id, NodeData::Mapping(vec![(key, value)])));
            }
        }
        let value = self.empty();
        Ok(self.close(id, NodeData::Mapping(vec![(key, value)])))
    }

    fn flow_mapping(&mut self, id: NodeId) -> Parse<NodeId> {
        let context = self.scanner.next()?.start;
        let mut entries: Vec<(NodeId, NodeId)> = Vec::new();
        loop {
            let mut token = self.scanner.peek()?;
            if token.kind != TokenKind::FlowMappingEnd && !entries.is_empty() {
                if token.kind != TokenKind::FlowEntry {
                    return error("did not find expected ',' or '}'", token.start, context);
                }
                self.scanner.next()?;
                token = self.scanner.peek()?;
            }
            match token.kind {
                TokenKind::FlowMappingEnd => {
                    self.scanner.next()?;
                    return Ok(self.close(id, NodeData::Mapping(entries)));
                }
                TokenKind::Key => {
                    self.scanner.next()?;
                    let key = match self.scanner.kind()? {
                        TokenKind::Value | TokenKind::FlowEntry | TokenKind::FlowMappingEnd => self.empty(),
                        _ => self.node(false, false)?,
                    };
                    let value = self.flow_value()?;
                    entries.push((key, value));
                }
                _ => {
                    let key = self.node(false, false)?;
                    let value = self.empty();
                    entries.push((key, value));
                }
            }
        }
    }

    fn flow_value(&mut self) -> Parse<NodeId> {
        if self.scanner.kind()? == TokenKind::Value {
            self.scanner.next()?;
            if !matches!(self.scanner.kind()?, TokenKind::FlowEntry | TokenKind::FlowMappingEnd) {
                return self.node(false, false);
            }
        }
        Ok(self.empty())
    }
}

fn error<T>(problem: &str, mark: Mark, context: Mark) -> Parse<T> {
    Err(YamlError::new(problem, if mark.line != 0 { mark.line } else { context.line }))
}
