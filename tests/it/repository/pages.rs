//! What the pages point to is there: files, headings, and the paths that they name.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every page, by its path in the repository.
fn pages() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for directory in ["", "docs", "k8s/chart/smarter-cni"] {
        for entry in fs::read_dir(root().join(directory)).expect(directory) {
            let name = entry.expect("an entry").file_name();
            if Path::new(&name).extension().is_some_and(|ending| ending == "md") {
                found.push(Path::new(directory).join(name));
            }
        }
    }
    assert!(found.len() > 15, "only {} pages were looked at", found.len());
    found
}

/// Lines that are prose: what stands between fences is an example.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// As GitHub makes anchors of headings.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

fn anchors(text: &str) -> BTreeSet<String> {
    prose(text).filter_map(|line| Some(anchor(line.strip_prefix('#')?.trim_start_matches('#')))).collect()
}

/// `../x` and `./x` without asking the file system.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut plain, part| {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            other => plain.push(other),
        }
        plain
    })
}

/// Why the target of a link on a page leads nowhere.
fn astray(page: &Path, text: &str, target: &str) -> Option<String> {
    let (file, heading) = target.split_once('#').unwrap_or((target, ""));
    let path = if file.is_empty() {
        page.to_owned()
    } else {
        plain(&page.parent().expect("a page is in a directory").join(file))
    };
    if !root().join(&path).exists() {
        return Some(format!("{}: there is no {target}", page.display()));
    }
    if heading.is_empty() || path.extension().is_none_or(|ending| ending != "md") {
        return None;
    }
    let there = if path == page {
        anchors(text)
    } else {
        anchors(&fs::read_to_string(root().join(&path)).expect("a page"))
    };
    (!there.contains(heading)).then(|| format!("{}: {target} has no such heading", page.display()))
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let mut wrong = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(root().join(&page)).expect("a page");
        for rest in prose(&text).flat_map(|line| line.split("](").skip(1)) {
            let target = rest.split(')').next().unwrap_or_default();
            if !target.contains("://") {
                wrong.extend(astray(&page, &text, target));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let page = Path::new("docs/doctor.md");
    for nowhere in ["y.md", "../README.md#no-such", "#none"] {
        assert!(astray(page, "# One\n", nowhere).is_some(), "{nowhere}");
    }
    assert_eq!(astray(page, "# One `two`: three\n", "#one-two-three"), None);
}

/// Whoever moves a file finds the page that sends people there.
#[test]
fn every_path_that_a_newcomer_is_sent_to_is_there() {
    let mut wrong = Vec::new();
    for page in ["CONTRIBUTING.md", "SECURITY.md", "docs/development.md"] {
        let text = fs::read_to_string(root().join(page)).expect(page);
        let code = prose(&text).flat_map(|line| line.split('`').skip(1).step_by(2));
        let words = code.flat_map(str::split_whitespace);
        let ours = [
            "src/",
            "tests/",
            "docs/",
            "image/",
            "k8s/",
            "benches/",
            "examples/",
            "share/",
            ".github/",
            ".ci/",
        ];
        for word in words.filter(|word| ours.iter().any(|directory| word.starts_with(directory))) {
            if !word.contains(['*', '…', '<', '$']) && !root().join(word).exists() {
                wrong.push(format!("{page}: there is no {word}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
