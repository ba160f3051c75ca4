//! The rows of the table, in the order in which they are measured.
//!
//! Read by `main` and by `goals`. A row is data: a new one is a line here. It must not know how a round is run.

use crate::calls::Callee;
use crate::events::Load;
use crate::languages::Language;
use crate::measured::{Filter, Mode};
use crate::outages::Outage;
use crate::row::{Kind, Row};
use crate::subscriptions::Wanted;

pub(crate) const SMALL: Load = Load {
    size_bytes: 1024,
    n_keys: 1000,
    passing_percent: 100,
};
const LARGE: Load = Load {
    size_bytes: 32 * 1024,
    ..SMALL
};

/// A row that forwards all of `SMALL`, to start from.
pub(crate) const PLAIN: Row = Row {
    name: "1 KB",
    kind: Kind::Throughput,
    load: SMALL,
    filter: Filter::None,
    is_compiled: true,
    worker_threads: None,
    relay_concurrency: Some(16),
    modes: &[Mode::Core, Mode::JetStream],
};

/// The same for events that wait in a stream.
pub(crate) const STORED: Row = Row {
    kind: Kind::Stored { n_replicas: 1 },
    relay_concurrency: None,
    ..PLAIN
};

/// As large as a server takes them without being told to.
const HUGE: Load = Load {
    size_bytes: 1000 * 1024,
    n_keys: 50,
    ..SMALL
};
/// A chain of so many filters that pass everything.
const fn chain(name: &'static str, length: usize) -> Row {
    Row {
        name,
        filter: Filter::Chain(length),
        relay_concurrency: None,
        modes: &[Mode::Core],
        ..PLAIN
    }
}

/// The filter of that language's template, which passes everything.
const fn language(name: &'static str, language: Language) -> Row {
    Row {
        name,
        filter: Filter::Language(language),
        relay_concurrency: None,
        modes: &[Mode::Core],
        ..PLAIN
    }
}

/// So many subscriptions of a control plane. Most events match none of them: a delivery would cost ten times what is
/// measured here, and differ by as much from round to round.
pub(crate) const fn subscriptions(name: &'static str, n: usize, n_types: usize) -> Row {
    Row {
        name,
        kind: Kind::Subscriptions(Wanted { n, n_types }),
        load: passing(1),
        relay_concurrency: None,
        modes: &[Mode::Core],
        ..PLAIN
    }
}

/// One component alone, beside native code.
const fn call(name: &'static str, callee: Callee) -> Row {
    Row {
        name,
        kind: Kind::Call(callee),
        modes: &[Mode::Core],
        ..PLAIN
    }
}

const fn passing(percent: usize) -> Load {
    Load {
        passing_percent: percent,
        ..SMALL
    }
}

