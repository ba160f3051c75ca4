//! What the guest is told to do, read from its configuration once.
//!
//! Used by the hooks; the crate's head comment says what each behaviour is. It knows nothing of the bindings.

/// One way to behave. Named in the configuration as in [`BEHAVIOURS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    // in `describe`
    LoopInDescribe,
    TrapInDescribe,
    HugeDescription,
    HugeSchema,
    ManyEventTypes,
    BadExample,
    ForgedVersion,
    // in `configure`
    LoopInConfigure,
    TrapInConfigure,
    RejectConfig,
    ManyProblems,
    StateInConfigure,
    // in the filter
    Loop,
    Hog,
    Trap,
    Recurse,
    Exit,
    Sleep,
    Nap,
    TrapOnEmpty,
    RollDice,
    Chatty,
    HugeReason,
    OddReason,
    BadUtf8,
    SpinOnClock,
    HugeLog,
    Print,
    PrintBytes,
    Handles,
    Random,
    Snoop,
    Leak,
    MetricFlood,
    StateFlood,
    StateHuge,
    StateCount,
    StateText,
    Transient,
    TransientAtFirst,
    Permanent,
    Drop,
    State,
    // in the transform
    ManyEvents,
    HugeEvent,
    BadJson,
    BadEvent,
    BadNames,
    Publish,
    Answer,
    Rename,
    Split,
    BlindSplit,
    Empty,
    Keep,
}

const BEHAVIOURS: &[(&str, Behaviour)] = &[
    ("loop-in-describe", Behaviour::LoopInDescribe),
    ("trap-in-describe", Behaviour::TrapInDescribe),
    ("huge-description", Behaviour::HugeDescription),
    ("huge-schema", Behaviour::HugeSchema),
    ("many-event-types", Behaviour::ManyEventTypes),
    ("bad-example", Behaviour::BadExample),
    ("forged-version", Behaviour::ForgedVersion),
    ("loop-in-configure", Behaviour::LoopInConfigure),
    ("trap-in-configure", Behaviour::TrapInConfigure),
    ("reject-config", Behaviour::RejectConfig),
    ("many-problems", Behaviour::ManyProblems),
    ("state-in-configure", Behaviour::StateInConfigure),
    ("loop", Behaviour::Loop),
    ("hog", Behaviour::Hog),
    ("trap", Behaviour::Trap),
    ("recurse", Behaviour::Recurse),
    ("exit", Behaviour::Exit),
    ("sleep", Behaviour::Sleep),
    ("nap", Behaviour::Nap),
    ("trap-on-empty", Behaviour::TrapOnEmpty),
    ("roll-dice", Behaviour::RollDice),
    ("chatty", Behaviour::Chatty),
    ("huge-reason", Behaviour::HugeReason),
    ("odd-reason", Behaviour::OddReason),
    ("bad-utf8", Behaviour::BadUtf8),
    ("spin-on-clock", Behaviour::SpinOnClock),
    ("huge-log", Behaviour::HugeLog),
    ("print", Behaviour::Print),
    ("print-bytes", Behaviour::PrintBytes),
    ("handles", Behaviour::Handles),
    ("random", Behaviour::Random),
    ("snoop", Behaviour::Snoop),
    ("leak", Behaviour::Leak),
    ("metric-flood", Behaviour::MetricFlood),
    ("state-flood", Behaviour::StateFlood),
    ("state-huge", Behaviour::StateHuge),
    ("state-count", Behaviour::StateCount),
    ("state-text", Behaviour::StateText),
    ("transient", Behaviour::Transient),
    ("transient-at-first", Behaviour::TransientAtFirst),
    ("permanent", Behaviour::Permanent),
    ("drop", Behaviour::Drop),
    ("state", Behaviour::State),
    ("many-events", Behaviour::ManyEvents),
    ("huge-event", Behaviour::HugeEvent),
    ("bad-json", Behaviour::BadJson),
    ("bad-event", Behaviour::BadEvent),
    ("bad-names", Behaviour::BadNames),
    ("publish", Behaviour::Publish),
    ("answer", Behaviour::Answer),
    ("rename", Behaviour::Rename),
    ("split", Behaviour::Split),
    ("blind-split", Behaviour::BlindSplit),
    ("empty", Behaviour::Empty),
    ("keep", Behaviour::Keep),
];

/// The configuration, parsed.
#[derive(Debug, Clone)]
pub(crate) struct Orders {
    behaviour: Behaviour,
    /// Start of the ids of the events to misbehave for; empty text stands for all.
    only: String,
    /// How many events or log lines, for the behaviours that make many.
    pub(crate) count: u32,
}

/// A value of the configuration that means nothing.
#[derive(Debug)]
pub(crate) struct BadOrder {
    pub(crate) key: &'static str,
    pub(crate) value: String,
}

impl Orders {
    /// What a guest without configuration does.
    pub(crate) const NONE: Self = Self {
        behaviour: Behaviour::Keep,
        only: String::new(),
        count: 1_000_000,
    };

    /// Reads the orders through `get`, which gives the text of a key of the configuration.
    pub(crate) fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, BadOrder> {
        let mut orders = Self::NONE;
        if let Some(name) = get("behaviour") {
            let known = BEHAVIOURS.iter().find(|(known, _)| *known == name);
            orders.behaviour = known.map(|&(_, behaviour)| behaviour).ok_or(BadOrder {
                key: "behaviour",
                value: name,
            })?;
        }
        if let Some(count) = get("count") {
            orders.count = count.parse().map_err(|_| BadOrder {
                key: "count",
                value: count,
            })?;
        }
        orders.only = get("only").unwrap_or_default();
        Ok(orders)
    }

    /// How to behave in `describe` and `configure`, where there is no event yet.
    pub(crate) fn at_start(&self) -> Behaviour {
        self.behaviour
    }

    /// How to behave for this event.
    pub(crate) fn for_event(&self, id: &str) -> Behaviour {
        if id.starts_with(self.only.as_str()) {
            self.behaviour
        } else {
            Behaviour::Keep
        }
    }
}
