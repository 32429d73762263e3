//! Text from elsewhere, made safe for a terminal, for a log, and for a command that a user pastes.

use std::borrow::Cow;

/// Returns one line that a terminal shows without obeying it. Control characters and invisible characters
/// become escapes, `\n` or `\u{1b}`. A repository, a store or a server may have put them there to move the
/// cursor or to forge a line.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if is_hidden(c) && c.escape_debug().len() > 1 => shown.extend(c.escape_debug()),
            c if is_hidden(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// Returns the same JSON with hidden characters as escapes. Such characters can only stand inside its
/// strings. Its own line ends stay.
pub fn visible_json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        if c == '\n' || !is_hidden(c) {
            shown.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            shown.push_str(&format!("\\u{unit:04x}"));
        }
    }
    shown
}

/// Returns true for a control character, and for an invisible one that changes how others are shown:
/// directions, line separators, fillers and tags. Joiners stay, because some scripts need them.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Returns a word of a POSIX shell that means this text, for a command that a user pastes.
pub fn shell_word(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+=,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("'{}'", text.replace('\'', r"'\''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_written_out() {
        assert_eq!(visible("bucket/ä 日本 \u{200d}"), "bucket/ä 日本 \u{200d}");
        assert_eq!(visible("x\u{1b}[2J\r\n\t\u{7f}"), r"x\u{1b}[2J\r\n\t\u{7f}");
        for hidden in ['\u{9b}', '\u{202e}', '\u{2066}', '\u{200b}', '\u{2028}', '\u{feff}', '\u{e0041}'] {
            let text = format!("a{hidden}b");
            assert_eq!(visible(&text), format!("a\\u{{{:x}}}b", u32::from(hidden)));
        }
    }

    #[test]
    fn json_means_the_same_and_shows_everything() {
        let texts = ["x\u{9b}2J\u{202e}y", "\u{e0041}\u{7f}", "a \"quoted\" line\n"];
        let json = serde_json::to_string_pretty(&texts).unwrap();
        let shown = visible_json(&json);
        assert!(!shown.contains(|c| c != '\n' && is_hidden(c)), "{shown:?}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&shown).unwrap(), texts);
    }

    #[test]
    fn a_word_for_a_shell_is_one_word_there() {
        assert_eq!(shell_word("cdc::s3://team/lfs"), "cdc::s3://team/lfs");
        let texts = ["", "a b", "https://x;id>pwned;:", "$(id)", "it's `id`", "~", "a?b&c", "*", "-x\"\\!"];
        for text in texts {
            let script = format!("printf %s {}", shell_word(text));
            let shown = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&shown.stdout), text);
        }
    }
}
