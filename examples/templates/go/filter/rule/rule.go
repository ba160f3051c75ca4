// Package rule says which events pass. Plain Go, tested without a component.
package rule

import "slices"

// Rule is what Configure makes of the configuration.
type Rule struct {
	// Services are those whose events pass.
	Services []string
}

// IsWanted says whether events of this service pass.
func (r Rule) IsWanted(service string) bool {
	return slices.Contains(r.Services, service)
}
