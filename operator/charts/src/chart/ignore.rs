//! `.helmignore` and the patterns of `.Files.Glob`.

/// The rules of a `.helmignore`.
#[derive(Debug, Default)]
pub(super) struct IgnoreRules {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    pattern: String,
    negate: bool,
    folders_only: bool,
}

impl IgnoreRules {
    /// Reads the rules; Helm's own (editor and hidden template files) come with them.
    pub(super) fn parse(text: &str) -> Self {
        let lines = text.lines().chain(["templates/.?*"]);
        let rules = lines.filter_map(|line| {
            let line = line.trim();
            // Helm refuses `**`; such a rule is left out here rather than the chart refused.
            if line.is_empty() || line.starts_with('#') || line.contains("**") {
                return None;
            }
            let (negate, line) = match line.strip_prefix('!') {
                Some(rest) => (true, rest),
                None => (false, line),
            };
            let (folders_only, line) = match line.strip_suffix('/') {
                Some(rest) => (true, rest),
                None => (false, line),
            };
            Some(Rule { pattern: line.to_owned(), negate, folders_only })
        });
        Self { rules: rules.collect() }
    }

    /// Whether the file or folder at `path` (relative to the chart) is left out.
    pub(super) fn ignores(&self, path: &str, is_folder: bool) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path);
        for rule in &self.rules {
            let matched = if let Some(rooted) = rule.pattern.strip_prefix('/') {
                segment_match(rooted, path)
            } else if rule.pattern.contains('/') {
                segment_match(&rule.pattern, path)
            } else {
                segment_match(&rule.pattern, name)
            };
            if rule.negate {
                if rule.folders_only && !is_folder {
                    return true;
                }
                if !matched {
                    return true;
                }
                continue;
            }
            if rule.folders_only && !is_folder {
                continue;
            }
            if matched {
                return true;
            }
        }
        false
    }
}

fn segment_match(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    matches(&pattern, &text, false)
}

/// Go glob patterns: `*` within a path element, `**` across them, `?`, `[a-z]`, `{a,b}`.
pub(crate) fn glob_matches(pattern: &str, text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    alternatives(pattern, 64).iter().any(|pattern| {
        let pattern: Vec<char> = pattern.chars().collect();
        matches(&pattern, &text, true)
    })
}

/// Writes `{a,b}` out as separate patterns, at most `limit` of them.
fn alternatives(pattern: &str, limit: usize) -> Vec<String> {
    let Some(open) = pattern.find('{') else { return vec![pattern.to_owned()] };
    let Some(length) = pattern[open..].find('}') else { return vec![pattern.to_owned()] };
    let close = open + length;
    let mut out = Vec::new();
    for choice in pattern[open + 1..close].split(',') {
        let expanded = format!("{}{choice}{}", &pattern[..open], &pattern[close + 1..]);
        out.extend(alternatives(&expanded, limit.saturating_sub(out.len())));
        if out.len() >= limit {
            break;
        }
    }
    out
}

/// Matches with one place to go back to per kind of star, so the time is bounded by the product of the lengths.
fn matches(pattern: &[char], text: &[char], double_star: bool) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut single: Option<(usize, usize)> = None;
    let mut double: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(p) {
            None => t == text.len(),
            Some('*') => {
                if double_star && pattern.get(p + 1) == Some(&'*') {
                    p += 2;
                    double = Some((p, t));
                    single = None;
                } else {
                    p += 1;
                    single = Some((p, t));
                }
                continue;
            }
            Some(_) => match (text.get(t), one(pattern, p, text.get(t).copied())) {
                (Some(_), Some(next)) => {
                    p = next;
                    t += 1;
                    continue;
                }
                _ => false,
            },
        };
        if step {
            return true;
        }
        if let Some((at, from)) = single
            && text.get(from).is_some_and(|c| *c != '/')
        {
            single = Some((at, from + 1));
            (p, t) = (at, from + 1);
        } else if let Some((at, from)) = double
            && from < text.len()
        {
            double = Some((at, from + 1));
            single = None;
            (p, t) = (at, from + 1);
        } else {
            return false;
        }
    }
}

/// Matches one character; the place in the pattern after it.
fn one(pattern: &[char], at: usize, c: Option<char>) -> Option<usize> {
    let c = c?;
    match *pattern.get(at)? {
        '?' => (c != '/').then_some(at + 1),
        '\\' => (*pattern.get(at + 1)? == c).then_some(at + 2),
        '[' => {
            let mut p = at + 1;
            let negate = matches!(pattern.get(p), Some('^' | '!'));
            if negate {
                p += 1;
            }
            let mut found = false;
            let mut first = true;
            while first || *pattern.get(p)? != ']' {
                first = false;
                let low = *pattern.get(p)?;
                let high = if pattern.get(p + 1) == Some(&'-') && pattern.get(p + 2) != Some(&']') {
                    p += 2;
                    *pattern.get(p)?
                } else {
                    low
                };
                found |= (low..=high).contains(&c);
                p += 1;
            }
            (found != negate).then_some(p + 1)
        }
        literal => (literal == c).then_some(at + 1),
    }
}
