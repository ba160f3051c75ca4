//! The figures to reach, each with what it is read from.
//!
//! Read by `goals`. The column *original* is what the Go distributor took on a quiet machine of four cores, measured once;
//! its units are those of the checks.

use crate::figures::Figure::{
    AnonymousMemoryMebibytes, CallMicroseconds, CpuSecondsPer100000, CpuSecondsPer100000Requests, CpuSecondsPerCycle,
    DeliveredPerSecond, Doubled, EventsPerSecond, FirstDeliveredMilliseconds, HealthMilliseconds,
    IdleCpuMillisecondsPerSecond, LatencyP50Microseconds, LatencyP99Microseconds, Lost, MemoryMebibytes,
    PeakMemoryMebibytes, RecoveryMilliseconds, RequestsPerCycle, RequestsPerSecond, StaticBinaryMegabytes,
    SwapCachedMilliseconds, SwapCompiledMilliseconds,
};
use crate::goals::{Cell, Check, Column, Measure, Target};

const fn target(what: &'static str, original: &'static str, checks: &'static [Check]) -> Target {
    Target { what, original, checks }
}

const fn core(row: &'static str, figure: crate::figures::Figure) -> Cell {
    Cell::core(row, figure)
}

const fn jetstream(row: &'static str, figure: crate::figures::Figure) -> Cell {
    Cell::jetstream(row, figure)
}

/// Seconds for 100,000 events to microseconds for one.
const MICROSECONDS: f64 = 10.0;

