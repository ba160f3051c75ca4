// Package runtime gives generated code and the host memory that the garbage collector leaves alone.
package runtime

import (
	"runtime"
	"runtime/debug"
	"unsafe"
)

// Next to nothing is kept between calls. Collecting when there are 200 KiB to collect, and not 4 MiB, keeps instances small.
func init() {
	debug.SetGCPercent(5)
}

// What the host has put into this memory for the call that begins.
var received runtime.Pinner

// Allocate returns memory that stays where it is until the pinner lets it go.
func Allocate(pinner *runtime.Pinner, size, align uintptr) unsafe.Pointer {
	pointer := allocate(size, align)
	if size > 0 {
		pinner.Pin(pointer)
	}
	return pointer
}

// Unpin is called when the arguments are Go values: from here on the collector sees who uses them.
func Unpin() {
	received.Unpin()
}

func allocate(size, align uintptr) unsafe.Pointer {
	if size == 0 {
		// Not looked at, but it has to be aligned.
		return unsafe.Pointer(align)
	}
	// The collector does not look for pointers in it: what the host writes are numbers to Go.
	if align > 4 {
		return unsafe.Pointer(unsafe.SliceData(make([]uint64, (size+7)/8)))
	}
	if align > 1 {
		return unsafe.Pointer(unsafe.SliceData(make([]uint32, (size+3)/4)))
	}
	return unsafe.Pointer(unsafe.SliceData(make([]uint8, size)))
}

//go:wasmexport cabi_realloc
func reallocate(old unsafe.Pointer, oldSize, align, newSize uintptr) unsafe.Pointer {
	made := Allocate(&received, newSize, align)
	if oldSize > 0 {
		copy(unsafe.Slice((*uint8)(made), newSize), unsafe.Slice((*uint8)(old), oldSize))
	}
	return made
}
