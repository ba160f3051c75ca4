package rule

import "testing"

func TestOnlyWhatIsMissingIsAdded(t *testing.T) {
	rule := Rule{Extension: "team", Value: "checkout"}
	if !rule.IsMissingAmong([]string{"teams"}) || rule.IsMissingAmong([]string{"tier", "team"}) {
		t.Error("names are compared as a whole")
	}
}
