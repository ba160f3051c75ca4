//! One `[[plugin]]`: its keys and what they may hold.

use std::path::{Component as PathPart, Path};
use std::sync::Arc;
use std::time::Duration;

use super::super::builtins::BUILTINS;
use super::super::component::Source;
use super::super::context::Direction;
use super::super::limits::Limits;
use super::super::selftest::{Expected, SelfTest};
use super::super::settings::{Grants, Isolation, Mode, OnFailure, Settings};
use super::fields::{Fields, chosen, nearest};
use super::known::Known;
use super::{Entry, Problems, config};

/// Nobody waits that long for a verdict; and a time that is too long cannot be added to a clock.
const MAX_TIMEOUT: Duration = Duration::from_hours(1);
/// More than any transform may return.
const MAX_EXPECTED_EVENTS: u32 = 1000;
const BUILTIN_PREFIX: &str = "builtin:";

#[derive(Clone, Copy, PartialEq)]
enum ModeName {
    Enforce,
    Shadow,
    Canary,
}

#[derive(Clone, Copy, PartialEq)]
enum Grant {
    Publish,
    State,
}

/// Reads an entry. There is one in spite of mistakes, unless its name or component is not known: whether the component
/// is any good can then be said at once.
pub(super) fn read(
    directory: &Path,
    mut fields: Fields<'_>,
    known: &mut Known,
    problems: &mut Problems<'_>,
) -> Option<Entry> {
    let name = fields.required_text("name", problems);
    if let Some((name, offset)) = name {
        problems.plugin = Some(name.into());
        if let Err(reason) = known.add(name) {
            problems.plugin = None;
            problems.add(offset, format!("`name`: {reason}"));
        }
    }
    let source = source(directory, &mut fields, problems);
    let pin = pin(&mut fields, problems);
    let allow_precompiled = allow_precompiled(pin.is_some(), &mut fields, problems);
    let mut settings = Settings::named(name.map_or("", |(name, _)| name));
    read_settings(&mut settings, &mut fields, problems);
    settings.beside = beside(settings.mode, known, &mut fields, problems);
    if settings.mode == Mode::Enforce {
        known.enforce(&settings.name);
    }
    let config_places = fields.table("config", problems).map(|(table, offset)| {
        let (config, places) = config::read(table, offset, problems);
        settings.config = config;
        places
    });
    let tests = fields.tables("selftest", problems).into_iter();
    let tests = tests.map(|(table, offset)| Fields::new("a self-test", table, offset));
    let self_tests = tests
        .filter_map(|fields| self_test(directory, fields, problems))
        .collect();
    fields.refuse_others(problems);
    problems.plugin = None;
    name.and(source).map(|source| Entry {
        source,
        pin,
        allow_precompiled,
        settings,
        config_places,
        self_tests,
        manifest: Some(problems.path.to_owned()),
    })
}

fn self_test(directory: &Path, mut fields: Fields<'_>, problems: &mut Problems<'_>) -> Option<SelfTest> {
    let verdicts = [
        ("pass", Expected::Pass),
        ("drop", Expected::Drop),
        ("keep", Expected::Keep),
        ("replace", Expected::Replace(None)),
    ];
    let event = fields.required_text("event", problems);
    let expected = fields.required_text("expect", problems);
    let expected = expected.and_then(|(word, offset)| chosen("expect", word, offset, &verdicts, problems));
    let events = fields.number("events", MAX_EXPECTED_EVENTS, problems);
    let place = problems.place(fields.offset);
    fields.refuse_others(problems);
    let expected = match (expected?, events) {
        (Expected::Replace(_), Some((events, _))) => Expected::Replace(usize::try_from(events).ok()),
        (other, Some((_, offset))) => {
            problems.add(offset, "`events`: only `expect = \"replace\"` makes any");
            other
        }
        (expected, None) => expected,
    };
    let (event, offset) = event?;
    if !is_within(event) {
        problems.add(
            offset,
            format!("`event`: {event:?} is no file in this directory, and no absolute path"),
        );
        return None;
    }
    Some(SelfTest {
        event: directory.join(event),
        expected,
        place,
    })
}

