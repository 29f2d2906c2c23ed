//! Certificates and keys of PEM files. `rustls-pki-types` reads each section; errors name the line.

use rustls_pki_types::pem::{Error, PemObject, SectionKind};

/// The certificates of a text, in DER, in their order; other sections are ignored.
pub(super) fn certificates(text: &str) -> Result<Vec<Vec<u8>>, String> {
    let mut found = Vec::new();
    for section in sections(text).iter().filter(|section| !section.is_locked()) {
        if let Some((SectionKind::Certificate, der)) = section.read()? {
            found.push(der);
        }
    }
    if found.is_empty() {
        return Err("contains no certificate (-----BEGIN CERTIFICATE-----)".to_owned());
    }
    Ok(found)
}

/// The one private key of a text, in DER.
pub(super) fn private_key(text: &str) -> Result<Vec<u8>, String> {
    use SectionKind::{EcPrivateKey, PrivateKey, RsaPrivateKey};
    let mut found = Vec::new();
    for section in sections(text) {
        if section.is_locked() {
            return Err("contains a key with a passphrase; use a key without a passphrase".to_owned());
        }
        if let Some((PrivateKey | RsaPrivateKey | EcPrivateKey, der)) = section.read()? {
            found.push(der);
        }
    }
    match (found.pop(), found.len()) {
        (Some(key), 0) => Ok(key),
        (Some(_), others) => Err(format!("contains {} private keys", others + 1)),
        (None, _) => Err("contains no private key (-----BEGIN PRIVATE KEY-----)".to_owned()),
    }
}

/// From one `-----BEGIN` to the next, without the spaces around its lines.
struct Section {
    line: usize,
    text: String,
}

fn sections(text: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for (index, line) in text.lines().map(str::trim).enumerate() {
        if line.starts_with("-----BEGIN ") {
            sections.push(Section { line: index + 1, text: String::new() });
        }
        if let Some(section) = sections.last_mut() {
            section.text.push_str(line);
            section.text.push('\n');
        }
    }
    sections
}

impl Section {
    /// The content of a section; `None` if TLS has no use for its kind.
    fn read(&self) -> Result<Option<(SectionKind, Vec<u8>)>, String> {
        let wrong = |what| Err(format!("what begins on line {} {what}", self.line));
        match PemObject::from_pem_slice(self.text.as_bytes()) {
            Ok(read) => Ok(Some(read)),
            Err(Error::NoItemsFound) => Ok(None),
            Err(Error::MissingSectionEnd { .. }) => wrong("has no end (-----END ...-----)"),
            Err(Error::IllegalSectionStart { .. }) => wrong("does not begin with a whole -----BEGIN ...----- line"),
            Err(_) => wrong("is not base64"),
        }
    }

    /// A key with a passphrase, of the present kind or of the old one, which has a header that says so.
    fn is_locked(&self) -> bool {
        self.text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----")
            || self.text.contains("\nProc-Type: 4,ENCRYPTED\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(label: &str, body: &str) -> String {
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
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
        assert_eq!(
            certificates(&block("CERTIFICATE", "  Zg==  ").replace("-----B", "  -----B")).unwrap(),
            [b"f".to_vec()]
        );
        for (text, problem) in [
            ("-----BEGIN CERTIFICATE-----\nZg==\n", "line 1 has no end"),
            ("\n-----BEGIN CERTIFICATE-----\nZg==\n-----END X-----\n", "line 2 has no end"),
            ("-----BEGIN X-----\nZg==\n", "line 1 has no end"),
            ("-----BEGIN CERTIFICATE----\nZg==\n-----END CERTIFICATE-----\n", "line 1 does not begin with a whole"),
            (&block("CERTIFICATE", "Z!=="), "line 1 is not base64"),
            (&block("CERTIFICATE", "Zm9v: x"), "line 1 is not base64"),
            (&(block("CERTIFICATE", "Zg==") + &block("CERTIFICATE", "Zg=\u{e4}")), "line 4 is not base64"),
        ] {
            let told = certificates(text).unwrap_err();
            assert!(told.contains(problem), "{told}");
        }
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
        assert!(private_key(&block("OPENSSH PRIVATE KEY", "Zg==")).unwrap_err().contains("no private key"));
        let old = block("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nZm9v");
        for locked in [old, block("ENCRYPTED PRIVATE KEY", "Zm9v")] {
            assert_eq!(certificates(&(block("CERTIFICATE", "Zg==") + &locked)).unwrap(), [b"f".to_vec()]);
            assert!(private_key(&locked).unwrap_err().contains("passphrase"));
        }
    }
}