/// Requests through the API proxy with answers of this size. In the place of the relay is a direct connection.
const fn requests(size_bytes: usize, n_connections: usize) -> Row {
    Row {
        kind: Kind::Requests { n_connections },
        load: Load { size_bytes, ..SMALL },
        modes: &[Mode::Core],
        ..PLAIN
    }
}

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "1 KB, no filter",
        ..PLAIN
    },
    Row {
        name: "1 KB, filter passes 100 %",
        filter: Filter::Project,
        ..PLAIN
    },
    Row {
        name: "1 KB, filter passes 10 %",
        filter: Filter::Project,
        load: passing(10),
        relay_concurrency: None,
        ..PLAIN
    },
    Row {
        name: "1 KB, filter passes 1 %",
        filter: Filter::Project,
        load: passing(1),
        relay_concurrency: None,
        ..PLAIN
    },
    Row {
        name: "32 KB, no filter",
        load: LARGE,
        ..PLAIN
    },
    Row {
        name: "1000 KB, no filter",
        load: HUGE,
        ..PLAIN
    },
    chain("1 KB, chain of 1", 1),
    chain("1 KB, chain of 3", 3),
    chain("1 KB, chain of 10", 10),
    chain("1 KB, chain of 100", 100),
    language("1 KB, filter in Rust", Language::RUST),
    language("1 KB, filter in C", Language::C),
    language("1 KB, filter in Go", Language::GO),
    language("1 KB, filter in JavaScript", Language::JAVASCRIPT),
    language("1 KB, filter in Python", Language::PYTHON),
    Row {
        name: "1 KB stored, filter 100 %",
        filter: Filter::Project,
        ..STORED
    },
    Row {
        name: "1 KB stored, filter 1 %",
        filter: Filter::Project,
        load: passing(1),
        ..STORED
    },
    Row {
        name: "32 KB stored, no filter",
        load: LARGE,
        ..STORED
    },
    // In order within the key means one at a time: so does the relay here.
    Row {
        name: "1 KB, one key",
        load: Load { n_keys: 1, ..SMALL },
        relay_concurrency: Some(1),
        ..PLAIN
    },
    Row {
        name: "1 KB at 2,000/s",
        kind: Kind::Latency { per_second: 2_000 },
        ..PLAIN
    },
    Row {
        name: "32 KB at 200/s",
        kind: Kind::Latency { per_second: 200 },
        load: LARGE,
        ..PLAIN
    },
    Row {
        name: "burst of 20,000 × 1 KB",
        kind: Kind::Burst,
        ..PLAIN
    },
    Row {
        name: "backlog of 1 KB, 50 ms each",
        kind: Kind::Backlog,
        modes: &[Mode::JetStream],
        ..STORED
    },
    Row {
        name: "POST /event, 1 KB",
        kind: Kind::Posts { n_connections: 16 },
        relay_concurrency: None,
        ..PLAIN
    },
    Row {
        name: "POST /event, 32 KB",
        kind: Kind::Posts { n_connections: 16 },
        relay_concurrency: None,
        load: LARGE,
        ..PLAIN
    },
    Row {
        name: "API proxy, 1 KB × 1",
        ..requests(1024, 1)
    },
    Row {
        name: "API proxy, 1 KB × 16",
        ..requests(1024, 16)
    },
    Row {
        name: "API proxy, 1 KB × 64",
        ..requests(1024, 64)
    },
    Row {
        name: "API proxy, 60 KB × 16",
        ..requests(60 * 1024, 16)
    },
    Row {
        name: "recipient closed at 100/s",
        kind: Kind::Outage {
            outage: Outage::Recipient,
            per_second: 100,
        },
        ..PLAIN
    },
    Row {
        name: "NATS restarted at 500/s",
        kind: Kind::Outage {
            outage: Outage::Nats,
            per_second: 500,
        },
        ..PLAIN
    },
    Row {
        name: "swap of a 100 KB component",
        kind: Kind::Swap,
        relay_concurrency: None,
        ..PLAIN
    },
    Row {
        name: "polling 10,000 events",
        kind: Kind::Polling,
        relay_concurrency: None,
        modes: &[Mode::Core],
        ..PLAIN
    },
    subscriptions("1 subscription", 1, 1),
    subscriptions("10,000 subscriptions", 10_000, 10_000),
    subscriptions("10,000, 100 of each type", 10_000, 100),
    call("call: default filter", Callee::DefaultFilter),
    call("call: Rust, parses JSON", Callee::Parsing),
    call("call: filter in Rust", Callee::Language(Language::RUST)),
    call("call: filter in C", Callee::Language(Language::C)),
    call("call: filter in Go", Callee::Language(Language::GO)),
    call("call: filter in JavaScript", Callee::Language(Language::JAVASCRIPT)),
    call("call: filter in Python", Callee::Language(Language::PYTHON)),
    Row {
        name: "idle",
        kind: Kind::Idle,
        relay_concurrency: None,
        ..PLAIN
    },
    Row {
        name: "start-up",
        kind: Kind::StartUp,
        relay_concurrency: None,
        ..PLAIN
    },
    Row {
        name: "start-up that compiles",
        kind: Kind::StartUp,
        relay_concurrency: None,
        is_compiled: false,
        ..PLAIN
    },
    Row {
        name: "binary",
        kind: Kind::Binary,
        relay_concurrency: None,
        modes: &[Mode::Core],
        ..PLAIN
    },
];