pub(crate) const TARGETS: &[Target] = &[
    target(
        "core, 1 KB, filter passes all: CPU",
        "35",
        &[
            core("1 KB, filter passes 100 %", CpuSecondsPer100000).at_most(2.0),
            core("1 KB, filter passes 100 %", CpuSecondsPer100000).at_most_relay(1.5),
        ],
    ),
    target(
        "core, 1 KB, filter passes all: events/s",
        "3,470",
        &[core("1 KB, filter passes 100 %", EventsPerSecond).at_least(85_000.0)],
    ),
    target(
        "core, 1 KB, filter passes 1 %",
        "10.4; 12,800",
        &[
            core("1 KB, filter passes 1 %", CpuSecondsPer100000).at_most(0.5),
            core("1 KB, filter passes 1 %", EventsPerSecond).at_least(240_000.0),
        ],
    ),
    target(
        "core, 32 KB, filter passes all",
        "233; 457",
        &[
            core("32 KB, no filter", CpuSecondsPer100000).at_most(6.5),
            core("32 KB, no filter", EventsPerSecond).at_least(25_000.0),
        ],
    ),
    target(
        "core, all events under one key",
        "3,470",
        &[core("1 KB, one key", EventsPerSecond).at_least(15_000.0)],
    ),
    target(
        "JetStream, 1 KB, filter passes all",
        "–",
        &[
            jetstream("1 KB, filter passes 100 %", CpuSecondsPer100000).at_most(2.5),
            jetstream("1 KB, filter passes 100 %", EventsPerSecond).at_least(55_000.0),
            Measure::Ratio(
                jetstream("1 KB, filter passes 100 %", CpuSecondsPer100000),
                core("1 KB, filter passes 100 %", CpuSecondsPer100000),
            )
            .at_most(1.25),
        ],
    ),
    target(
        "JetStream, 1 KB, filter passes 1 %",
        "–",
        &[
            jetstream("1 KB, filter passes 1 %", CpuSecondsPer100000).at_most(0.8),
            jetstream("1 KB, filter passes 1 %", EventsPerSecond).at_least(95_000.0),
        ],
    ),
    target(
        "JetStream, 32 KB",
        "–",
        &[
            jetstream("32 KB, no filter", CpuSecondsPer100000).at_most(7.5),
            jetstream("32 KB, no filter", EventsPerSecond).at_least(14_000.0),
        ],
    ),
    target(
        "core, 1 KB at 2,000/s: latency",
        "288; 878",
        &[
            core("1 KB at 2,000/s", LatencyP50Microseconds).at_most_relay(1.0),
            core("1 KB at 2,000/s", LatencyP99Microseconds).at_most_relay(1.0),
        ],
    ),
    target(
        "JetStream, 1 KB at 2,000/s: latency",
        "–",
        &[
            jetstream("1 KB at 2,000/s", LatencyP50Microseconds).at_most_relay(1.3),
            jetstream("1 KB at 2,000/s", LatencyP99Microseconds).at_most_relay(2.0),
        ],
    ),
    target(
        "core, 32 KB at 200/s: latency",
        "2,500; 5,100",
        &[
            core("32 KB at 200/s", LatencyP50Microseconds).at_most_relay(1.3),
            core("32 KB at 200/s", LatencyP99Microseconds).at_most_relay(1.3),
        ],
    ),
    target(
        "JetStream, 32 KB at 200/s: latency",
        "–",
        &[
            jetstream("32 KB at 200/s", LatencyP50Microseconds).at_most(600.0),
            jetstream("32 KB at 200/s", LatencyP99Microseconds).at_most(2_000.0),
        ],
    ),
    target(
        "burst of 20,000 × 1 KB: peak memory",
        "153",
        &[
            jetstream("burst of 20,000 × 1 KB", PeakMemoryMebibytes).at_most(24.0),
            jetstream("burst of 20,000 × 1 KB", Lost).at_most(0.0),
            core("burst of 20,000 × 1 KB", PeakMemoryMebibytes).at_most(40.0),
            core("burst of 20,000 × 1 KB", Lost).at_most(0.0),
        ],
    ),
    target(
        "backlog of 50,000 × 1 KB, recipient 50 ms",
        "292; 19; 49,770",
        &[
            jetstream("backlog of 1 KB, 50 ms each", PeakMemoryMebibytes).at_most(32.0),
            jetstream("backlog of 1 KB, 50 ms each", DeliveredPerSecond).at_least(300.0),
            jetstream("backlog of 1 KB, 50 ms each", Lost).at_most(0.0),
        ],
    ),
    target(
        "recipient closed 12 s at 100/s",
        "1,200",
        &[
            core("recipient closed at 100/s", Lost).at_most(0.0),
            jetstream("recipient closed at 100/s", Lost).at_most(0.0),
        ],
    ),
    target(
        "NATS restarted at 500/s",
        "1,030; 2,060",
        &[
            jetstream("NATS restarted at 500/s", Lost).at_most(0.0),
            jetstream("NATS restarted at 500/s", RecoveryMilliseconds).at_most(500.0),
            core("NATS restarted at 500/s", RecoveryMilliseconds).at_most(500.0),
        ],
    ),
    target(
        "idle memory with the default plugin",
        "9.3; –",
        &[
            core("idle", MemoryMebibytes).at_most(14.0),
            core("idle", AnonymousMemoryMebibytes).at_most(4.0),
        ],
    ),
    target(
        "start-up",
        "5.8; 4.5; –",
        &[
            core("start-up", FirstDeliveredMilliseconds).at_most(12.0),
            core("start-up", HealthMilliseconds).at_most(6.0),
            core("start-up that compiles", FirstDeliveredMilliseconds).at_most(200.0),
        ],
    ),
    target(
        "idle CPU",
        "0",
        &[
            core("idle", IdleCpuMillisecondsPerSecond).at_most(1.0),
            jetstream("idle", IdleCpuMillisecondsPerSecond).at_most(1.0),
        ],
    ),
    target(
        "binary, static, stripped",
        "9.4",
        &[core("binary", StaticBinaryMegabytes).at_most(28.0)],
    ),
    target(
        "API proxy, 1 KB, 1 connection",
        "200",
        // 60 µs where a direct request takes 13: that depends on how long an idle core takes to wake up.
        &[Measure::More {
            than: core("API proxy, 1 KB × 1", LatencyP50Microseconds).of(Column::Relay),
            is: core("API proxy, 1 KB × 1", LatencyP50Microseconds),
            times: 1.0,
            what: "latency p50 above a direct request, µs",
        }
        .at_most(47.0)],
    ),
    target(
        "API proxy, 1 KB, 64 connections",
        "20,800; 9,400",
        &[
            core("API proxy, 1 KB × 64", RequestsPerSecond).at_least(60_000.0),
            core("API proxy, 1 KB × 64", LatencyP99Microseconds).at_most(3_000.0),
        ],
    ),
    target(
        "API proxy, 60 KB, 16 connections",
        "5,430",
        &[core("API proxy, 60 KB × 16", RequestsPerSecond).at_least(18_000.0)],
    ),
    target(
        "API proxy, 60 KB: CPU",
        "42",
        &[core("API proxy, 60 KB × 16", CpuSecondsPer100000Requests).at_most(10.0)],
    ),
    target(
        "POST /event 1 KB, 16 connections",
        "23,400; 10.0",
        &[
            core("POST /event, 1 KB", EventsPerSecond).at_least(50_000.0),
            core("POST /event, 1 KB", CpuSecondsPer100000).at_most(3.0),
            jetstream("POST /event, 1 KB", EventsPerSecond).at_least(25_000.0),
        ],
    ),
    target(
        "POST /event 32 KB, 16 connections",
        "2,020; 144",
        &[
            core("POST /event, 32 KB", EventsPerSecond).at_least(15_000.0),
            core("POST /event, 32 KB", CpuSecondsPer100000).at_most(10.0),
        ],
    ),
    target(
        "polling 10,000 open events",
        "500; 1.28",
        &[
            core("polling 10,000 events", RequestsPerCycle).at_most(20.0),
            core("polling 10,000 events", CpuSecondsPerCycle).at_most(0.15),
        ],
    ),
    target(
        "default filter as a component, per call",
        "–",
        &[core("call: default filter", CallMicroseconds).at_most(1.6)],
    ),
    target(
        "Rust plugin that parses 1 KB JSON, per call",
        "–",
        &[core("call: Rust, parses JSON", CallMicroseconds).at_most(4.0)],
    ),
    target(
        "each further plugin in a chain of 10",
        "–",
        &[Measure::More {
            than: core("1 KB, chain of 1", CpuSecondsPer100000),
            is: core("1 KB, chain of 10", CpuSecondsPer100000),
            times: MICROSECONDS / 9.0,
            what: "per event and plugin above the first, µs",
        }
        .at_most(1.6)],
    ),
    target(
        "swap of a 100 KB component",
        "–",
        &[
            core("swap of a 100 KB component", SwapCompiledMilliseconds).at_most(600.0),
            core("swap of a 100 KB component", SwapCachedMilliseconds).at_most(300.0),
            core("swap of a 100 KB component", Lost).at_most(0.0),
            core("swap of a 100 KB component", Doubled).at_most(0.0),
            jetstream("swap of a 100 KB component", Lost).at_most(0.0),
            jetstream("swap of a 100 KB component", Doubled).at_most(0.0),
        ],
    ),
    target(
        "10,000 subscriptions",
        "–",
        &[
            Measure::More {
                than: core("1 subscription", CpuSecondsPer100000),
                is: core("10,000 subscriptions", CpuSecondsPer100000),
                times: MICROSECONDS,
                what: "per event, above 1 subscription, µs",
            }
            .at_most(2.0),
            Measure::More {
                than: core("1 subscription", MemoryMebibytes),
                is: core("10,000 subscriptions", MemoryMebibytes),
                times: 1.0,
                what: "memory above 1 subscription, MiB",
            }
            .at_most(8.0),
            Measure::More {
                than: core("1 subscription", MemoryMebibytes),
                is: core("10,000, 100 of each type", MemoryMebibytes),
                times: 1.0,
                what: "memory, 100 of each type, MiB",
            }
            .at_most(8.0),
        ],
    ),
];
