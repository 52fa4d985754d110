//! Reads Rust source as far as the rules need it: code without comments, texts and tests; paths; functions.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// One file of a crate.
#[derive(Debug, Clone)]
pub struct File {
    /// Inside the crate's folder: `src/policy/retry.rs`.
    pub path: PathBuf,
    /// As it is.
    pub text: String,
    /// Without comments, texts, and what is compiled for tests only; the lines stay where they are.
    pub code: String,
}

impl File {
    /// From its text.
    pub fn new(path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        let text = text.into();
        let code = without_tests(&blank(&text));
        Self { path: path.into(), text, code }
    }

    /// The module path: `["policy", "retry"]`; empty for the root.
    pub fn module(&self) -> Vec<String> {
        let inside = self.path.strip_prefix("src").unwrap_or(&self.path).with_extension("");
        let mut parts: Vec<String> = inside.iter().map(|p| p.to_string_lossy().into_owned()).collect();
        if matches!(parts.last().map(String::as_str), Some("mod" | "lib" | "main")) {
            parts.pop();
        }
        parts
    }

    /// All paths into the own crate, from its root: `crate::{a::b, c}` is `[a, b]` and `[c]`.
    pub fn paths(&self) -> Vec<Vec<String>> {
        let tokens = tokens(&self.code);
        let module = self.module();
        let mut found = Vec::new();
        for at in 0..tokens.len() {
            let continues = at > 0 && tokens[at - 1].text == "::";
            if !continues && matches!(tokens[at].text, "crate" | "super") {
                let mut expanded = Vec::new();
                expand(&tokens, at, &mut Vec::new(), &mut expanded);
                found.extend(expanded.iter().filter_map(|path| from_root(&module, path)));
            }
        }
        found
    }

    /// Each function's name, first line, and number of lines.
    pub fn functions(&self) -> Vec<(String, usize, usize)> {
        let tokens = tokens(&self.code);
        let mut found = Vec::new();
        for at in 0..tokens.len().saturating_sub(1) {
            let name = tokens[at + 1].text;
            if tokens[at].text != "fn" || !name.starts_with(|c: char| c.is_alphabetic() || c == '_') {
                continue;
            }
            let body = tokens[at..].iter().position(|t| matches!(t.text, "{" | ";"));
            let Some(open) = body.map(|b| at + b).filter(|b| tokens[*b].text == "{") else { continue };
            let close = closing(&tokens, open);
            found.push((name.to_owned(), tokens[at].line, tokens[close].line - tokens[at].line + 1));
        }
        found
    }

    /// Whether a word occurs in the code.
    pub fn says(&self, word: &str) -> bool {
        tokens(&self.code).iter().any(|t| t.text == word)
    }
}

/// All `.rs` files of a crate, save those that its modules declare for tests only.
pub fn read(crate_dir: &Path) -> io::Result<Vec<File>> {
    let mut files = Vec::new();
    for folder in ["src", "tests", "benches", "examples"] {
        walk(crate_dir, &crate_dir.join(folder), &mut files)?;
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let for_tests: Vec<Vec<String>> = files.iter().flat_map(test_modules).collect();
    for file in &mut files {
        if for_tests.iter().any(|m| file.module().starts_with(m)) {
            file.code.clear();
        }
    }
    Ok(files)
}

fn walk(root: &Path, folder: &Path, files: &mut Vec<File>) -> io::Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            walk(root, &path, files)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(File::new(path.strip_prefix(root).unwrap_or(&path), fs::read_to_string(&path)?));
        }
    }
    Ok(())
}

/// The modules that a file declares by `#[cfg(test)] mod x;`.
fn test_modules(file: &File) -> Vec<Vec<String>> {
    let code = blank(&file.text);
    let declared = code.split("#[cfg(test)]").skip(1).filter_map(|rest| {
        let declaration = rest.trim_start().trim_start_matches("pub(crate) ").trim_start_matches("pub ");
        let (name, end) = declaration.strip_prefix("mod ")?.split_once([';', '{'])?;
        let is_file = declaration[..declaration.len() - end.len()].ends_with(';');
        is_file.then(|| name.trim().to_owned())
    });
    let module = file.module();
    declared.map(|name| module.iter().cloned().chain([name]).collect()).collect()
}

#[derive(Debug, Clone, Copy)]
struct Token<'a> {
    text: &'a str,
    line: usize,
}

fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    while let Some(c) = code[at..].chars().next() {
        let len = if c.is_alphanumeric() || c == '_' {
            code[at..].find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(code.len() - at)
        } else if code[at..].starts_with("::") {
            2
        } else {
            c.len_utf8()
        };
        if c == '\n' {
            line += 1;
        } else if !c.is_whitespace() {
            found.push(Token { text: &code[at..at + len], line });
        }
        at += len;
    }
    found
}

/// The paths that begin at a token, trees taken apart. Returns the token after them.
fn expand(tokens: &[Token<'_>], mut at: usize, before: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> usize {
    let depth = before.len();
    loop {
        match tokens.get(at).map(|t| t.text) {
            Some("{") => {
                at += 1;
                while tokens.get(at).is_some_and(|t| t.text != "}") {
                    at = expand(tokens, at, before, found);
                    if tokens.get(at).is_some_and(|t| t.text == ",") {
                        at += 1;
                    }
                }
                at += 1;
                break;
            }
            Some(word) if word == "*" || word.starts_with(|c: char| c.is_alphabetic() || c == '_') => {
                before.push(word.to_owned());
                at += 1;
                if tokens.get(at).is_none_or(|t| t.text != "::") {
                    found.push(before.clone());
                    if tokens.get(at).is_some_and(|t| t.text == "as") {
                        at += 2;
                    }
                    break;
                }
                at += 1;
            }
            // Generic arguments, or the end.
            _ => {
                found.push(before.clone());
                at += 1;
                break;
            }
        }
    }
    before.truncate(depth);
    at
}

/// Without `crate`, `self` and `super`; `None` for a path that names nothing below the root.
fn from_root(module: &[String], path: &[String]) -> Option<Vec<String>> {
    let mut absolute: Vec<String> = match path.first()?.as_str() {
        "crate" => Vec::new(),
        _ => module.to_vec(),
    };
    for segment in path {
        match segment.as_str() {
            "crate" | "self" => {}
            "super" => {
                absolute.pop();
            }
            name => absolute.push(name.to_owned()),
        }
    }
    (path.len() > 1 && !absolute.is_empty()).then_some(absolute)
}

fn closing(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    tokens.len() - 1
}

/// Comments and texts become blanks.
fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let (len, keep) = match c {
            '/' if rest.starts_with("//") => (rest.find('\n').unwrap_or(rest.len()), false),
            '/' if rest.starts_with("/*") => (comment(rest), false),
            'r' | 'b' if starts_text(rest) && !out.ends_with(|c: char| c.is_alphanumeric() || c == '_') => {
                (quoted(rest), false)
            }
            '"' => (quoted(rest), false),
            '\'' => (character(rest), false),
            _ => (c.len_utf8(), true),
        };
        let part = &rest[..len.min(rest.len())];
        if keep {
            out.push_str(part);
        } else {
            out.extend(part.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        }
        rest = &rest[part.len()..];
    }
    out
}

fn comment(text: &str) -> usize {
    let mut depth = 0usize;
    let mut at = 0;
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

fn starts_text(text: &str) -> bool {
    let after = text.trim_start_matches('b').trim_start_matches('r').trim_start_matches('#');
    text.len() - after.len() <= 8 && after.starts_with('"') && !text.starts_with('#')
}

/// The length of a text literal, raw or not.
fn quoted(text: &str) -> usize {
    let open = text.find('"').unwrap_or(0);
    let (prefix, body) = (&text[..open], &text[open + 1..]);
    if prefix.contains('r') {
        let end = format!("\"{}", "#".repeat(prefix.matches('#').count()));
        return body.find(&end).map_or(text.len(), |at| open + 1 + at + end.len());
    }
    let mut escaped = false;
    for (at, c) in body.char_indices() {
        match c {
            '"' if !escaped => return open + 1 + at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

/// The length of a character literal; 1 for the quote of a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => text[3..].find('\'').map_or(1, |at| at + 4),
        Some(_) => chars.next().filter(|(_, c)| *c == '\'').map_or(1, |(at, _)| at + 1),
        None => 1,
    }
}

/// Inline modules and items under `#[cfg(test)]` become blanks.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find(MARK) {
        let (before, marked) = rest.split_at(at);
        out.push_str(before);
        let end = end_of_item(marked, MARK.len());
        out.extend(marked[..end].chars().filter(|c| *c == '\n'));
        rest = &marked[end..];
    }
    out.push_str(rest);
    out
}

fn end_of_item(code: &str, from: usize) -> usize {
    let mut depth = 0usize;
    for (at, c) in code.char_indices().skip_while(|(at, _)| *at < from) {
        match c {
            '{' => depth += 1,
            '}' if depth <= 1 => return at + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}
