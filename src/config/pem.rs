//! Certificates and keys as PEM files hold them: base64 between lines that say what it is.

/// The certificates of a text, in DER, in their order; other things in it are passed over.
pub(super) fn certificates(text: &str) -> Result<Vec<Vec<u8>>, String> {
    let found: Vec<_> = blocks(text)?.into_iter().filter(|block| block.label == "CERTIFICATE").collect();
    if found.is_empty() {
        return Err("contains no certificate (-----BEGIN CERTIFICATE-----)".to_owned());
    }
    Ok(found.into_iter().map(|block| block.der).collect())
}

/// The one private key of a text, in DER.
pub(super) fn private_key(text: &str) -> Result<Vec<u8>, String> {
    let mut keys: Vec<_> = blocks(text)?.into_iter().filter(|block| block.label.ends_with("PRIVATE KEY")).collect();
    match keys.pop() {
        Some(_) if !keys.is_empty() => Err(format!("contains {} private keys", keys.len() + 1)),
        Some(key) if key.label.starts_with("ENCRYPTED") || key.is_locked => {
            Err("contains a key with a passphrase; use a key without a passphrase".to_owned())
        }
        Some(key) => Ok(key.der),
        None => Err("contains no private key (-----BEGIN PRIVATE KEY-----)".to_owned()),
    }
}

struct Block<'a> {
    label: &'a str,
    der: Vec<u8>,
    /// It has a head that says how it is encrypted, as old keys have.
    is_locked: bool,
}

fn blocks(text: &str) -> Result<Vec<Block<'_>>, String> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, &str, String, bool)> = None;
    for (number, line) in text.lines().map(str::trim).enumerate().map(|(index, line)| (index + 1, line)) {
        let mark = |word: &str| line.strip_prefix(word).and_then(|rest| rest.strip_suffix("-----"));
        match &mut open {
            None => open = mark("-----BEGIN ").map(|label| (number, label, String::new(), false)),
            Some((start, label, body, is_locked)) => match mark("-----END ") {
                Some(end) if end == *label => {
                    let der = if *is_locked { Some(Vec::new()) } else { base64(body) };
                    let der = der.ok_or_else(|| format!("what begins on line {start} is not base64"))?;
                    blocks.push(Block { label, der, is_locked: *is_locked });
                    open = None;
                }
                Some(_) => return Err(format!("what begins on line {start} has another end, on line {number}")),
                None if line.contains(':') => *is_locked = true,
                None => body.push_str(line),
            },
        }
    }
    match open {
        Some((start, ..)) => Err(format!("what begins on line {start} has no end")),
        None => Ok(blocks),
    }
}

/// RFC 4648, with its padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    if !text.len().is_multiple_of(4) || text.len() - digits.len() > 2 {
        return None;
    }
    let (mut bytes, mut bits, mut held) = (Vec::with_capacity(digits.len()), 0_u32, 0_u32);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.extend(u8::try_from(bits >> held));
            bits &= (1 << held) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(label: &str, body: &str) -> String {
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    }

    #[test]
    fn base64_as_the_standard_shows_it() {
        let shown: [(&str, &[u8]); 7] = [
            ("", b""),
            ("Zg==", b"f"),
            ("Zm8=", b"fo"),
            ("Zm9v", b"foo"),
            ("Zm9vYg==", b"foob"),
            ("Zm9vYmE=", b"fooba"),
            ("+/+/", &[0xfb, 0xff, 0xbf]),
        ];
        for (text, bytes) in shown {
            assert_eq!(base64(text).as_deref(), Some(bytes), "{text}");
        }
        for text in ["Zg", "Zg=", "Zg===", "Z=g=", "Z g=", "Zm9\u{e4}", "===="] {
            assert_eq!(base64(text), None, "{text}");
        }
    }

    #[test]
    fn certificates_come_in_their_order() {
        let text = format!(
            "subject=x\n{}words\n{}{}",
            block("CERTIFICATE", "Zm9v\r\nYmFy"),
            block("X", "Zg=="),
            block("CERTIFICATE", "Zg==")
        );
        assert_eq!(certificates(&text).unwrap(), [b"foobar".to_vec(), b"f".to_vec()]);
        assert!(certificates("").unwrap_err().contains("BEGIN CERTIFICATE"));
        assert!(certificates("-----BEGIN CERTIFICATE-----\nZg==\n").unwrap_err().contains("line 1 has no end"));
        assert!(certificates(&block("CERTIFICATE", "Z!==")).unwrap_err().contains("line 1 is not base64"));
    }

    #[test]
    fn there_is_one_key_and_it_is_open() {
        for label in ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"] {
            assert_eq!(
                private_key(&format!("{}{}", block("CERTIFICATE", "Zg=="), block(label, "Zm9v"))).unwrap(),
                b"foo"
            );
        }
        let two = block("PRIVATE KEY", "Zm9v").repeat(2);
        assert!(private_key(&two).unwrap_err().contains("2 private keys"));
        assert!(private_key(&block("CERTIFICATE", "Zg==")).unwrap_err().contains("no private key"));
        let old = block("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nZm9v");
        for locked in [old, block("ENCRYPTED PRIVATE KEY", "Zm9v")] {
            assert!(private_key(&locked).unwrap_err().contains("passphrase"));
        }
    }
}
