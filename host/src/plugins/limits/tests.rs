//! Limits on what a component takes when it starts, with components made by hand: no language lets a test ask for tables.

use tokio::runtime::Builder;

use super::*;
use crate::plugins::compile::Compiler;
use crate::plugins::host::Host;
use crate::plugins::imports::Shared;
use crate::plugins::instance::{limited, limited_store};
use crate::plugins::output::Call;
use crate::plugins::settings::Settings;

/// A component with one core module in it, which runs its code when it is started.
struct HandMade {
    start: Start,
    memory_pages: u32,
    table_elements: u32,
    n_instances: u32,
}

enum Start {
    GrowTable(u32),
    Loop,
    /// Has neither code nor memory nor table.
    Empty,
}

const SMALL: HandMade = HandMade {
    start: Start::GrowTable(0),
    memory_pages: 1,
    table_elements: 1,
    n_instances: 1,
};

impl HandMade {
    fn to_bytes(&self) -> Vec<u8> {
        let code = match self.start {
            // ref.null func, i32.const, table.grow 0, drop
            Start::GrowTable(by) => [&[0, 0xd0, 0x70, 0x41][..], &signed(by), &[0xfc, 0x0f, 0, 0x1a, 0x0b]].concat(),
            // loop, br 0, end
            Start::Loop => vec![0, 0x03, 0x40, 0x0c, 0, 0x0b, 0x0b],
            Start::Empty => Vec::new(),
        };
        let mut module = vec![b"\0asm\x01\0\0\0".to_vec()];
        if !matches!(self.start, Start::Empty) {
            module.extend([
                section(1, &[&[1, 0x60, 0, 0]]), // one type: nothing → nothing
                section(3, &[&[1, 0]]),          // one function of it
                section(4, &[&[1, 0x70, 0], &unsigned(self.table_elements)]),
                section(5, &[&[1, 0], &unsigned(self.memory_pages)]),
                section(8, &[&[0]]), // the function is called at the start
                section(10, &[&[1], &unsigned(length(&code)), &code]),
            ]);
        }
        let instances = [0, 0, 0].repeat(self.n_instances as usize); // of module 0, without arguments
        [
            b"\0asm\x0d\0\x01\0".to_vec(),
            section(1, &[&module.concat()]),
            section(2, &[&unsigned(self.n_instances), &instances]),
        ]
        .concat()
    }

    /// Why it does not start; none when it does.
    fn refusal(&self, limits: &Limits) -> Option<String> {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let host = Host::new(Compiler::in_process()).unwrap();
        let component = Component::new(&host.engine, self.to_bytes()).unwrap();
        if let Err(limit) = check_declared(&component, limits) {
            return Some(format!("before the start: {limit}"));
        }
        let settings = Settings {
            limits: limits.clone(),
            ..Settings::named("hand-made")
        };
        let kept = host.keeper.of(&settings.name);
        let shared = Arc::new(Shared::new(settings, "", kept));
        let pre = host.linker.instantiate_pre(&component).unwrap();
        let mut store = limited_store(&host, &shared);
        store.data_mut().start_call(limits.call_time, Call::default());
        let started = runtime.block_on(limited(&host, &mut store, limits.call_time, async |store| {
            pre.instantiate_async(store).await
        }));
        started.err().map(|stopped| stopped.cause.to_string())
    }
}

fn section(id: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    [&[id][..], &unsigned(length(&content)), &content].concat()
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap()
}

/// LEB128.
fn unsigned(mut number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let [low, ..] = (number & 0x7f).to_le_bytes();
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// The same for a number that has a sign; ours have none, so that its bit has to be clear.
fn signed(number: u32) -> Vec<u8> {
    let mut bytes = unsigned(number);
    if let Some(last) = bytes.last_mut()
        && *last & 0x40 != 0
    {
        *last |= 0x80;
        bytes.push(0);
    }
    bytes
}

#[track_caller]
fn check(component: &HandMade, expected: Option<&str>) {
    let refusal = component.refusal(&Limits::default());
    match (&refusal, expected) {
        (None, None) => {}
        (Some(text), Some(expected)) if text.contains(expected) => {}
        _ => panic!("{expected:?} was expected: {refusal:?}"),
    }
}

#[test]
fn what_is_small_starts() {
    check(&SMALL, None);
}

#[test]
fn memory_that_is_declared_is_refused_before_anything_runs() {
    let component = |memory_pages| HandMade { memory_pages, ..SMALL };
    check(&component(256), None);
    check(
        &component(257),
        Some("before the start: asked for 16842752 bytes of memory, its limit is 16777216"),
    );
    check(&component(65536), Some("before the start: asked for 4294967296 bytes"));
}

#[test]
fn all_memories_of_an_instance_count_together() {
    let component = |n_instances| HandMade {
        memory_pages: 100,
        n_instances,
        ..SMALL
    };
    check(&component(2), None);
    check(
        &component(3),
        Some("asked for 19660800 bytes of memory, its limit is 16777216"),
    );
}

#[test]
fn tables_are_limited_declared_or_grown() {
    let component = |table_elements, table_growth| HandMade {
        table_elements,
        start: Start::GrowTable(table_growth),
        ..SMALL
    };
    check(&component(100_000, 0), None);
    check(&component(1, 99_999), None);
    check(
        &component(100_001, 0),
        Some("asked for 100001 table elements, its limit is 100000"),
    );
    check(&component(1, 100_000), Some("asked for 100001 table elements"));
    check(&component(1, 0x7fff_ffff), Some("table elements, its limit is 100000"));
}

#[test]
fn the_number_of_instances_memories_and_tables_is_limited() {
    let component = |n_instances| HandMade { n_instances, ..SMALL };
    check(&component(4), None);
    check(
        &component(5),
        Some("resource limit exceeded: memory count too high at 5"),
    );
    let empty = |n_instances| HandMade {
        start: Start::Empty,
        n_instances,
        ..SMALL
    };
    check(&empty(60), None);
    check(
        &empty(100),
        Some("resource limit exceeded: instance count too high at 65"),
    );
}

#[test]
fn a_start_that_never_ends_is_stopped() {
    let component = HandMade {
        start: Start::Loop,
        ..SMALL
    };
    check(&component, Some("used up its 1s"));
}

#[test]
fn wear_is_counted_from_what_the_plugin_needs() {
    const MIB: usize = 1 << 20;
    let low_at = |needs: usize, limit: usize| {
        let mut cap = MemoryCap::new(limit);
        cap.memory_growing(0, needs, None).unwrap();
        cap.mark_start();
        assert!(!cap.is_low(), "what it needs is no leak");
        let mut used = needs;
        while !cap.is_low() {
            cap.memory_growing(used, used + MIB / 4, None).unwrap();
            used += MIB / 4;
        }
        used
    };
    assert_eq!(low_at(0, 16 * MIB), 12 * MIB + MIB / 4);
    assert_eq!(low_at(12 * MIB, 16 * MIB), 15 * MIB + MIB / 4);
}

#[test]
fn growth_that_failed_is_not_counted() {
    let mut cap = MemoryCap::new(1000);
    let failure = || wasmtime::Error::msg("no memory");
    cap.memory_growing(0, 600, None).unwrap();
    cap.memory_grow_failed(failure()).unwrap();
    assert!(cap.memory_growing(0, 900, None).is_ok());
    cap.table_growing(0, MAX_TABLE_ELEMENTS, None).unwrap();
    cap.table_grow_failed(failure()).unwrap();
    assert!(cap.table_growing(0, 1, None).is_ok());
}
