//! Components of any size, for measuring how they are compiled.
//!
//! Called by tests. A component may hold modules that it never starts: one is put behind the last section of a real
//! component, which goes on as before. The compiler compiles it all the same.

/// Code of one function.
const FUNCTION_BYTES: usize = 4096;

/// The component with about `bytes` of code added, the same for the same arguments.
#[must_use]
pub fn padded_component(component: &[u8], bytes: usize) -> Vec<u8> {
    /// Section of a component: a core module.
    const CORE_MODULE: u8 = 1;
    let mut padded = component.to_vec();
    padded.extend(section(CORE_MODULE, &module(bytes.div_ceil(FUNCTION_BYTES))));
    padded
}

/// A core module of `n` functions from one number to another.
fn module(n: usize) -> Vec<u8> {
    const I32: u8 = 0x7f;
    let one_type = [1, 0x60, 1, I32, 1, I32];
    let mut types_of_functions = leb(n);
    types_of_functions.resize(types_of_functions.len() + n, 0);
    let mut code = leb(n);
    for number in 0..n {
        let body = body(number);
        code.extend(leb(body.len()));
        code.extend(body);
    }
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    for (id, content) in [(1, one_type.as_slice()), (3, &types_of_functions), (10, &code)] {
        module.extend(section(id, content));
    }
    module
}

/// Arithmetic with a branch now and then, as compilers make it.
fn body(number: usize) -> Vec<u8> {
    const GET_0: [u8; 2] = [0x20, 0];
    const SET_0: [u8; 2] = [0x21, 0];
    const CONST: u8 = 0x41;
    /// `add`, `sub`, `mul`, `and`, `or`, `xor`, `rotl`.
    const OPERATORS: [u8; 7] = [0x6a, 0x6b, 0x6c, 0x71, 0x72, 0x73, 0x77];
    const IF_EMPTY: [u8; 2] = [0x04, 0x40];
    const END: u8 = 0x0b;
    let mut body = vec![0]; // no locals besides the parameter
    let mut step = number;
    while body.len() < FUNCTION_BYTES {
        step += 1;
        body.extend(GET_0);
        body.extend(IF_EMPTY);
        for operator in OPERATORS {
            body.extend(GET_0);
            body.push(CONST);
            // Below 64, so that it is the same number with a sign.
            body.extend(leb(step % 64));
            body.push(operator);
            body.extend(SET_0);
        }
        body.push(END);
    }
    body.extend(GET_0);
    body.push(END);
    body
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    let mut section = vec![id];
    section.extend(leb(content.len()));
    section.extend(content);
    section
}

/// An unsigned number in LEB128.
fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or_default();
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}
