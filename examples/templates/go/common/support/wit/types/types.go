// Package types has the types of the contract language that Go lacks.
package types

// Unit is the value of a result that has none.
type Unit struct{}

// Tuple2 is a pair.
type Tuple2[T0, T1 any] struct {
	F0 T0
	F1 T1
}

// Tags of Option and Result.
const (
	OptionNone uint8 = 0
	OptionSome uint8 = 1
	ResultOk   uint8 = 0
	ResultErr  uint8 = 1
)

// Option is a value or none.
type Option[T any] struct {
	tag   uint8
	value T
}

// None is no value.
func None[T any]() Option[T] {
	return Option[T]{}
}

// Some is a value.
func Some[T any](value T) Option[T] {
	return Option[T]{OptionSome, value}
}

// Tag is OptionNone or OptionSome.
func (o Option[T]) Tag() uint8 {
	return o.tag
}

// IsSome says whether there is a value.
func (o Option[T]) IsSome() bool {
	return o.tag == OptionSome
}

// Some is the value. It panics where there is none.
func (o Option[T]) Some() T {
	if o.tag != OptionSome {
		panic("an option without a value was asked for it")
	}
	return o.value
}

// SomeOr is the value, or the one given where there is none.
func (o Option[T]) SomeOr(otherwise T) T {
	if o.tag != OptionSome {
		return otherwise
	}
	return o.value
}

// Result is a value or an error.
type Result[T, E any] struct {
	tag uint8
	ok  T
	err E
}

// Ok is a value.
func Ok[T, E any](value T) Result[T, E] {
	return Result[T, E]{tag: ResultOk, ok: value}
}

// Err is an error.
func Err[T, E any](err E) Result[T, E] {
	return Result[T, E]{tag: ResultErr, err: err}
}

// Tag is ResultOk or ResultErr.
func (r Result[T, E]) Tag() uint8 {
	return r.tag
}

// Ok is the value. It panics where there is an error.
func (r Result[T, E]) Ok() T {
	if r.tag != ResultOk {
		panic("a result that is an error was asked for its value")
	}
	return r.ok
}

// Err is the error. It panics where there is a value.
func (r Result[T, E]) Err() E {
	if r.tag != ResultErr {
		panic("a result that is a value was asked for its error")
	}
	return r.err
}
