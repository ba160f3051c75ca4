// Package rule says what is added to events. Plain Go, tested without a component.
package rule

import "slices"

// Rule is what Configure makes of the configuration.
type Rule struct {
	// Extension is the name of the extension.
	Extension string
	// Value is its value.
	Value string
}

// IsMissingAmong says whether the extension is none of these.
func (r Rule) IsMissingAmong(extensions []string) bool {
	return !slices.Contains(extensions, r.Extension)
}