fn source(directory: &Path, fields: &mut Fields<'_>, problems: &mut Problems<'_>) -> Option<Source> {
    let (text, offset) = fields.required_text("component", problems)?;
    if let Some(name) = text.strip_prefix(BUILTIN_PREFIX) {
        let found = BUILTINS.iter().find(|builtin| builtin.name == name);
        if found.is_none() {
            let known: Vec<_> = BUILTINS.iter().map(|builtin| builtin.name).collect();
            let meant = nearest(name, known.iter().copied());
            let remedy = meant.map_or_else(
                || format!("there is {}", known.join(", ")),
                |other| format!("did you mean `{BUILTIN_PREFIX}{other}`?"),
            );
            problems.add(
                offset,
                format!("`component`: nothing named {name:?} is built in; {remedy}"),
            );
        }
        return found.map(Source::Builtin);
    }
    if !is_within(text) {
        problems.add(
            offset,
            format!(
                "`component`: {text:?} is no file in this directory, no absolute path, and not `{BUILTIN_PREFIX}…`"
            ),
        );
        return None;
    }
    Some(Source::File(directory.join(text)))
}

/// Whether a path stays in the directory, or says openly that it is elsewhere.
fn is_within(path: &str) -> bool {
    let mut parts = Path::new(path).components();
    !path.is_empty() && parts.all(|part| part != PathPart::ParentDir)
}

fn pin(fields: &mut Fields<'_>, problems: &mut Problems<'_>) -> Option<String> {
    let (text, offset) = fields.text("sha256", problems)?;
    if text.len() != 64 || !text.chars().all(|c| c.is_ascii_hexdigit()) {
        problems.add(
            offset,
            format!("`sha256`: {text:?} is no SHA-256, which has 64 hexadecimal digits"),
        );
        return None;
    }
    Some(text.to_ascii_lowercase())
}

fn allow_precompiled(is_pinned: bool, fields: &mut Fields<'_>, problems: &mut Problems<'_>) -> bool {
    let Some((true, offset)) = fields.boolean("allow_precompiled", problems) else {
        return false;
    };
    if !is_pinned && fields.value("sha256").is_none() {
        problems.add(
            offset,
            "`allow_precompiled`: native code can do anything to this process, so its entry needs `sha256`",
        );
    }
    true
}

fn read_settings(settings: &mut Settings, fields: &mut Fields<'_>, problems: &mut Problems<'_>) {
    let directions = [("incoming", Direction::Incoming), ("outgoing", Direction::Outgoing)];
    if let Some(chosen) = fields.choices("on", &directions, problems) {
        if let Some(offset) = fields.empty_list("on") {
            problems.add(offset, "`on` is empty, so that the plugin would see no event");
        }
        settings.directions = chosen;
    }
    if let Some(globs) = fields.texts("events", problems) {
        for &(glob, offset) in &globs {
            if let Err(reason) = check_glob(glob) {
                problems.add(offset, format!("`events`: {glob:?} {reason}"));
            }
        }
        settings.event_types = globs.into_iter().map(|(glob, _)| glob.to_owned()).collect();
    }
    let policies = [
        ("retry-then-dead-letter", OnFailure::RetryThenDeadLetter),
        ("dead-letter", OnFailure::DeadLetter),
        ("pass", OnFailure::Pass),
        ("drop", OnFailure::Drop),
    ];
    settings.on_failure = fields.choice("on_failure", &policies, problems).unwrap_or_default();
    settings.mode = mode(fields, problems);
    let grants = [("publish", Grant::Publish), ("state", Grant::State)];
    let granted = fields.choices("grants", &grants, problems).unwrap_or_default();
    settings.grants = Grants {
        publish: granted.contains(&Grant::Publish),
        state: granted.contains(&Grant::State),
    };
    let isolations = [("warm", Isolation::Warm), ("per-event", Isolation::PerEvent)];
    settings.isolation = fields.choice("isolation", &isolations, problems).unwrap_or_default();
    let defaults = Limits::default();
    settings.limits = Limits {
        call_time: timeout(fields, problems).unwrap_or(defaults.call_time),
        memory_bytes: memory(fields, problems).unwrap_or(defaults.memory_bytes),
        ..defaults
    };
}

