// The name is that of the generated code, which imports its packages by it.
module wit_component

go 1.25

require go.bytecodealliance.org/pkg v0.4.0

// The support module of the generator wants a patched Go. This small one does with the usual one.
replace go.bytecodealliance.org/pkg => ./support
