//! The password of a session (TCP-MD5, RFC 2385). It is read from where the configuration says, and is in no
//! log, report or error.

use std::fmt;
use std::io;

use crate::config::model::PasswordSource;
use crate::sys::tcp::MAX_MD5_KEY;

/// A password.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Vec<u8>);

impl Password {
    /// The octets that sign.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads it.
    ///
    /// # Errors
    /// It is not there, cannot be read, or is no password for TCP-MD5.
    pub fn read(source: &PasswordSource) -> Result<Self, PasswordError> {
        let (text, place) = match source {
            PasswordSource::File(path) => {
                let place = path.display().to_string();
                match std::fs::read(path) {
                    Ok(text) => (text, place),
                    Err(error) => return Err(PasswordError::File { place, error }),
                }
            }
            PasswordSource::Environment(name) => match std::env::var_os(name) {
                Some(value) => (value.into_encoded_bytes(), name.clone()),
                None => return Err(PasswordError::Unset { name: name.clone() }),
            },
        };
        let line = text.split(|octet| matches!(octet, b'\n' | b'\r')).next().unwrap_or_default();
        match line.len() {
            1..=MAX_MD5_KEY => Ok(Self(line.to_vec())),
            length => Err(PasswordError::Length { place, length }),
        }
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(hidden)")
    }
}

/// Why there is no password.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The file cannot be read.
    #[error("cannot read the password in {place}: {error}; make the file readable for the agent")]
    File {
        /// Path.
        place: String,
        /// What the system said.
        error: io::Error,
    },
    /// The environment variable is not set.
    #[error("environment variable {name} is not set: set it for the agent, or use password_file")]
    Unset {
        /// Its name.
        name: String,
    },
    /// Empty, or longer than TCP-MD5 can take.
    #[error(
        "the password in {place} has {length} octets on its first line: TCP-MD5 takes 1 to {MAX_MD5_KEY}"
    )]
    Length {
        /// File or variable.
        place: String,
        /// Octets found.
        length: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_file_is_the_password() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        let read = |text: &str| {
            std::fs::write(&path, text).expect("writable");
            Password::read(&PasswordSource::File(path.clone()))
        };
        for text in ["s3cret", "s3cret\n", "s3cret\r\nsecond line\n"] {
            let password = read(text).expect("a password");
            assert_eq!(password.as_bytes(), b"s3cret", "{text:?}");
            assert!(!format!("{password:?}").contains("s3cret"), "{password:?}");
        }
        assert_eq!(read(&"x".repeat(80)).expect("just fits").as_bytes().len(), 80);
        for (text, length) in
            [(String::new(), "0 octets"), ("\nx".to_owned(), "0 octets"), ("x".repeat(81), "81 octets")]
        {
            let error = read(&text).expect_err("refused").to_string();
            assert!(error.contains(length) && error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_password_that_is_not_there_is_told_with_its_place() {
        let unset = PasswordSource::Environment("UNDERPASS_TEST_UNSET".to_owned());
        let error = Password::read(&unset).expect_err("unset").to_string();
        assert!(error.starts_with("environment variable UNDERPASS_TEST_UNSET is not set"), "{error}");
        let missing = PasswordSource::File("/nonexistent/secret".into());
        let error = Password::read(&missing).expect_err("missing").to_string();
        assert!(error.contains("/nonexistent/secret: No such file"), "{error}");
    }
}
