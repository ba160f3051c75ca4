// Package labels decides by the labels of an event. Plain Go, tested without a component.
package labels

import "slices"

// Rule asks for a label.
type Rule struct {
	// Label is its name.
	Label string
	// Values are those that it may have; any when there are none.
	Values []string
}

// Missing returns what an event lacks, in words, and whether it lacks anything.
func (r Rule) Missing(labels map[string]string) (string, bool) {
	value, isThere := labels[r.Label]
	switch {
	case !isThere:
		return "no label " + r.Label, true
	case len(r.Values) > 0 && !slices.Contains(r.Values, value):
		return "another value of label " + r.Label, true
	default:
		return "", false
	}
}
