//! Logging to standard error.
//!
//! Levels: ERROR the agent cannot do what it is configured for, WARN somebody should look (it would
//! wake someone), INFO a state changed (a session, a port, a resync), DEBUG what a decision was based
//! on, TRACE single messages of a protocol. Nothing is logged per forwarded packet.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::model::{Log, LogFormat};

/// Environment variable that replaces `log.filter`.
pub const FILTER_VARIABLE: &str = "UNDERPASS_LOG";

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is not one.
    #[error("{origin}: {source}; write a level (\"info\") or targets (\"underpass::bgp=debug,info\")")]
    Filter {
        /// "`log.filter`" or the environment variable.
        origin: &'static str,
        /// Why.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Something else of the process logs already.
    #[error("logging is set up twice: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Sets up logging for the process, once. [`FILTER_VARIABLE`] overrides the filter when it is set
/// and not empty.
///
/// # Errors
/// The filter cannot be parsed, or logging is set up already.
pub fn init(config: &Log) -> Result<(), LogError> {
    let variable = std::env::var(FILTER_VARIABLE).ok();
    let filter = filter(&config.filter, variable.as_deref())?;
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    subscriber(config.format, filter, colours, std::io::stderr).try_init()?;
    Ok(())
}

fn filter(configured: &str, variable: Option<&str>) -> Result<EnvFilter, LogError> {
    let (origin, text) = match variable.filter(|text| !text.is_empty()) {
        Some(text) => (FILTER_VARIABLE, text),
        None => ("log.filter", configured),
    };
    text.parse().map_err(|source| LogError::Filter { origin, source })
}

fn subscriber<W>(
    format: LogFormat,
    filter: EnvFilter,
    colours: bool,
    to: W,
) -> Box<dyn tracing::Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(to).with_ansi(colours);
    match format {
        LogFormat::Human => Box::new(builder.finish()),
        LogFormat::Json => Box::new(builder.json().flatten_event(true).finish()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no panic").extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn log(format: LogFormat, filter_text: &str, variable: Option<&str>) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let filter = filter(filter_text, variable).expect("a filter");
        let subscriber = subscriber(format, filter, false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(peer = "192.0.2.1", "session is up");
            tracing::debug!("a detail");
        });
        String::from_utf8(sink.0.lock().expect("no panic").clone()).expect("UTF-8")
    }

    #[test]
    fn the_filter_decides_and_the_variable_overrides_it() {
        for (name, filter, variable, lines) in [
            ("configured level", "info", None, 1),
            ("lower level", "debug", None, 2),
            ("variable", "info", Some("debug"), 2),
            ("empty variable", "info", Some(""), 1),
            ("other target", "underpass::nothing=debug", None, 0),
        ] {
            assert_eq!(log(LogFormat::Human, filter, variable).lines().count(), lines, "{name}");
        }
    }

    #[test]
    fn json_lines_are_objects_with_the_fields_of_the_event() {
        let line = log(LogFormat::Json, "info", None);
        let object: serde_json::Value = serde_json::from_str(&line).expect("one JSON object");
        assert_eq!(object["message"], "session is up");
        assert_eq!(object["peer"], "192.0.2.1");
        assert_eq!(object["level"], "INFO");
    }

    #[test]
    fn a_bad_filter_names_where_it_comes_from() {
        let error = filter("info", Some("a=b=c")).expect_err("refused").to_string();
        assert!(error.starts_with("UNDERPASS_LOG: "), "{error}");
        let error = filter("a=b=c", None).expect_err("refused").to_string();
        assert!(error.starts_with("log.filter: "), "{error}");
    }
}