/// Whether a glob can match anything.
fn check_glob(glob: &str) -> Result<(), &'static str> {
    if glob.is_empty() {
        Err("matches no event; leave it out")
    } else if glob.chars().any(|c| c.is_whitespace() || c.is_control()) {
        Err("has blanks in it, and no event type has")
    } else if glob.contains('>') {
        Err("has the `>` of NATS in it; here `*` stands for any text, dots as well")
    } else {
        Ok(())
    }
}

fn mode(fields: &mut Fields<'_>, problems: &mut Problems<'_>) -> Mode {
    let modes = [
        ("enforce", ModeName::Enforce),
        ("shadow", ModeName::Shadow),
        ("canary", ModeName::Canary),
    ];
    let offset = fields.value("mode").map(|value| value.span().start);
    let is_percent_given = fields.value("percent").is_some();
    let percent = fields.number("percent", 100, problems);
    let mode = match offset {
        Some(_) => fields.choice("mode", &modes, problems),
        None => Some(ModeName::Enforce),
    };
    match (mode, percent, offset) {
        (Some(ModeName::Canary), Some((percent, _)), _) => Mode::Canary {
            percent: u8::try_from(percent).unwrap_or(100),
        },
        (Some(ModeName::Canary), None, Some(offset)) if !is_percent_given => {
            problems.add(
                offset,
                "`mode`: a canary needs `percent`, the share of the keys for which it counts",
            );
            Mode::default()
        }
        (Some(ModeName::Enforce | ModeName::Shadow), Some((_, offset)), _) => {
            problems.add(offset, "`percent`: only a canary has one (`mode = \"canary\"`)");
            Mode::default()
        }
        (Some(ModeName::Shadow), ..) => Mode::Shadow,
        _ => Mode::default(),
    }
}

/// The plugin that a candidate is compared with, if it is named.
fn beside(mode: Mode, known: &Known, fields: &mut Fields<'_>, problems: &mut Problems<'_>) -> Option<Arc<str>> {
    let (name, offset) = fields.text("beside", problems)?;
    let checked = match mode {
        Mode::Enforce => Err("only a candidate stands beside another (`mode = \"shadow\"` or `\"canary\"`)".to_owned()),
        Mode::Shadow | Mode::Canary { .. } => known.check_beside(name),
    };
    match checked {
        Ok(()) => Some(name.into()),
        Err(reason) => {
            problems.add(offset, format!("`beside`: {reason}"));
            None
        }
    }
}

fn timeout(fields: &mut Fields<'_>, problems: &mut Problems<'_>) -> Option<Duration> {
    let (text, offset) = fields.text("timeout", problems)?;
    let timeout = humantime::parse_duration(text).ok();
    let timeout = timeout.filter(|timeout| !timeout.is_zero() && *timeout <= MAX_TIMEOUT);
    if timeout.is_none() {
        problems.add(
            offset,
            format!("`timeout`: {text:?} is not a duration of more than 0 and at most 1h, e.g. \"500ms\" or \"1s\""),
        );
    }
    timeout
}

fn memory(fields: &mut Fields<'_>, problems: &mut Problems<'_>) -> Option<usize> {
    let (text, offset) = fields.text("memory", problems)?;
    let bytes = crate::config::byte_size(text);
    if bytes.is_none() {
        problems.add(
            offset,
            format!("`memory`: {text:?} is not a size, e.g. \"512KiB\" or \"16MiB\""),
        );
    }
    bytes
}
